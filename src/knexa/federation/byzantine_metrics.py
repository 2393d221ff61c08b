"""Effects of Byzantine agents on a run, from its own rows: honest agents' scores, who taught whom.

Axes: R rounds, N agents.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knexa.agents.byzantine import ByzantineAgents
from knexa.federation.summary import pass_scores
from knexa.matchmaking.answers import TopicAnswers
from knexa.matchmaking.ledger import Ledger
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean
from knexa.tracking.rows import ByzantineSummary, ExchangeRow, SampleRow, Score, Trust

WINDOW = 5
"""Rounds of the moving mean of Byzantine teaching: a single round has few exchanges."""
SHUNNED = 1.0 / 3.0
"""Byzantine agents count as shunned when they teach less than this part of their fair share."""


def honest_samples(
    byzantine: ByzantineAgents, samples: Sequence[SampleRow], *, ks: Sequence[int], seed: int
) -> dict[int, Score]:
    """Return pass@k of the honest agents, by k; empty without Byzantine agents."""
    if not byzantine.members:
        return {}
    honest = [row for row in samples if row.agent not in byzantine.members]
    return pass_scores(honest, ks=ks, seed=seed)


def honest_agents(
    byzantine: ByzantineAgents, scores_N: NDArray[np.float64], *, seed: int
) -> dict[int, Score]:
    """Return pass@1 of the honest agents, by k, its interval over agents; empty likewise."""
    if not byzantine.members:
        return {}
    honest_n = np.delete(scores_N, list(byzantine.members))
    interval = bootstrap_mean(honest_n, rng=derive_rng(seed, "bootstrap"))
    return {1: Score.of(interval, honest_n.tolist())}


def teaching_of(
    byzantine: ByzantineAgents,
    exchanges: Sequence[ExchangeRow],
    *,
    num_agents: int,
    num_rounds: int,
    most_liars: int | None = None,
) -> ByzantineSummary | None:
    """Return how much the Byzantine agents taught; None without any.

    ``teaching`` has one value a round: the share of the honest agents' exchanges whose teacher was
    Byzantine, over the fair share, L / (N - 1) for L of N agents; None in a round without such
    exchanges. ``teaching_share`` is the same over all rounds. Exchanges among Byzantine agents
    harm nobody and count in ``lessons_among_liars`` alone. ``shunned_after`` is the first round
    from which on the moving mean over the last ``WINDOW`` rounds (or all, in a shorter run) stays
    below a third, or None. ``trust`` is the final trust in the CPM's ledger, as means over the
    Byzantine and the honest agents. Where arms have topics, a round has many exchanges: then
    ``rarely_asked_from`` is the first round from which on each alone is below a third, or None.

    Args:
        byzantine: The Byzantine agents.
        exchanges: All rows.
        num_agents: N.
        num_rounds: R.
        most_liars: As in ``CPM``; with it ``forgers`` are those that the ledger finds out.
    """
    if not byzantine.members:
        return None
    taught_2R = np.zeros((2, num_rounds))
    among, ledger = 0, Ledger(most_liars)
    for row in exchanges:
        pairs = [
            (teacher in byzantine.members, student in byzantine.members)
            for teacher in row.teachers
            for student in row.students
            if teacher != student and max(teacher, student) < num_agents
        ]
        to_honest = [by_byzantine for by_byzantine, to_byzantine in pairs if not to_byzantine]
        taught_2R[:, row.round - 1] += sum(to_honest), len(to_honest)
        among += pairs.count((True, True))
        is_pair = len(row.teachers) == 1 and len(row.students) == 1
        if is_pair and row.reward_raw is not None:
            pair = row.teachers[0], row.students[0]
            ledger.record(*pair, row.reward_raw, _counts_of(row), row.issued_round)
    ledger.compare_reports()
    fair = len(byzantine.members) / (num_agents - 1)
    by_topic = any(row.topics for row in exchanges)
    trust_N = ledger.trust(num_agents)
    return ByzantineSummary(
        liars=tuple(sorted(byzantine.members)),
        attacks=tuple(sorted(byzantine.attacks)),
        teaching=tuple(
            None if total == 0 else float(count / total / fair) for count, total in taught_2R.T
        ),
        lessons_among_liars=among,
        teaching_share=_ratio(taught_2R.sum(axis=1), fair),
        shunned_after=shunned_after(taught_2R, fair),
        trust=Trust(
            liars=float(trust_N[list(byzantine.members)].mean()),
            honest=float(np.delete(trust_N, list(byzantine.members)).mean()),
        ),
        forgers=None if most_liars is None else tuple(sorted(ledger.comparison.forgers)),
        questions=tuple(map(int, taught_2R[0])) if by_topic else None,
        rarely_asked_from=shunned_after(taught_2R, fair, window=1) if by_topic else None,
    )


def _counts_of(row: ExchangeRow) -> tuple[TopicAnswers, ...]:
    """Return what a row says of the answers on its topic, if it has one."""
    counts = (row.answers_asked, row.answers_right, row.answers_new)
    if row.topics is None or len(row.topics) != 1 or None in counts:
        return ()
    asked, right, new = (int(count or 0) for count in counts)
    return (TopicAnswers(category=row.topics[0], asked=asked, right=right, new=new),)


def shunned_after(
    taught_2R: NDArray[np.float64], fair: float, *, window: int = WINDOW
) -> int | None:
    """Return the round from which on Byzantine agents taught under a third of their fair share.

    ``taught_2R`` holds the exchanges by Byzantine teachers, and by any, by round; the share is that
    of the last ``window`` rounds, or of all where there are fewer.
    """
    num_rounds = taught_2R.shape[1]
    window, found = min(window, num_rounds), None
    for end in range(num_rounds, window - 1, -1):
        ratio = _ratio(taught_2R[:, end - window : end].sum(axis=1), fair)
        if ratio is None or ratio >= SHUNNED:
            break
        found = end
    return found


def _ratio(taught_2: NDArray[np.float64], fair: float) -> float | None:
    return None if taught_2[1] == 0 else float(taught_2[0] / taught_2[1] / fair)
