"""Scores of all ordered pairs, computed on demand.

Axes: N agents, K pairs, T teachers, S students. Matrices are indexed ``[teacher, student]``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from knexa.matchmaking.arrays import Array, Indices

Span = slice | Indices
"""Which agents: a range of them, or their indices."""

Scorer = Callable[[Span, Span, Array], None]
"""Writes the scores_TS of T teachers with S students into its third argument."""

_SCORE_BLOCK = 1 << 18
"""Scores that a block holds at most: 2 MB, so that each is finished inside the cache."""


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Scores of all ordered pairs, computed on demand: 100,000 agents have 10^10 of them.

    Attributes:
        num_agents: N.
        fill: Computes a block.
        of: Returns scores_K of K pairs, given teachers_K and students_K.
    """

    num_agents: int
    fill: Scorer
    of: Callable[[Indices, Indices], Array]

    def block(self, teachers_T: Indices, students_S: Indices) -> Array:
        """Return scores_TS of T teachers with S students."""
        scores_TS = np.empty((len(teachers_T), len(students_S)))
        self._fill_rows(teachers_T, students_S, scores_TS)
        return scores_TS

    def dense(self) -> Array:
        """Return scores_NN; beside the result, only one block is in memory."""
        scores_NN = np.empty((self.num_agents, self.num_agents))
        self._fill_rows(slice(0, self.num_agents), slice(0, self.num_agents), scores_NN)
        return scores_NN

    def _fill_rows(self, teachers: Span, students: Span, scores_TS: Array) -> None:
        num_teachers, num_students = scores_TS.shape
        size = max(1, _SCORE_BLOCK // max(1, num_students))
        for begin in range(0, num_teachers, size):
            rows = slice(begin, min(begin + size, num_teachers))
            block = rows if isinstance(teachers, slice) else teachers[rows]
            self.fill(block, students, scores_TS[rows])
