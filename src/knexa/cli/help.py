"""The page of ``knexa --help``, made from the config folders without heavy imports."""

from typing import Any

COMMANDS = {
    "fetch": "get models before a run needs them, and list those that are here",
    "report": "compare finished runs: tables, figures, a page",
    "score": "score a file of completions by executing them: pass@k",
    "export": "take an agent's adapter out of a run, for PEFT",
    "audit": "measure what packages give away: membership inference",
    "doctor": "show what protects this machine from generated programs",
    "serve": "serve the matchmaker to agents of other organisations",
    "join": "take part in such a federation with one's own agent",
    "certs": "make the certificates that such a federation needs",
}
"""Every command beside experiments, and its summary."""

_EXAMPLES = (
    ("knexa matchmaker=linucb seed=42", "one run; the same command again answers at once"),
    ("knexa -m matchmaker=linucb,random seed=1,2,3", "six runs, one after the other"),
    ("knexa -m 'seed=range(0,10)'", "ten seeds; a shell needs the quotes"),
    ("knexa experiment=paper --cfg job", "show what would run, and run nothing"),
    ("knexa debug=smoke", "the whole pipeline, small"),
)
_ROOT_MEANINGS = {
    "name": "first folder under outputs/",
    "seed": "every random draw derives from it",
    "rerun": "replace a finished run",
    "dry_run": "build everything, train nothing",
    "trusted_modules": "modules outside knexa whose classes may be named by _target_",
}


def help_page() -> str:
    """Return the page: usage, commands, root keys and defaults, groups and options, examples."""
    import yaml

    from knexa.config.folders import config_folder

    config = yaml.safe_load((config_folder() / "config.yaml").read_text(encoding="utf-8"))
    return "\n".join(
        [
            "knexa: learned matchmaking in peer-to-peer LLM federations",
            "",
            "usage: knexa [group=option ...] [key=value ...] [-m] [Hydra's options]",
            "       knexa COMMAND ...",
            "",
            "Commands (knexa COMMAND --help tells more; without one, knexa runs experiments):",
            *(f"  {name:<15} {summary}" for name, summary in COMMANDS.items()),
            "",
            "Keys:",
            *_root_lines(config),
            "",
            "Groups (the default is marked *; a group's keys are set as group.key=value):",
            *_group_lines(_defaults(config)),
            "",
            "Examples:",
            *(f"  {command:<46} {meaning}" for command, meaning in _EXAMPLES),
            "",
            "Results are under outputs/<name>/ of this folder. --hydra-help: Hydra's options.",
        ]
    )


def _root_lines(config: dict[str, Any]) -> list[str]:
    lines = []
    for key, meaning in _ROOT_MEANINGS.items():
        value = config.get(key)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        lines.append(f"  {key + '=' + text:<22} {meaning}")
    return lines


def _group_lines(defaults: dict[str, str | None]) -> list[str]:
    from knexa.config.folders import config_folder, options_of

    lines = []
    folders = sorted(path.name for path in config_folder().iterdir() if path.is_dir())
    for group in dict.fromkeys([*defaults, *folders]):
        if group.startswith("hydra/"):
            continue  # of no interest to newcomers
        options = options_of(group)
        if options:
            marked = [f"*{name}" if name == defaults.get(group) else name for name in options]
            lines.append(f"  {group:<15} {' '.join(marked)}")
    return lines


def _defaults(config: dict[str, Any]) -> dict[str, str | None]:
    found = {}
    for entry in config["defaults"]:
        if isinstance(entry, dict):
            ((group, option),) = entry.items()
            found[group.split()[-1]] = option
    return found
