"""Greedy matching for federations whose N^2 scores do not fit into memory.

Axes: N agents, R reference agents, K pairs; scores are ``[teacher, student]``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.large.greedy import greedy_pairs
from knexa.matchmaking.large.pair_scores import PairScores, Span
from knexa.matchmaking.plans import Matching

_NUM_REFERENCES = 128
"""Agents against which the main effects are measured."""

_LEVEL_BITS = 36
"""Main effects are equal where they differ by less than 2^-36 of the largest, as scores are."""


class LazyMatching(Matching):
    """A matching that needs the scores of few pairs, so that not all N^2 are computed."""

    is_lazy: ClassVar[bool] = True

    def match_lazily(
        self, scores: PairScores, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs, as ``match`` does.

        Raises:
            ScoresError: When a score that is asked for is NaN or +inf.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Prefiltered(LazyMatching):
    """Greedy over windows of agents that are likely to be in the next pairs.

    Most of a score is a main effect of the teacher plus one of the student, which are estimated as
    means over a few reference agents. Greedy takes pairs in descending score, so its next pairs are
    likely to be among the free agents of the largest effects: only these are scored exactly, the
    better half of their pairs is taken greedily, and the window moves on. About 2 N w scores are
    computed instead of N^2. It equals greedy where the window holds every agent, and is an
    approximation otherwise, the worse the larger the interaction of teacher and student
    (docs/performance.md).

    Attributes:
        window: w, how many teachers and how many students are scored against each other.
    """

    name: ClassVar[str] = "prefiltered"

    window: Annotated[int, Field(ge=2)] = 2048

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``Matching``)."""

        def fill(teachers: Span, students: Span, out_TS: Array) -> None:
            out_TS[:] = scores_NN[teachers][:, students]

        def of(teachers_K: Indices, students_K: Indices) -> Array:
            return np.asarray(scores_NN[teachers_K, students_K])

        scores = PairScores(num_agents=len(scores_NN), fill=fill, of=of)
        return self.match_lazily(scores, num_pairs, rng)

    def match_lazily(
        self, scores: PairScores, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``LazyMatching``)."""
        num_agents = scores.num_agents
        teachers_N, students_N = _by_main_effect(scores, rng)
        window = self.window
        pairs: list[tuple[int, int]] = []
        values: list[float] = []
        while len(pairs) < num_pairs and len(teachers_N) > 1:
            holds_all = window >= len(teachers_N)
            teachers_w, students_w = np.sort(teachers_N[:window]), np.sort(students_N[:window])
            wanted = num_pairs - len(pairs)
            if not holds_all:
                wanted = min(wanted, window // 2)
            block_ww = scores.block(teachers_w, students_w)
            found = greedy_pairs(block_ww, teachers_w, students_w, wanted, rng)
            if found:
                taken_K2 = np.array(found)
                rows_K = np.searchsorted(teachers_w, taken_K2[:, 0])
                columns_K = np.searchsorted(students_w, taken_K2[:, 1])
                pairs += found
                values += block_ww[rows_K, columns_K].tolist()
                free_N = np.ones(num_agents, dtype=bool)
                free_N[taken_K2] = False
                teachers_N = teachers_N[free_N[teachers_N]]
                students_N = students_N[free_N[students_N]]
            if holds_all:
                break
            if len(found) < wanted:
                window *= 2  # too few pairs in the window are admissible
        best_first = np.argsort(-np.array(values), kind="stable").tolist()
        return [pairs[index] for index in best_first]


def _by_main_effect(scores: PairScores, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Return the agents in descending mean score as teachers and as students; ties are drawn."""
    agents_N = np.arange(scores.num_agents)
    size = min(_NUM_REFERENCES, scores.num_agents)
    references_R = np.sort(rng.choice(scores.num_agents, size=size, replace=False))
    others_NR = agents_N[:, None] != references_R
    as_teacher_N = _finite_means(scores.block(agents_N, references_R), others_NR)
    as_student_N = _finite_means(scores.block(references_R, agents_N).T, others_NR)
    return _descending(as_teacher_N, rng), _descending(as_student_N, rng)


def _finite_means(scores_NR: Array, others_NR: Array) -> Array:
    """Return each row's mean over its admissible pairs; the least of all rows where it has none."""
    usable_NR = others_NR & np.isfinite(scores_NR)
    counts_N = usable_NR.sum(axis=1)
    means_N = np.where(usable_NR, scores_NR, 0.0).sum(axis=1) / np.maximum(counts_N, 1)
    least = float(means_N[counts_N > 0].min()) if counts_N.any() else 0.0
    return np.asarray(np.where(counts_N > 0, means_N, least))


def _descending(levels_N: Array, rng: np.random.Generator) -> Indices:
    largest = float(np.abs(levels_N).max(initial=0.0))
    steps_N = np.rint(levels_N / (largest or 1.0) * 2.0**_LEVEL_BITS)
    return np.asarray(np.lexsort((rng.random(len(levels_N)), -steps_N)))
