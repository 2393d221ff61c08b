"""Composes every job of a command line before anything runs; each mistake is one line.

Hydra itself reports a wrong option in a dozen lines, after it has made directories, and accepts
``+unknown=1``. So each point of a multirun is composed here first, with Hydra's own parser and
config loader; what cannot be composed becomes a ``UserError``.

A search (any sweeper but Hydra's basic one) chooses its points while it runs. For it every value of
every swept key is composed once, not their product; each point is checked when its job begins.
"""

import argparse
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from knexa.config import folders
from knexa.config import sweeps as multirun
from knexa.errors import UserError, did_you_mean, first_line, one_line, show, unknown_key

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_PROBLEMS_PER_AGENT = 58
_DEFAULT_PROBLEMS = 6 * _PROBLEMS_PER_AGENT
_SEED = re.compile(r"seed=(\d+)")
_TOO_EARLY = re.compile(
    r"In '(?P<file>[^']+)': Could not override '(?P<group>[^'.]+)'\. Did you mean"
)
_BEFORE_MATCHMAKER = ("experiment", "hparams_search", "debug")
"""Groups whose options set keys of other groups, and that come before the matchmaker's."""

_PLUGINS = {
    "hydra/launcher=submitit_local": "cluster",
    "hydra/launcher=submitit_slurm": "cluster",
    "hydra/sweeper=optuna": "search",
}
"""Options that come with a plugin, and the extra of knexa that installs it."""


def _train_problems(roster_size: int | None) -> int:
    """Return the training problems that a roster is given unless the user sets their number."""
    if type(roster_size) is not int:  # a wrong one is refused where the roster is checked
        return _DEFAULT_PROBLEMS
    return max(1, roster_size) * _PROBLEMS_PER_AGENT


# ``${train_problems:N}``. Whoever composes or resolves a config imports this module.
OmegaConf.register_new_resolver("train_problems", _train_problems, replace=True)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One point of a command line: its overrides and what they compose to.

    Attributes:
        config: The resolved config as plain values, without the ``hydra`` node.
        choices: The chosen option of every config group; None for a group left empty.
        overrides: The task overrides of this point, as typed.
    """

    config: dict[str, Any]
    choices: dict[str, str | None]
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All jobs of a command line; of a search, one job for each value of each swept key."""

    jobs: tuple[Job, ...]
    is_multirun: bool
    is_search: bool = False


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line as Hydra does.

    Raises:
        UserError: For an option that Hydra does not have.
    """
    parser = get_args_parser()

    def refuse(message: str) -> None:
        option, _, rest = message.partition(": ")
        if option == "unrecognized arguments" and not rest.startswith("-"):
            raise UserError(
                f"options such as -m go before all settings or after them, not between: {rest} "
                "came after one"
            )
        raise UserError(f"{message}; settings are key=value, --help lists them")

    parser.error = refuse  # type: ignore[method-assign, assignment]
    parsed = parser.parse_args(list(arguments))
    asks = any(text.startswith("query=") for text in parsed.overrides)
    if parsed.shell_completion and asks and "COMP_LINE" not in os.environ:
        raise UserError(
            "-sc query=... is what a shell asks when Tab is pressed; to have that, type "
            'eval "$(knexa -sc install=bash)"'
        )
    return parsed


def register_sweeps() -> None:
    """Make every file of ``sweeps/``, except W&B's, an option of the group ``sweep``."""
    store = ConfigStore.instance()
    for name in folders.options_of("sweep"):
        node = OmegaConf.load(folders.sweep_folder() / f"{name}.yaml")
        store.store(group="sweep", name=name, node=node, package="_global_")


def job_of(config: DictConfig, hydra_config: Any) -> Job:
    """Return the job that Hydra composed, resolved.

    Raises:
        UserError: For a missing value or an interpolation that cannot be resolved.
    """
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} has no value: set {error.full_key}=...") from error
    except (InterpolationResolutionError, OmegaConfBaseException) as error:
        raise _explain_unresolved(error, hydra_config.runtime.choices) from error
    assert isinstance(plain, dict)
    choices = OmegaConf.to_container(hydra_config.runtime.choices)
    overrides = OmegaConf.to_container(hydra_config.overrides.task)
    assert isinstance(choices, dict)
    assert isinstance(overrides, list)
    return Job(
        config={str(key): value for key, value in plain.items()},
        choices={str(group): option for group, option in choices.items()},
        overrides=tuple(map(str, overrides)),
    )


def _explain_unresolved(
    error: OmegaConfBaseException, choices: Mapping[str, str | None]
) -> UserError:
    """Name the options that a failing interpolation involves: they may not fit together."""
    text = first_line(error.msg or error)
    if error.full_key:
        text = f"{error.full_key}: {text}"
    groups = dict.fromkeys(re.findall(r"\b([a-z_]+)\.", text))
    chosen = [f"{group}={show(choices[group])}" for group in groups if group in choices]
    if not chosen:
        return UserError(text)
    lacking = [group for group in groups if group in choices and choices[group] is None]
    if lacking and choices.get("federation") is not None:
        return UserError(
            f"{chosen[0]} needs a {lacking[0]}, which federation={choices['federation']} does not "
            "have: leave it out, or what brings it"
        )
    chosen.append(f"federation={choices.get('federation')}")
    return UserError(f"{text}; chosen are {', '.join(dict.fromkeys(chosen))}")


def compose(arguments: argparse.Namespace) -> Plan:
    """Compose every job of a command line.

    Raises:
        UserError: One line for what cannot be parsed, composed or resolved.
    """
    with _loader(arguments) as loader:
        composer = _Composer(loader, arguments.config_name or CONFIG_NAME, arguments.overrides)
        varies = any(override.is_sweep_override() for override in composer.parsed)
        if not (arguments.multirun or varies):  # the usual case: one load suffices
            config = composer.load(arguments.overrides, RunMode.RUN)
            multirun.check_hydra(config.hydra, is_multirun=config.hydra.mode == RunMode.MULTIRUN)
            if config.hydra.mode != RunMode.MULTIRUN:
                return Plan(jobs=(composer.job_of(config),), is_multirun=False)
        master = composer.load(arguments.overrides, RunMode.MULTIRUN)
        is_multirun = arguments.multirun or master.hydra.mode == RunMode.MULTIRUN
        if not is_multirun:
            return Plan(jobs=(composer.job(arguments.overrides),), is_multirun=False)
        multirun.check_hydra(master.hydra, is_multirun=True)
        hydra_overrides = multirun.texts(master.hydra.overrides.hydra)
        points = multirun.points(master, composer.parse)
        jobs = composer.jobs([[*hydra_overrides, *point] for point in points])
        is_search = multirun.is_search(master.hydra)
        if is_search and any(job.config.get("dry_run") is True for job in jobs):
            raise UserError("dry_run=true: a search goes by rewards, and a dry run earns none")
        return Plan(jobs=tuple(jobs), is_multirun=True, is_search=is_search)


@contextlib.contextmanager
def _loader(arguments: argparse.Namespace) -> Iterator[Any]:
    from hydra._internal.hydra import Hydra

    version.setbase(VERSION_BASE)
    search_path = create_config_search_path(arguments.config_path or str(folders.config_folder()))
    if arguments.config_dir is not None:
        folder = Path(arguments.config_dir).absolute()
        if not folder.is_dir():
            raise UserError(f"--config-dir {arguments.config_dir}: no such folder")
        search_path.prepend(
            provider="command-line",
            path=f"file://{folder}",
            anchor=SearchPathQuery(provider="schema"),
        )
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name="knexa", config_search_path=search_path)
    before = HydraConfig.instance().cfg
    try:
        yield hydra.config_loader
    finally:
        HydraConfig.instance().cfg = before
        GlobalHydra.instance().clear()


class _Composer:
    """Loads configs; errors are one line."""

    def __init__(self, loader: Any, config_name: str, overrides: Sequence[str]) -> None:
        self._loader = loader
        self._config_name = config_name
        self.parsed = self.parse(overrides)

    def parse(self, overrides: Sequence[str]) -> list[Override]:
        parsed = []
        for text in overrides:
            try:
                (override,) = OverridesParser.create(self._loader).parse_overrides([text])
                if not override.key_or_group:
                    raise OverrideParseException(text, "no key before the equals sign")
            except HydraException as error:
                reason = first_line(getattr(error, "message", error))
                raise UserError(
                    f"cannot read the override {one_line(text)!r} ({reason}); write key=value, and "
                    "quote a value that has special characters: 'key=\"value\"'"
                ) from error
            parsed.append(override)
        return parsed

    def load(self, overrides: Sequence[str], mode: RunMode) -> DictConfig:
        self._check_options(overrides)
        try:
            loaded: DictConfig = self._loader.load_configuration(
                config_name=self._config_name, overrides=list(overrides), run_mode=mode
            )
        # Hydra raises the last two for an option that is no name, e.g. matchmaker=[[1]].
        except (HydraException, OmegaConfBaseException, ValueError, TypeError) as error:
            raise self._explain(error, overrides) from error
        except yaml.YAMLError as error:
            raise UserError(f"not YAML: {one_line(error)}") from error
        self._check_order(loaded, overrides)
        return loaded

    def _check_options(self, overrides: Sequence[str]) -> None:
        """Refuse several options of a group at once, of which Hydra would drop all but the last."""
        for override in self.parse([text for text in overrides if "=[" in text]):
            key, value = override.key_or_group, override.value()
            if not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
                continue
            if self._loader.repository.group_exists(key):
                raise UserError(
                    f"{override.input_line}: a run has one {key}; to try several: "
                    f"-m {key}={','.join(map(show, value))}"
                )

    def _check_order(self, loaded: DictConfig, overrides: Sequence[str]) -> None:
        """Refuse a file's setting of the matchmaker that the matchmaker's own file overrides."""
        composed = dict(_matchmaker_keys(OmegaConf.to_container(loaded)))
        typed = {text.lstrip("+").partition("=")[0] for text in overrides}
        for group in _BEFORE_MATCHMAKER:
            option = loaded.hydra.runtime.choices.get(group)
            if option is None:
                continue
            file = self._loader.repository.load_config(f"{group}/{option}")
            if file.header.get("package") != "_global_":
                continue
            for key, value in _matchmaker_keys(OmegaConf.to_container(file.config)):
                if key not in typed and composed.get(key) != value:
                    setting = f"{key}={show(value)}"
                    raise UserError(
                        f"{group}={option} sets {setting}, without effect: the matchmaker's own "
                        f"file comes after it; write {setting} on the command line, or in a sweep"
                    )

    def job(self, overrides: Sequence[str]) -> Job:
        return self.job_of(self.load(overrides, RunMode.RUN))

    def job_of(self, config: DictConfig) -> Job:
        return job_of(*self._split(config))

    def jobs(self, points: Sequence[Sequence[str]]) -> list[Job]:
        """Compose the points; points that differ only in their seed are composed once."""
        composed: dict[tuple[str, ...], tuple[DictConfig, Any]] = {}
        jobs = []
        for point in points:
            seeds = [match[1] for text in point if (match := _SEED.fullmatch(text))]
            if len(seeds) != 1:
                jobs.append(self.job(point))
                continue
            rest = tuple(text for text in point if not _SEED.fullmatch(text))
            if rest not in composed:
                composed[rest] = self._split(self.load(point, RunMode.RUN))
            config, hydra_config = composed[rest]
            config.seed = int(seeds[0])
            task = [text for text in hydra_config.overrides.task if not _SEED.fullmatch(text)]
            job = job_of(config, hydra_config)
            jobs.append(replace(job, overrides=(*task, f"seed={seeds[0]}")))
        return jobs

    @staticmethod
    def _split(config: DictConfig) -> tuple[DictConfig, Any]:
        """Return (the job's config, Hydra's config) of one loaded config."""
        HydraConfig.instance().set_config(config)  # ${hydra:...} may be interpolated
        hydra_config = config.hydra
        OmegaConf.set_struct(config, False)
        del config["hydra"]
        return config, hydra_config

    def _explain(self, error: Exception, overrides: Sequence[str]) -> UserError:
        if isinstance(error, MissingConfigException):
            return self._explain_missing(error)
        if (explained := self._explain_order(error)) is not None:
            return explained
        parsed = self.parse(overrides)
        for override in parsed:
            key = override.key_or_group
            if not _may_be_option(override) and self._loader.repository.group_exists(key):
                options = self._loader.get_group_options(key)
                return self._no_such_option(key, show(override.value()), options)
            if (override.is_add() or override.is_force_add()) and "Multiple values" in str(error):
                return UserError(
                    f"{override.input_line}: {key} is chosen already; write "
                    f"{str(override.input_line).lstrip('+')}"
                )
            if override.is_sweep_override() and "multirun" in str(error):
                is_group = self._loader.repository.group_exists(key)
                brackets = "" if is_group else f", or brackets for one list: {key}=[...]"
                return UserError(
                    f"{override.input_line}: several values need -m (multirun){brackets}"
                )
        config = self._without_values(parsed)
        if config is not None:
            known = list(multirun.dotted(OmegaConf.to_container(config), ""))
            known = list(dict.fromkeys([*known, *config.hydra.runtime.choices]))
            groups = [key for key in known if self._loader.repository.group_exists(key)]
            for override in parsed:
                key = override.key_or_group
                if key in known or override.is_add() or override.is_force_add():
                    continue
                parent = key.rpartition(".")[0]
                while parent and parent not in known and parent.partition(".")[0] in known:
                    key, parent = parent, parent.rpartition(".")[0]  # its first wrong part
                if parent in groups and config.hydra.runtime.choices.get(parent, "") is None:
                    federation = config.hydra.runtime.choices.get("federation")
                    return UserError(
                        f"unknown key {key}: no {parent} is chosen (federation={federation})"
                    )
                siblings = [name for name in known if name.rpartition(".")[0] == parent]
                return unknown_key(key, siblings or groups)
        text = str(error) or type(error).__name__
        if isinstance(error.__cause__, OmegaConfBaseException):
            text = f"{text}: {first_line(error.__cause__)}"
        return UserError(one_line(text))

    def _explain_order(self, error: Exception) -> UserError | None:
        """Explain that an option's file cannot choose from a group that is composed after it."""
        found = _TOO_EARLY.search(one_line(error))
        if found is None:
            return None
        group = found["group"]
        return UserError(
            f"{found['file']} cannot choose {group}: that group comes after it, to choose others "
            f"itself; name it on the command line, {group}=..."
        )

    def _explain_missing(self, error: MissingConfigException) -> UserError:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        if (extra := _PLUGINS.get(f"{group}={option}")) is not None:
            return UserError(f"{group}={option} needs a plugin: pip install 'knexa[{extra}]'")
        if not group or error.options is None:
            return UserError(first_line(error))
        return self._no_such_option(group, option, error.options)

    def _no_such_option(self, group: str, option: str, options: Sequence[str]) -> UserError:
        return UserError(
            f"{group}={option or repr('')}: no such option{did_you_mean(option, options)}; "
            f"{group} is one of {', '.join(sorted(options)) or 'nothing (no file is there)'}"
        )

    def _without_values(self, parsed: Sequence[Override]) -> DictConfig | None:
        """Return the config of the chosen options alone, which has every key that may be set.

        None if these cannot be composed.
        """
        lines = [
            str(override.input_line)
            for override in parsed
            if self._loader.repository.group_exists(override.key_or_group)
            and not override.is_delete()
        ]
        try:
            loaded: DictConfig = self._loader.load_configuration(
                config_name=self._config_name, overrides=lines, run_mode=RunMode.MULTIRUN
            )
        except (HydraException, OmegaConfBaseException, ValueError, TypeError):
            return None
        return loaded


def _may_be_option(override: Override) -> bool:
    value = override.value()
    if isinstance(value, list):
        return all(isinstance(entry, str) for entry in value)
    return isinstance(value, str | dict) or override.is_delete() or override.is_sweep_override()


def _matchmaker_keys(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the matchmaker's dotted keys in a config, and their values."""
    node = content.get("matchmaker")
    if isinstance(node, dict):
        yield from ((f"matchmaker.{key}", value) for key, value in node.items())
    elif node is not None:
        yield "matchmaker", node
