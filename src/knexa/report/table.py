"""Finished runs as a table: one row a method, means over seeds with bootstrap intervals.

Everything is read from the run directories; nothing is measured here. A method is
``<matchmaker>/<exchange>``; runs of one method may differ in nothing but their seed.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from knexa.errors import UserError
from knexa.seeding import derive_rng
from knexa.statistics import Interval, bootstrap_mean, paired_difference


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: what it was and what came out."""

    path: Path
    method: str
    seed: int
    setting: str
    summary: dict[str, Any]


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Return the finished runs at or below the folders, by method and seed.

    Raises:
        UserError: A folder does not exist, or none holds a finished run.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name run directories, or folders of them")
        for marker in sorted(folder.rglob("DONE")):
            found[marker.parent.resolve()] = _read(marker.parent)
    if not found:
        raise UserError("no finished run there: a run that ended well has a file DONE")
    return sorted(found.values(), key=lambda run: (run.method, run.seed))


def _read(path: Path) -> Run:
    config = yaml.safe_load((path / "config.yaml").read_text())
    summary = json.loads((path / "summary.json").read_text())
    matchmaker = summary["matchmaker"]
    exchanges = matchmaker != "local_only"
    method = f"{matchmaker}/{summary['exchange']}" if exchanges else matchmaker
    rest = {k: v for k, v in config.items() if k not in ("seed", "matchmaker")}
    if not exchanges:
        rest.pop("exchange", None)
    return Run(path, method, summary["seed"], json.dumps(rest, sort_keys=True), summary)


def method_table(runs: Sequence[Run], against: str | None = None) -> str:
    """Return a Markdown table; differences are paired over the seeds that both methods have.

    Raises:
        UserError: Runs of one method differ in more than the seed, or ``against`` is not there.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.method].append(run)
    for method, members in groups.items():
        _check_alike(method, members)
    if against is not None and against not in groups:
        raise UserError(f"--against {against}: the methods are {', '.join(groups)}")
    ks = [key for key in runs[0].summary if key.startswith("pass@")]
    ks.sort(key=lambda key: int(key.removeprefix("pass@")))
    head = ["method", "seeds", *(f"{key} %" for key in ks), "CodeBLEU (fixed)", "kB", "steps"]
    if against is not None:
        head.insert(3, f"pass@1 against {against}")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for method, members in groups.items():
        cells = [method, str(len(members))]
        cells += [_cell([run.summary[key]["mean"] for run in members], 100) for key in ks]
        cells.append(_cell([run.summary["codebleu_fixed"]["mean"] for run in members]))
        cells += [
            f"{np.mean([run.summary[key] for run in members]):,.0f}"
            for key in ("kilobytes", "steps")
        ]
        if against is not None:
            cells.insert(3, _difference(members, groups[against]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _check_alike(method: str, runs: Sequence[Run]) -> None:
    seeds = [run.seed for run in runs]
    if len({run.setting for run in runs}) > 1 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"the runs of {method} differ in more than their seed: name one experiment's runs only"
        )


def _cell(values: Sequence[float], scale: float = 1) -> str:
    rng = derive_rng(0, "report")
    return _show(bootstrap_mean(np.multiply(values, scale), rng=rng), 1 if scale > 1 else 3)


def _show(interval: Interval, digits: int, sign: str = "") -> str:
    mean, low, high = (
        f"{value:{sign}.{digits}f}" for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]"


def _difference(runs: Sequence[Run], reference: Sequence[Run]) -> str:
    if runs is reference:
        return "0"
    scores, others = (
        {run.seed: 100 * run.summary["pass@1"]["mean"] for run in group}
        for group in (runs, reference)
    )
    seeds = sorted(scores.keys() & others.keys())
    if not seeds:
        return "no common seed"
    interval = paired_difference(
        [scores[seed] for seed in seeds],
        [others[seed] for seed in seeds],
        derive_rng(0, "report"),
    )
    return _show(interval, 1, "+")
