"""Finished runs, read from their directories and reduced to what a report needs.

Only files of the run directory are read; nothing is measured here. What a run has not measured is
absent (NaN in arrays, a missing key in ``values``). Axes: R rounds, A agents, K pairs.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knexa.errors import UserError, one_line
from knexa.tracking.metrics import PROBE_ARMS, agent_names
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, Summary
from knexa.tracking.run_directory import RunDirectory

Array = NDArray[np.float64]
NO_EXCHANGE = "local_only"
ENVIRONMENT = "environment.json"  # what every run writes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Greedy Pass@1 of every agent at the rounds where it was measured.

    Attributes:
        rounds_R: Round numbers, ascending.
        pass_RA: Shares in [0, 1]; NaN where an agent was not measured.
        steps_R: Optimizer steps of all agents, and of servers, until the end of each round; None if
            not recorded.
    """

    rounds_R: NDArray[np.int64]
    pass_RA: Array
    steps_R: Array | None

    @property
    def means(self) -> Array:
        """Mean over agents, means_R."""
        return np.asarray(np.nanmean(self.pass_RA, axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Totals of raw reward in the probed rounds; NaN where a plan was not a pairing."""

    rounds_R: NDArray[np.int64]
    best_R: Array
    chosen_R: Array
    random_R: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run: what it was and what came out.

    Attributes:
        exchange: The protocol's name; None where nobody exchanges.
        config_hash: The run's identity.
        recipe: The version of what the code computed.
        config: Dotted keys to values; lists are values.
        needs: What the matchmaker sees beyond profiles and rewards.
        values: Numbers of the summary and the curve, e.g. ``pass@1``, ``greedy_peak``, ``steps``.
        names: Agents by index.
        pairs_K3: (round, teacher, student) of every exchange of one teacher and one student.
        data_shares: Per agent, the share of each category in its data.
    """

    path: Path
    matchmaker: str
    exchange: str | None
    seed: int
    config_hash: str
    recipe: int
    config: Mapping[str, Any]
    needs: tuple[str, ...]
    values: Mapping[str, float]
    names: tuple[str, ...]
    curve: Curve | None
    probes: Probes | None
    pairs_K3: NDArray[np.int64]
    data_shares: Array

    @property
    def method(self) -> str:
        """``matchmaker/exchange``, or the matchmaker alone where nobody exchanges."""
        return f"{self.matchmaker}/{self.exchange}" if self.exchange else self.matchmaker


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Return the finished runs at or below the folders, by method and seed.

    Raises:
        UserError: A folder does not exist, none holds a finished run of a recipe that can be read,
            or a file is not what its run wrote.
    """
    found: dict[Path, None] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is no folder: name run directories, or folders of them")
        found |= dict.fromkeys(_finished(folder))
    if not found:
        raise UserError("no finished run there: a run that ended well has the file DONE")
    current = [path for path in found if not _is_outdated(path)]
    runs = [read_run(path) for path in current or found]  # if all are outdated, the first says why
    return sorted(runs, key=lambda run: (run.method, run.seed, run.path))


def unfinished_runs(folders: Iterable[Path]) -> list[Path]:
    """Return the runs at or below the folders that began and did not end well."""
    begun = {path.parent.resolve() for folder in folders for path in folder.rglob(ENVIRONMENT)}
    return sorted(path for path in begun if not RunDirectory(path).is_finished())


def outdated_runs(folders: Iterable[Path]) -> dict[Path, int | str]:
    """Return the finished runs at or below the folders that only older versions read: recipes."""
    found = (path for folder in folders for path in _finished(folder))
    return {path: RunDirectory(path).outdated() or "" for path in found if _is_outdated(path)}


def _finished(folder: Path) -> list[Path]:
    """Return the finished runs at or below a folder; a study may be called DONE, too."""
    return [
        marker.parent.resolve()
        for marker in sorted(folder.rglob("DONE"))
        if not marker.is_dir() or (marker.parent / ENVIRONMENT).exists()
    ]


def _is_outdated(path: Path) -> bool:
    run = RunDirectory(path)
    return run.config.is_file() and run.outdated() is not None


def read_run(path: Path) -> Run:
    """Return the run of one directory.

    Raises:
        UserError: A file of the contract is missing, or not what the run wrote.
    """
    run_dir = RunDirectory(path)
    run_dir.verify()
    try:
        config = {k: v for k, v in run_dir.read_config().items() if k != "recipe"}
        summary = run_dir.read_summary()
        rounds = run_dir.read_rows(RoundRow)
        exchanges = run_dir.read_rows(ExchangeRow)
        curve = _curve(rounds, exchanges)
        return Run(
            path=path,
            matchmaker=summary.matchmaker,
            exchange=None if summary.matchmaker == NO_EXCHANGE else summary.exchange,
            seed=summary.seed,
            config_hash=summary.config_hash,
            recipe=summary.recipe,
            config=dict(_flat(config)),
            needs=summary.needs,
            values=_values(summary, curve),
            names=tuple(agent_names(rounds)),
            curve=curve,
            probes=_probes(run_dir.read_rows(RegretRow)),
            pairs_K3=_pairs(exchanges),
            data_shares=np.asarray(summary.scores.data_shares, dtype=np.float64),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error) or type(error).__name__
        raise UserError(f"{path} is damaged ({reason}): run it again with rerun=true") from error


def num_agents(run: Run) -> int | None:
    """Return the size of the run's federation, None if it is unknown."""
    configured = run.config.get("federation.num_agents") or len(run.names)
    paired = int(run.pairs_K3[:, 1:].max()) + 1 if len(run.pairs_K3) else 0
    return max(int(configured), paired) or None


def _flat(node: Any, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _values(summary: Summary, curve: Curve | None) -> dict[str, float]:
    regret, costs, byzantine = summary.regret, summary.costs, summary.byzantine
    known: dict[str, float | None] = {
        name: score.mean for name, score in summary.scores.named().items()
    }
    known |= {
        "cumulative_regret": regret.cumulative_regret,
        "random_regret": regret.random_regret,
        "tokens": costs.tokens,
        "tokens_trained": costs.tokens_trained,
        "tokens_generated": costs.tokens_generated,
        "steps": costs.steps,
        "kilobytes": costs.kilobytes,
        "exchanges": costs.exchanges,
    }
    if byzantine is not None:
        known["teaching_share"] = byzantine.teaching_share
        known["shunned_after"] = byzantine.shunned_after
        known["rarely_asked_from"] = byzantine.rarely_asked_from
    if summary.scores.verified_answers is not None:
        known["wrong_share"] = summary.scores.verified_answers.wrong_share
    if curve is not None:
        mean_R = curve.means
        known["greedy_last"], known["greedy_peak"] = float(mean_R[-1]), float(mean_R.max())
        known["peak_round"] = float(curve.rounds_R[int(mean_R.argmax())])
    return {name: float(value) for name, value in known.items() if value is not None}


def _curve(rows: Sequence[RoundRow], exchanges: Sequence[ExchangeRow]) -> Curve | None:
    scored = [
        (r.round, r.agent, r.pass_at_1_greedy) for r in rows if r.pass_at_1_greedy is not None
    ]
    if not scored:
        return None
    measured = sorted({number for number, _, _ in scored})
    place = {number: index for index, number in enumerate(measured)}
    pass_RA = np.full((len(measured), 1 + max(row.agent for row in rows)), np.nan)
    for number, agent, score in scored:
        pass_RA[place[number], agent] = score
    steps = [(row.round, row.optimizer_steps) for row in rows]
    steps += [(row.round, row.server.optimizer_steps) for row in exchanges if row.server]
    steps_R = np.array(
        [sum(count for number, count in steps if number <= until) for until in measured]
    )
    return Curve(
        rounds_R=np.array(measured, dtype=np.int64),
        pass_RA=pass_RA,
        steps_R=steps_R.astype(np.float64) if steps_R[-1] > 0 else None,
    )


def _probes(rows: Sequence[RegretRow]) -> Probes | None:
    if not rows:
        return None
    totals = {
        arm: np.array([total_of(row) for row in rows], dtype=np.float64)  # None is NaN
        for arm, total_of in PROBE_ARMS.items()
    }
    return Probes(
        rounds_R=np.array([row.round for row in rows], dtype=np.int64),
        best_R=totals["best"],
        chosen_R=totals["chosen"],
        random_R=totals["random"],
    )


def _pairs(rows: Sequence[ExchangeRow]) -> NDArray[np.int64]:
    found = [
        (row.round, row.teachers[0], row.students[0])
        for row in rows
        if len(row.teachers) == 1 and len(row.students) == 1
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def same_result(runs: Sequence[Run]) -> bool:
    """Return whether runs of one setting and seed came to the same numbers."""
    return len({json.dumps(dict(run.values), sort_keys=True) for run in runs}) == 1
