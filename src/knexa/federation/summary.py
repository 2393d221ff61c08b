"""A run's result from its own files: final pass@k and CodeBLEU with intervals, regret, costs.

Axes: A agents, P test problems. Intervals are 95 % percentile bootstraps over problems, of the mean
over agents; an answer that the sandbox lost is left out of its problem's n.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from knexa.agents.privacy import Mechanism
from knexa.evaluation import Outcome
from knexa.evaluation.metrics import pass_at_k
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean
from knexa.tracking.metrics import mean, regret_totals

Row = dict[str, Any]


def summarize(rounds: Sequence[Row], exchanges: Sequence[Row], regret: Sequence[Row]) -> Row:
    """Return regret and costs, the part of summary.json that every federation has.

    Costs are everybody's: what servers spent and what was sent to choose peers are among them.
    """
    servers = [row["server"] for row in exchanges if row.get("server")]
    summary = regret_totals(regret) | {
        "kilobytes": sum(row["kilobytes"] for row in exchanges)
        + sum(row.get("kilobytes_scouted", 0.0) for row in rounds),
        "exchanges": len(exchanges),
        "mean_reward": mean(row.get("reward_raw") for row in exchanges),
        "tokens_trained": sum(row["tokens_trained"] for row in [*rounds, *servers]),
        "tokens_generated": sum(row["tokens_generated"] for row in [*rounds, *servers]),
        "sier": mean(row.get("sier") for row in rounds),
        "steps": sum(row["optimizer_steps"] for row in [*rounds, *servers]),
    }
    summary["tokens"] = summary["tokens_trained"] + summary["tokens_generated"]
    return summary | _what_befell(rounds, exchanges)


def _what_befell(rounds: Sequence[Row], exchanges: Sequence[Row]) -> Row:
    """Return how directives ended, the faults by kind, and how long it all took in virtual time.

    ``absent`` and ``busy`` count an agent in a round; ``left``, those that went after they were
    matched; ``duplicated``, copies that their receiver knew and ignored; ``refused``, copies whose
    digest was wrong; the rest, copies of packages.
    """
    faults = Counter(
        {
            "absent": sum(row.get("present") is False for row in rounds if row["round"] > 0),
            "busy": sum(row.get("busy") is True for row in rounds),
            "duplicated": sum(row.get("copies_ignored", 0) for row in rounds),
        }
    )
    for row in exchanges:
        faults.update(row.get("faults", {}))
    return {
        "directives": _count(row["outcome"] for row in exchanges if "outcome" in row),
        "faults": {kind: count for kind, count in sorted(faults.items()) if count},
        "clock_s": max((row.get("clock_s", 0.0) for row in rounds), default=0.0),
    }


def privacy_summary(
    profiles: Mechanism, rounds: Sequence[Row], training: Row | None = None
) -> dict[str, Row | None]:
    """Return what the run has spent on its profiles and on its adapters; None promises nothing.

    Every round but 0, the untrained federation, releases profiles once.
    """
    num_releases = max((row["round"] for row in rounds), default=0)
    return {"profiles": profiles.spent(num_releases), "training": training}


def summarize_samples(samples: Sequence[Row], *, ks: Sequence[int], seed: int) -> Row:
    """Return pass@k, CodeBLEU and the outcomes of the final completions."""
    scored = [row for row in samples if row["outcome"] != Outcome.INFRASTRUCTURE_ERROR]
    summary: Row = {f"pass@{k}": _by_problem(scored, partial(_pass_at_k, k=k), seed) for k in ks}
    for form in ("codebleu_compat", "codebleu_fixed"):
        summary[form] = _by_problem(scored, partial(_mean_of, field=form), seed)
    return summary | {"outcomes": _count(row["outcome"] for row in samples)}


def _pass_at_k(rows: Sequence[Row], k: int) -> float | None:
    if len(rows) < k:
        return None
    return pass_at_k(len(rows), sum(row["outcome"] == Outcome.PASSED for row in rows), k)


def _mean_of(rows: Sequence[Row], field: str) -> float:
    return float(np.mean([row[field] for row in rows]))


def _by_problem(
    samples: Sequence[Row], score: Callable[[Sequence[Row]], float | None], seed: int
) -> Row:
    """Return mean, interval and per-agent means of a score of an agent on a problem."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in samples:
        groups[row["agent"], row["task_id"]].append(row)
    agents = sorted({agent for agent, _ in groups})
    tasks = list(dict.fromkeys(task for _, task in groups))
    scores = {key: score(rows) for key, rows in groups.items()}
    values_AP = np.array(
        [[_or_nan(scores.get((agent, task))) for task in tasks] for agent in agents]
    )
    kept_AP = values_AP[:, ~np.isnan(values_AP).any(axis=0)]
    interval = bootstrap_mean(kept_AP.mean(axis=0), rng=derive_rng(seed, "bootstrap"))
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "per_agent": kept_AP.mean(axis=1).tolist(),
        "num_problems": int(kept_AP.shape[1]),
    }


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _count(values: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))
