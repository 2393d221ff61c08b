"""Matchings: from the scores of ordered pairs to disjoint ones, greedily or exactly.

Both treat scores as equal when they differ by less than 2^-36 of the largest magnitude: well above
the rounding of a score, well below anything that a reward can tell. Equal scores are ordered by the
generator, so no agent gains by its index. Axes: N agents; scores are ``[teacher, student]``.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knexa.matchmaking.base import Array

_SCALE_BITS = 60  # scores become integers of at most 60 bits, more than a double's mantissa holds
_TIE_BITS = 24  # and the lowest 24 of them are where ties are broken

_Weights = NDArray[np.int64]
_Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Greedy:
    """The paper's matching: take pairs in descending score, skipping agents already taken."""

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``Matching``).

        Raises:
            ValueError: When the scores are not a square matrix, or one is NaN or +inf.
        """
        admissible_NN = _admissible(scores_NN)
        weights_NN = _integer_weights(scores_NN, admissible_NN, rng)
        teachers_p, students_p = np.nonzero(admissible_NN)
        order_p = np.argsort(-weights_NN[teachers_p, students_p], kind="stable")
        free_N = np.ones(len(scores_NN), dtype=bool)
        pairs: list[tuple[int, int]] = []
        for teacher, student in zip(
            teachers_p[order_p].tolist(), students_p[order_p].tolist(), strict=True
        ):
            if len(pairs) >= num_pairs:
                break
            if free_N[teacher] and free_N[student]:
                free_N[[teacher, student]] = False
                pairs.append((teacher, student))
        return pairs


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Maximum-weight matching: the disjoint pairs with the largest total score.

    Takes exactly ``num_pairs`` pairs, or as many as the admissible scores allow, also where scores
    are negative: a round's number of exchanges is the federation's choice, not the policy's.
    """

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return the best disjoint (teacher, student) pairs (see ``Matching``).

        Raises:
            ValueError: When the scores are not a square matrix, or one is NaN or +inf.
        """
        return max_weight_pairs(scores_NN, num_pairs, rng)


def max_weight_pairs(
    scores_NN: Array, num_pairs: int, rng: np.random.Generator | None = None
) -> list[tuple[int, int]]:
    """Return the disjoint (teacher, student) pairs of largest total score, best pair first.

    Exact to N 2^-37 of the largest score (Edmonds' blossom algorithm on 60-bit integers, O(N^3)).

    Args:
        scores_NN: Scores; ``-inf`` is inadmissible, the diagonal is ignored.
        num_pairs: The number of pairs; fewer only where no matching of that size is admissible.
        rng: Breaks ties; without it they fall in a fixed order, and the total is exact.
    """
    admissible_NN = _admissible(scores_NN)
    weights_NN = _integer_weights(scores_NN, admissible_NN, rng)
    # Of two agents only the better role can be in a best matching.
    keep_NN = admissible_NN & (~admissible_NN.T | (weights_NN > weights_NN.T))
    # Where both roles weigh the same (without rng, or once in 2^24) the lower index teaches.
    equal_NN = admissible_NN & admissible_NN.T & (weights_NN == weights_NN.T)
    keep_NN |= np.triu(equal_NN, 1)
    teachers, students = (axis.tolist() for axis in np.nonzero(keep_NN))
    edges = list(zip(teachers, students, weights_NN[keep_NN].tolist(), strict=True))
    weight_of = {(min(i, j), max(i, j)): (weight, i, j) for i, j, weight in edges}
    chosen = _blossom(len(scores_NN), edges, num_pairs)
    best_first = sorted((weight_of[pair] for pair in chosen), key=lambda edge: (-edge[0], edge[1:]))
    return [(teacher, student) for _, teacher, student in best_first]


def _blossom(
    num_agents: int, edges: list[tuple[int, int, int]], num_pairs: int
) -> Iterable[tuple[int, int]]:
    """Return a maximum-weight matching of ``num_pairs`` edges, or as many as there can be.

    The size is fixed by dummies: N - 2 K further nodes, tied to every agent at weight 0, so that a
    perfect matching of the larger graph leaves exactly K pairs among the agents.
    """
    import rustworkx as rx

    agents = rx.PyGraph(multigraph=False)
    agents.add_nodes_from(range(num_agents))
    agents.add_edges_from(edges)
    feasible = len(rx.max_weight_matching(agents, max_cardinality=True))
    num_dummies = num_agents - 2 * min(num_pairs, feasible)
    dummies = agents.add_nodes_from(range(num_dummies))
    agents.add_edges_from([(agent, dummy, 0) for dummy in dummies for agent in range(num_agents)])
    matched = rx.max_weight_matching(agents, max_cardinality=True, weight_fn=lambda edge: edge)
    return [(min(i, j), max(i, j)) for i, j in matched if max(i, j) < num_agents]


def _admissible(scores_NN: Array) -> _Mask:
    """Return which ordered pairs may be chosen."""
    if scores_NN.ndim != 2 or scores_NN.shape[0] != scores_NN.shape[1]:
        raise ValueError(f"scores must be a square matrix, not of shape {scores_NN.shape}")
    off_diagonal_NN = ~np.eye(len(scores_NN), dtype=bool)
    admissible_NN = off_diagonal_NN & ~np.isneginf(scores_NN)
    if not np.isfinite(scores_NN[admissible_NN]).all():
        raise ValueError("scores must be finite, or -inf where a pair is inadmissible")
    return np.asarray(admissible_NN)


def _integer_weights(
    scores_NN: Array, admissible_NN: _Mask, rng: np.random.Generator | None
) -> _Weights:
    """Return the scores as integers in the same order, with noise below 2^-36 where rng is given.

    Integers, because their sums are exact in any order, and the blossom algorithm takes no other.
    """
    values = scores_NN[admissible_NN]
    largest = float(np.abs(values).max(initial=0.0))
    weights_NN = np.zeros(scores_NN.shape, dtype=np.int64)
    if largest > 0.0:
        # Dividing first keeps the product finite for every finite score.
        weights_NN[admissible_NN] = np.rint(values / largest * 2.0**_SCALE_BITS).astype(np.int64)
    if rng is not None:
        weights_NN += rng.integers(0, 2**_TIE_BITS, size=scores_NN.shape)
    return weights_NN
