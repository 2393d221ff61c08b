"""Ordered pairs as numbers: their contexts, and linear scores of them, as many as are asked for.

Axes: N agents, K pairs, T teachers, S students, F profile features, d context features. Matrices
over ordered pairs are indexed ``[teacher, student]``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knexa.matchmaking.ledger import Ledger

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]
Span = slice | Indices
"""Which agents: a range of them, or their indices."""

Scorer = Callable[[Span, Span, Array], None]
"""Writes the scores_TS of T teachers with S students into its third argument."""

_BLOCK = 1 << 22
"""Numbers that a block of contexts holds at most: 32 MB."""

_SCORE_BLOCK = 1 << 18
"""Scores that a block holds at most: 2 MB, so that each is finished inside the cache."""


class ScoresError(ValueError):
    """Scores that no matching can go by."""


class Context:
    """Turns what the CPM knows into one feature vector per ordered pair.

    Override ``num_features`` and ``rows``; override ``scorer`` where terms that factor into a
    teacher's and a student's part make scores cheaper than a row for every pair.
    """

    def num_features(self, num_profile_features: int) -> int:
        """Return d for profiles of that many features.

        Raises:
            ValueError: When the context needs features that such profiles do not have.
        """
        raise NotImplementedError

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd of the K ordered pairs."""
        raise NotImplementedError

    def build(self, profiles_NF: Array, ledger: Ledger | None = None) -> Array:
        """Return contexts_NNd of all ordered pairs; the diagonal's content is unused."""
        num_agents = len(profiles_NF)
        teachers_n, students_n = np.divmod(np.arange(num_agents**2), num_agents)
        known = Ledger() if ledger is None else ledger
        rows_nd = self.rows(profiles_NF, known, teachers_n, students_n)
        return rows_nd.reshape(num_agents, num_agents, rows_nd.shape[1])

    def scorer(
        self,
        profiles_NF: Array,
        ledger: Ledger,
        theta_d: Array,
        inverse_dd: Array | None = None,
        beta: float = 0.0,
    ) -> Scorer:
        """Return what writes theta^T x + beta sqrt(x^T A^-1 x) of any teachers with any students.

        ``inverse_dd`` is A^-1; without it there is no second term.
        """
        agents_N = np.arange(len(profiles_NF))

        def fill(teachers: Span, students: Span, out_TS: Array) -> None:
            teachers_T, students_S = agents_N[teachers], agents_N[students]
            size = max(1, _BLOCK // max(1, len(students_S) * len(theta_d)))
            for begin in range(0, len(teachers_T), size):
                teachers_b = teachers_T[begin : begin + size]
                rows_nd = self.rows(
                    profiles_NF,
                    ledger,
                    np.repeat(teachers_b, len(students_S)),
                    np.tile(students_S, len(teachers_b)),
                )
                scores_n = linear_scores(rows_nd, theta_d, inverse_dd, beta)
                out_TS[begin : begin + size] = scores_n.reshape(-1, len(students_S))

        return fill


def norms(contexts_nd: Array, inverse_dd: Array) -> Array:
    """Return sqrt(x^T A^-1 x) of every row."""
    squares_n = np.einsum("nd,nd->n", contexts_nd @ inverse_dd, contexts_nd)
    # Rounding can push the square of a well-explored direction just below zero.
    return np.asarray(np.sqrt(np.maximum(squares_n, 0.0)))


def linear_scores(
    contexts_nd: Array, theta_d: Array, inverse_dd: Array | None = None, beta: float = 0.0
) -> Array:
    """Return theta^T x + beta sqrt(x^T A^-1 x) of every row."""
    estimates_n = np.asarray(contexts_nd @ theta_d)
    return (
        estimates_n if inverse_dd is None else estimates_n + beta * norms(contexts_nd, inverse_dd)
    )


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Scores of all ordered pairs, computed only where asked for: 100,000 agents have 10^10.

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
        """Return scores_NN; beside the result only a block is held."""
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
