"""Checks a multirun's launcher and sweeper, and lists the points that it will try."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

from knexa.errors import UserError, show

Parse = Callable[[Sequence[str]], list[Override]]
"""Reads overrides as typed."""

_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_SLURM_LAUNCHER = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
_GRIDS = ("hparams_search", "sweep")
"""Groups whose options say what a multirun varies."""


def check_hydra(hydra: DictConfig, *, is_multirun: bool) -> None:
    """Refuse a launcher or sweeper on which Hydra would fail after it has made directories."""
    for name in ("launcher", "sweeper"):
        chosen = hydra[name]
        if not isinstance(chosen, DictConfig) or "_target_" not in chosen:
            raise UserError(
                f"hydra.{name}={show(chosen)}: a {name} is an option of a group, set with a slash: "
                f"hydra/{name}={show(chosen)}"
            )
    folder = OmegaConf.to_container(hydra.run)
    if folder != {"dir": "."}:
        raise UserError(
            "hydra.run.dir: a run names its own folder, outputs/NAME/...; set name=..., and cd to "
            "where outputs/ shall be"
        )
    if hydra.job.chdir:
        raise UserError(
            "hydra.job.chdir=true: relative paths of the command line would mean others; leave it"
        )
    batch = hydra.sweeper.get("max_batch_size")
    if batch is not None and batch < 1:
        raise UserError(f"hydra.sweeper.max_batch_size={batch}: must be an integer >= 1 or null")
    for key in ("n_trials", "n_jobs"):
        number = hydra.sweeper.get(key, 1)
        if type(number) is not int or number < 1:
            raise UserError(f"hydra.sweeper.{key}={show(number)}: must be an integer >= 1")
    if hydra.launcher.get("n_jobs") == 0:
        raise UserError("hydra.launcher.n_jobs=0: must be an integer >= 1, or -1 for every core")
    if is_multirun and hydra.launcher._target_ == _SLURM_LAUNCHER and not shutil.which("srun"):
        raise UserError(
            f"hydra/launcher={hydra.runtime.choices['hydra/launcher']}: this machine has no srun; "
            "type the command where SLURM is, or choose hydra/launcher=submitit_local"
        )


def is_search(hydra: DictConfig) -> bool:
    """Return whether the sweeper chooses its points while it runs."""
    return bool(hydra.sweeper._target_ != _BASIC_SWEEPER)


def points(master: DictConfig, parse: Parse) -> list[list[str]]:
    """Return the task overrides of every point that the sweeper will try, or may in a search."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    params = master.hydra.sweeper.get("params") or {}
    lines = [f"{key}={value}" for key, value in params.items()]
    overrides = parse([*lines, *texts(master.hydra.overrides.task)])
    swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
    _check_params(master, list(map(str, params)), varied=[*params, *swept])
    if not is_search(master.hydra):
        for override in overrides:
            _check_sweep(override)
        batches = BasicSweeper.split_arguments(overrides, None)
        return list(itertools.chain.from_iterable(batches))
    fixed, varied = [], []
    for override in overrides:
        if override.is_sweep_override():
            if override.key_or_group == "seed":
                raise UserError(
                    f"{override.input_line}: a search would choose the luckiest one; name one "
                    "seed, and try what it finds on others: -m seed=..."
                )
            varied.append(_choices(override))
        else:
            fixed.append(str(override.input_line))
    first = [choices[0] for choices in varied]
    found = [fixed + first]
    for index, choices in enumerate(varied):
        found += [fixed + first[:index] + [choice] + first[index + 1 :] for choice in choices[1:]]
    return found


def _check_params(master: DictConfig, params: Sequence[str], *, varied: Sequence[str]) -> None:
    """Refuse a search or sweep file that varies a key which a chosen option does not have."""
    choices = master.hydra.runtime.choices
    known = set(dotted(OmegaConf.to_container(master)))
    files = [f"{group}={choices[group]}" for group in _GRIDS if choices.get(group) is not None]
    for key in params:
        group = key.partition(".")[0]
        if not files or group == key or group in varied or choices.get(group) is None:
            continue
        if key not in known:
            raise UserError(
                f"{' '.join(files)} varies {key}, which {group}={choices[group]} does not have: "
                f"leave {group}={choices[group]} out, or choose one that has it"
            )


def texts(overrides: Any) -> list[str]:
    """Return overrides as typed, without resolving their interpolations."""
    typed = OmegaConf.to_container(overrides)
    assert isinstance(typed, list)
    return [str(text) for text in typed]


def _check_sweep(override: Override) -> None:
    """Refuse an override that Hydra's basic sweeper cannot enumerate."""
    if not override.is_sweep_override():
        return
    if override.key_or_group == "sweep":
        raise UserError(f"{override.input_line}: one sweep a command; type a command for each")
    if not override.is_discrete_sweep():
        raise UserError(
            f"{override.input_line}: only a search can try an interval; name the values instead: "
            f"{override.key_or_group}=1,2"
        )
    _values(override)


def _values(override: Override) -> list[str]:
    """Return the values of a discrete sweep, at least one."""
    values = list(override.sweep_string_iterator())
    if not values:
        raise UserError(f"{override.input_line}: there is no such value to try")
    return values


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in _values(override)]
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    return [f"{key}={interval.start}", f"{key}={interval.end}"]


def dotted(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every node below one."""
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}{name}"
        yield from dotted(value, f"{prefix}{name}.")
