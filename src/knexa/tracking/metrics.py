"""Derives run metrics from the rows of the JSONL files; nothing else does.

Names: a bare name (``pass@1_greedy``) is over all agents, ``agents/<index>/<name>`` is one agent's,
``exchange/...`` is over the round's directives. Losses and scores are means, counts are sums,
``cumulative_*`` and ``*_total`` run from the first round on. What was not measured is absent.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from knexa.tracking.run_directory import RowsName, RunDirectory

Row = Mapping[str, Any]

MEANS = (
    "pass@1_greedy",
    "codebleu_compat",
    "codebleu_fixed",
    "train_loss",
    "validation_loss",
    "learn_loss",
    "sier",
)
SUMS = ("tokens_trained", "tokens_generated", "optimizer_steps")
PROBE_ARMS = ("best", "chosen", "random")
ROUND_FILES: tuple[RowsName, ...] = ("rounds", "exchanges", "regret")
MAX_NAMED_AGENTS = 64  # a federation of thousands reports means, not thousands of columns


class RunMetrics:
    """Derives each round's metrics and keeps what the running totals need, nothing more."""

    def __init__(self) -> None:
        self._kilobytes = 0.0
        self._probes: list[Row] = []

    def end_round(
        self, round: int, rounds: Sequence[Row], exchanges: Sequence[Row], regret: Sequence[Row]
    ) -> dict[str, float]:
        """Return the flat metrics of one round from that round's rows; rounds come in order."""
        metrics = _agent_metrics(rounds) | _exchange_metrics(exchanges)
        self._kilobytes += _total(row.get("kilobytes") for row in exchanges)
        self._kilobytes += _total(row.get("kilobytes_scouted") for row in rounds)
        metrics["kilobytes_total"] = self._kilobytes
        for row in regret:
            self._probes.append({key: row.get(key) for key in ("round", *PROBE_ARMS)})
            for arm in PROBE_ARMS:
                if row.get(arm) is not None:
                    metrics[f"probe/{arm}"] = float(row[arm])
        if self._probes:
            totals = regret_totals(self._probes)
            for name in ("cumulative_regret", "random_regret"):
                if totals[name] is not None:
                    metrics[name] = totals[name]
        return metrics


def replay(
    run_dir: RunDirectory, metrics: RunMetrics | None = None
) -> list[tuple[int, dict[str, float]]]:
    """Return (round, metrics) of every round that the run directory holds, in order.

    ``metrics``, where given, has taken these rounds afterwards and can go on from there.
    """
    metrics = metrics or RunMetrics()
    by_name = {name: _by_round(run_dir.read_rows(name)) for name in ROUND_FILES}
    return [
        (round, metrics.end_round(round, *(by_name[name].get(round, []) for name in ROUND_FILES)))
        for round in sorted(set().union(*by_name.values()))
    ]


def regret_totals(regret: Sequence[Row]) -> dict[str, Any]:
    """Return ``cumulative_regret``, ``random_regret`` and the ``regret_rounds`` that they sum.

    Regret is best minus chosen, and best minus the expectation of a uniformly random pairing, in
    raw reward, unclamped. Plans that are not pairings have no chosen total (null): rounds of such
    plans are left out of both sums, so that the two stay comparable; where no round has one,
    ``cumulative_regret`` is None and ``random_regret`` sums all probed rounds.
    """
    scored = [row for row in regret if row.get("chosen") is not None]
    counted = scored or list(regret)
    cumulative = sum(row["best"] - row["chosen"] for row in scored) if scored else None
    randoms = [row for row in counted if row.get("random") is not None]
    return {
        "cumulative_regret": float(cumulative) if cumulative is not None else None,
        "random_regret": float(sum(row["best"] - row["random"] for row in randoms))
        if randoms
        else None,
        "regret_rounds": [int(row["round"]) for row in counted],
    }


def pair_counts(exchanges: Iterable[Row], num_agents: int) -> list[list[int]]:
    """Return how often each teacher (row) taught each student (column), self left out.

    Server agents, whose indices follow the agents', have no row and no column.
    """
    counts = [[0] * num_agents for _ in range(num_agents)]
    for row in exchanges:
        for teacher in row["teachers"]:
            for student in row["students"]:
                if teacher != student and max(teacher, student) < num_agents:
                    counts[teacher][student] += 1
    return counts


def agent_names(rounds: Iterable[Row]) -> list[str]:
    """Return the agents' names by index, from rows of rounds.jsonl."""
    names = {int(row["agent"]): str(row.get("name") or f"agent {row['agent']}") for row in rounds}
    return [names.get(index, f"agent {index}") for index in range(max(names, default=-1) + 1)]


def mean(values: Iterable[Any]) -> float | None:
    """Return the mean of the values that are not None, or None where there is none."""
    present = [float(value) for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _agent_metrics(rows: Sequence[Row]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in MEANS:
        average = mean(row.get(name) for row in rows)
        if average is not None:
            metrics[name] = average
    for name in SUMS:
        if any(row.get(name) is not None for row in rows):
            metrics[name] = _total(row.get(name) for row in rows)
    for row in rows if len(rows) <= MAX_NAMED_AGENTS else ():
        for name in MEANS:
            if row.get(name) is not None:
                metrics[f"agents/{row['agent']}/{name}"] = float(row[name])
    return metrics


def _exchange_metrics(rows: Sequence[Row]) -> dict[str, float]:
    metrics = {"exchange/directives": float(len(rows))}
    for name, key in (("reward", "reward_raw"), ("reward_normalised", "reward_normalised")):
        average = mean(row.get(key) for row in rows)
        if average is not None:
            metrics[f"exchange/{name}"] = average
    for name in ("kilobytes", "items_sent", "items_kept"):
        metrics[f"exchange/{name}"] = _total(row.get(name) for row in rows)
    for name in ("blocked", "redacted", "counted"):
        metrics[f"guardrail/{name}"] = _total(
            (row.get("guardrail") or {}).get(name) for row in rows
        )
    return metrics


def _total(values: Iterable[Any]) -> float:
    return float(sum(value for value in values if value is not None))


def _by_round(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = {}
    for row in rows:
        grouped.setdefault(int(row["round"]), []).append(row)
    return grouped
