"""What liars did to a run: the honest agents' scores, and who was let teach.

Everything is read off the run's own rows. Axes: R rounds, N agents.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from knexa.agents.byzantine import ByzantineAgents
from knexa.federation.summary import pass_scores
from knexa.matchmaking.ledger import Ledger
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean
from knexa.tracking.rows import ByzantineSummary, ExchangeRow, SampleRow, Score, Trust

WINDOW = 5
"""Rounds of the moving mean that decides whether liars still teach: one round has few lessons."""
SHUNNED = 1.0 / 3.0
"""Share of their fair share of teaching below which liars count as found out."""


def honest_samples(
    byzantine: ByzantineAgents, samples: Sequence[SampleRow], *, ks: Sequence[int], seed: int
) -> dict[int, Score]:
    """Return pass@k of the honest agents alone, by k; nothing where nobody lies."""
    if not byzantine.members:
        return {}
    honest = [row for row in samples if row.agent not in byzantine.members]
    return pass_scores(honest, ks=ks, seed=seed)


def honest_agents(
    byzantine: ByzantineAgents, scores_N: NDArray[np.float64], *, seed: int
) -> dict[int, Score]:
    """Return pass@1 of the honest agents alone, by k; nothing where nobody lies.

    The interval is over agents.
    """
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
) -> ByzantineSummary | None:
    """Return who lied and how much they taught; None where nobody lies.

    ``teaching`` has one value a round: the share of the honest agents' lessons that liars gave them
    over the fair share, L / (N - 1) for L liars among N agents; None in a round without such
    lessons. Lessons among liars harm nobody: they count in ``lessons_among_liars`` alone.
    ``teaching_share`` is the same over all rounds. ``shunned_after`` is the first round from which
    on the moving mean over the last ``WINDOW`` rounds (or all, in a shorter run) stays below a
    third; None when that never happened. ``trust`` is what the CPM's ledger says in the end, as a
    mean over liars and over the others.
    """
    if not byzantine.members:
        return None
    lessons_2R = np.zeros((2, num_rounds))
    among, ledger = 0, Ledger()
    for row in exchanges:
        lessons = [
            (teacher in byzantine.members, student in byzantine.members)
            for teacher in row.teachers
            for student in row.students
            if teacher != student and max(teacher, student) < num_agents
        ]
        to_honest = [lied for lied, to_liar in lessons if not to_liar]
        lessons_2R[:, row.round - 1] += sum(to_honest), len(to_honest)
        among += lessons.count((True, True))
        is_pair = len(row.teachers) == 1 and len(row.students) == 1
        if is_pair and row.reward_raw is not None:
            ledger.record(row.teachers[0], row.students[0], row.reward_raw)
    fair = len(byzantine.members) / (num_agents - 1)
    trust_N = ledger.trust(num_agents)
    return ByzantineSummary(
        liars=tuple(sorted(byzantine.members)),
        attacks=tuple(sorted(byzantine.attacks)),
        teaching=tuple(
            None if total == 0 else float(lied / total / fair) for lied, total in lessons_2R.T
        ),
        lessons_among_liars=among,
        teaching_share=_ratio(lessons_2R.sum(axis=1), fair),
        shunned_after=shunned_after(lessons_2R, fair),
        trust=Trust(
            liars=float(trust_N[list(byzantine.members)].mean()),
            honest=float(np.delete(trust_N, list(byzantine.members)).mean()),
        ),
    )


def shunned_after(lessons_2R: NDArray[np.float64], fair: float) -> int | None:
    """Return the round from which on liars taught less than a third of their fair share.

    Args:
        lessons_2R: Lessons by liars, and by anybody, by round.
        fair: The liars' fair share.
    """
    num_rounds = lessons_2R.shape[1]
    window, found = min(WINDOW, num_rounds), None
    for end in range(num_rounds, window - 1, -1):
        ratio = _ratio(lessons_2R[:, end - window : end].sum(axis=1), fair)
        if ratio is None or ratio >= SHUNNED:
            break
        found = end
    return found


def _ratio(lessons_2: NDArray[np.float64], fair: float) -> float | None:
    return None if lessons_2[1] == 0 else float(lessons_2[0] / lessons_2[1] / fair)
