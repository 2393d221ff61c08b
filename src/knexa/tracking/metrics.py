"""Derives a run's metrics from the rows of its JSONL files.

Names: a bare name (``pass@1_greedy``) is over all agents, ``agents/<index>/<name>`` is one agent's,
``exchange/...`` is over the round's directives. Losses and scores are means, counts are sums,
``cumulative_*`` and ``*_total`` sum from the first round on. What was not measured is absent.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from knexa.tracking.rows import ExchangeRow, RegretRow, RegretTotals, RoundRow
from knexa.tracking.run_directory import RunDirectory

R = TypeVar("R", RoundRow, ExchangeRow, RegretRow)

MEANS: Mapping[str, Callable[[RoundRow], float | None]] = {
    "pass@1_greedy": lambda row: row.pass_at_1_greedy,
    "own_pass@1_greedy": lambda row: row.own_pass_at_1_greedy,
    "codebleu_compat": lambda row: row.codebleu_compat,
    "codebleu_fixed": lambda row: row.codebleu_fixed,
    "train_loss": lambda row: row.train_loss,
    "validation_loss": lambda row: row.validation_loss,
    "learn_loss": lambda row: row.learn_loss,
    "sier": lambda row: row.sier,
}
SUMS: Mapping[str, Callable[[RoundRow], int]] = {
    "tokens_trained": lambda row: row.tokens_trained,
    "tokens_generated": lambda row: row.tokens_generated,
    "optimizer_steps": lambda row: row.optimizer_steps,
}
PROBE_ARMS: Mapping[str, Callable[[RegretRow], float | None]] = {
    "best": lambda row: row.best,
    "chosen": lambda row: row.chosen,
    "random": lambda row: row.random,
}
MAX_NAMED_AGENTS = 64  # a federation of thousands reports means, not thousands of columns


class RunMetrics:
    """Derives each round's metrics, and keeps what running totals need."""

    def __init__(self) -> None:
        self._kilobytes = 0.0
        self._probes: list[RegretRow] = []

    def end_round(
        self,
        round: int,
        rounds: Sequence[RoundRow],
        exchanges: Sequence[ExchangeRow],
        regret: Sequence[RegretRow],
    ) -> dict[str, float]:
        """Return the flat metrics of one round from that round's rows; rounds come in order."""
        metrics = _agent_metrics(rounds) | _exchange_metrics(exchanges)
        self._kilobytes += _total(row.kilobytes for row in exchanges)
        self._kilobytes += _total(row.kilobytes_scouted for row in rounds)
        metrics["kilobytes_total"] = self._kilobytes
        for row in regret:
            self._probes.append(replace(row, rewards=None, no_teacher=(), best_pairs=()))
            for arm, total_of in PROBE_ARMS.items():
                total = total_of(row)
                if total is not None:
                    metrics[f"probe/{arm}"] = total
        if self._probes:
            totals = regret_totals(self._probes)
            if totals.cumulative_regret is not None:
                metrics["cumulative_regret"] = totals.cumulative_regret
            if totals.random_regret is not None:
                metrics["random_regret"] = totals.random_regret
        return metrics


def replay(
    run_dir: RunDirectory, metrics: RunMetrics | None = None
) -> list[tuple[int, dict[str, float]]]:
    """Return (round, metrics) of every round that the run directory holds, in order.

    ``metrics``, where given, is updated with these rounds, so that it can continue.
    """
    metrics = metrics or RunMetrics()
    rounds = _by_round(run_dir.read_rows(RoundRow))
    exchanges = _by_round(run_dir.read_rows(ExchangeRow))
    regret = _by_round(run_dir.read_rows(RegretRow))
    return [
        (number, metrics.end_round(number, rounds[number], exchanges[number], regret[number]))
        for number in sorted({*rounds, *exchanges, *regret})
    ]


def regret_totals(regret: Sequence[RegretRow]) -> RegretTotals:
    """Return cumulative and random regret, and the rounds that they sum.

    Regret is best minus chosen, and best minus the expectation of a random plan, in raw reward.
    Rounds whose plan is not of the selection's arms have no chosen total and are left out of both
    sums, so that these stay comparable; where no round has one, ``cumulative_regret`` is None and
    ``random_regret`` sums all probed rounds.
    """
    chosen = [row.best - row.chosen for row in regret if row.chosen is not None]
    counted = [row for row in regret if row.chosen is not None] or list(regret)
    random = [row.best - row.random for row in counted if row.random is not None]
    return RegretTotals(
        cumulative_regret=float(sum(chosen)) if chosen else None,
        random_regret=float(sum(random)) if random else None,
        regret_rounds=tuple(row.round for row in counted),
    )


def pair_counts(exchanges: Iterable[ExchangeRow], num_agents: int) -> list[list[int]]:
    """Return how often each teacher (row) taught each student (column), without servers."""
    counts = [[0] * num_agents for _ in range(num_agents)]
    for row in exchanges:
        for teacher in row.teachers:
            for student in row.students:
                if teacher != student and max(teacher, student) < num_agents:
                    counts[teacher][student] += 1
    return counts


def agent_names(rounds: Iterable[RoundRow]) -> list[str]:
    """Return the agents' names by index."""
    names = {row.agent: row.name for row in rounds}
    return [names.get(index, f"agent {index}") for index in range(max(names, default=-1) + 1)]


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None where there is none."""
    present = [float(value) for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _agent_metrics(rows: Sequence[RoundRow]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, value_of in MEANS.items():
        average = mean(map(value_of, rows))
        if average is not None:
            metrics[name] = average
    if rows:
        metrics |= {name: _total(map(count_of, rows)) for name, count_of in SUMS.items()}
    for row in rows if len(rows) <= MAX_NAMED_AGENTS else ():
        for name, value_of in MEANS.items():
            value = value_of(row)
            if value is not None:
                metrics[f"agents/{row.agent}/{name}"] = value
    return metrics


def _exchange_metrics(rows: Sequence[ExchangeRow]) -> dict[str, float]:
    metrics = {"exchange/directives": float(len(rows))}
    rewards = {
        "exchange/reward": mean(row.reward_raw for row in rows),
        "exchange/reward_normalised": mean(row.reward_normalised for row in rows),
    }
    metrics |= {name: reward for name, reward in rewards.items() if reward is not None}
    metrics["exchange/kilobytes"] = _total(row.kilobytes for row in rows)
    metrics["exchange/items_sent"] = _total(row.items_sent for row in rows)
    metrics["exchange/items_kept"] = _total(row.items_kept for row in rows)
    for name in ("blocked", "redacted", "counted"):
        metrics[f"guardrail/{name}"] = _total(row.guardrail.get(name) for row in rows)
    return metrics


def _total(values: Iterable[float | None]) -> float:
    return float(sum(value for value in values if value is not None))


def _by_round(rows: Iterable[R]) -> defaultdict[int, list[R]]:
    grouped = defaultdict(list)
    for row in rows:
        grouped[row.round].append(row)
    return grouped
