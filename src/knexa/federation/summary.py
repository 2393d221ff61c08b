"""A run's results from its own rows: final pass@k and CodeBLEU with intervals, and costs.

Axes: A agents, P test problems. Intervals are 95 % percentile bootstraps over problems, of the mean
over agents; answers that the sandbox lost are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from knexa.data.skew import own_weights
from knexa.evaluation import Outcome
from knexa.evaluation.metrics import pass_at_k
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean
from knexa.tracking.metrics import mean
from knexa.tracking.rows import (
    AgentRow,
    Costs,
    ExchangeRow,
    RoundRow,
    SampleRow,
    Score,
    ServerCosts,
)


def costs_of(rounds: Sequence[RoundRow], exchanges: Sequence[ExchangeRow]) -> Costs:
    """Return the run's costs, including servers and packages that were sent to choose peers.

    In ``faults``, ``absent`` and ``busy`` count an agent in a round; ``left``, agents that left
    after they were matched; ``duplicated``, copies that their receiver ignored; ``refused``, copies
    with a wrong digest; the rest, copies of packages.
    """
    servers = [row.server for row in exchanges if row.server is not None]
    spent: list[RoundRow | ServerCosts] = [*rounds, *servers]
    trained = sum(each.tokens_trained for each in spent)
    generated = sum(each.tokens_generated for each in spent)
    faults = Counter(
        {
            "absent": sum(not row.present for row in rounds if row.round > 0),
            "busy": sum(row.busy for row in rounds),
            "duplicated": sum(row.copies_ignored for row in rounds),
        }
    )
    for row in exchanges:
        faults.update(row.faults or {})
    return Costs(
        kilobytes=sum(row.kilobytes for row in exchanges)
        + sum(row.kilobytes_scouted or 0.0 for row in rounds),
        exchanges=len(exchanges),
        mean_reward=mean(row.reward_raw for row in exchanges),
        tokens_trained=trained,
        tokens_generated=generated,
        sier=mean(row.sier for row in rounds),
        steps=sum(each.optimizer_steps for each in spent),
        tokens=trained + generated,
        directives=_count(row.outcome for row in exchanges),
        faults={kind: count for kind, count in sorted(faults.items()) if count},
        clock_s=max((row.clock_s for row in rounds), default=0.0),
    )


def num_releases(rounds: Sequence[AgentRow]) -> int:
    """Return how often profiles were released: once a round from round 1 on."""
    return max((row.round for row in rounds), default=0)


def pass_scores(samples: Sequence[SampleRow], *, ks: Sequence[int], seed: int) -> dict[int, Score]:
    """Return pass@k of the final completions, by k."""
    scored = _scored(samples)
    return {k: _by_problem(scored, partial(_pass_at_k, k=k), seed) for k in ks}


def own_pass_scores(
    samples: Sequence[SampleRow],
    *,
    ks: Sequence[int],
    data_shares: Sequence[Sequence[float]],
    seed: int,
) -> dict[int, Score]:
    """Return the same where each agent's problems are weighted by its own data (Eq. 1).

    Args:
        samples: The final completions.
        ks: The numbers of attempts.
        data_shares: Of each agent: the share of every category in its training problems.
        seed: The run's.
    """
    scored = _scored(samples)
    return {
        k: _by_problem(scored, partial(_pass_at_k, k=k), seed, data_shares=data_shares) for k in ks
    }


def codebleu_scores(samples: Sequence[SampleRow], *, seed: int) -> tuple[Score, Score]:
    """Return CodeBLEU (compat, fixed) of the final completions."""
    scored = _scored(samples)
    return (
        _by_problem(scored, lambda rows: _mean(row.codebleu_compat for row in rows), seed),
        _by_problem(scored, lambda rows: _mean(row.codebleu_fixed for row in rows), seed),
    )


def outcomes_of(samples: Sequence[SampleRow]) -> dict[str, int]:
    """Return the number of final completions by outcome."""
    return _count(row.outcome for row in samples)


def _scored(samples: Sequence[SampleRow]) -> list[SampleRow]:
    return [row for row in samples if row.outcome != Outcome.INFRASTRUCTURE_ERROR]


def _pass_at_k(rows: Sequence[SampleRow], k: int) -> float | None:
    if len(rows) < k:
        return None
    return pass_at_k(len(rows), sum(row.outcome == Outcome.PASSED for row in rows), k)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _by_problem(
    samples: Sequence[SampleRow],
    score: Callable[[Sequence[SampleRow]], float | None],
    seed: int,
    data_shares: Sequence[Sequence[float]] | None = None,
) -> Score:
    """Return mean, interval and per-agent means of ``score``, computed by agent and problem.

    With ``data_shares`` a problem counts for an agent by ``own_weights``, 1 in the mean.
    """
    groups: dict[tuple[int, str], list[SampleRow]] = defaultdict(list)
    for row in samples:
        groups[row.agent, row.task_id].append(row)
    agents = sorted({agent for agent, _ in groups})
    tasks = list(dict.fromkeys(task for _, task in groups))
    scores = {key: score(rows) for key, rows in groups.items()}
    values_AP = np.array(  # None becomes NaN
        [[scores.get((agent, task)) for task in tasks] for agent in agents], dtype=np.float64
    )
    known_P = np.asarray(~np.isnan(values_AP).any(axis=0))
    kept_AP = values_AP[:, known_P]
    if data_shares is not None:
        category_of = {row.task_id: row.category for row in samples}
        categories = [category_of[tasks[place]] for place in np.flatnonzero(known_P).tolist()]
        weights_AP = np.stack([own_weights(categories, data_shares[agent]) for agent in agents])
        kept_AP = kept_AP * weights_AP * len(categories)
    interval = bootstrap_mean(kept_AP.mean(axis=0), rng=derive_rng(seed, "bootstrap"))
    return Score.of(interval, kept_AP.mean(axis=1).tolist(), num_problems=kept_AP.shape[1])


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
