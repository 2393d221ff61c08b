"""Matchings: choose disjoint pairs by the scores of ordered pairs, greedily or exactly.

Equal scores (see ``weights.py``) are ordered at random. Axes: N agents; scores are ``[teacher,
student]``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.blossom import best_matching, best_perfect_matching
from knexa.matchmaking.large import LARGE
from knexa.matchmaking.large.greedy import greedy_pairs
from knexa.matchmaking.plans import Matching
from knexa.matchmaking.weights import INADMISSIBLE, check_square, square_weights


@dataclass(frozen=True, kw_only=True)
class Greedy(Matching):
    """The paper's matching: take pairs in descending score whose agents are both free."""

    name: ClassVar[str] = "greedy"

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Take the best pair of free agents repeatedly (see ``Matching``)."""
        if len(scores_NN) > LARGE:
            check_square(scores_NN)
            agents_N = np.arange(len(scores_NN))
            return greedy_pairs(scores_NN, agents_N, agents_N, num_pairs, rng)
        weights_NN = square_weights(scores_NN, rng)
        pairs: list[tuple[int, int]] = []
        while len(pairs) < num_pairs and weights_NN.size:
            teacher, student = divmod(int(weights_NN.argmax()), len(weights_NN))
            if weights_NN[teacher, student] == INADMISSIBLE:
                break
            pairs.append((teacher, student))
            taken = [teacher, student]
            weights_NN[taken, :] = weights_NN[:, taken] = INADMISSIBLE
        return pairs


@dataclass(frozen=True, kw_only=True)
class Exact(Matching):
    """Maximum-weight matching: the disjoint pairs with the largest total score.

    Takes ``num_pairs`` pairs, or as many as are admissible, even where scores are negative: the
    federation, not the policy, decides how many exchanges a round has.
    """

    name: ClassVar[str] = "exact"

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return the best disjoint (teacher, student) pairs (see ``Matching``)."""
        return max_weight_pairs(scores_NN, num_pairs, rng)


@dataclass(frozen=True, kw_only=True)
class Auto(Matching):
    """Exact in small federations, greedy in large ones.

    Attributes:
        exact_up_to: The largest number of agents that are matched exactly.
    """

    name: ClassVar[str] = "auto"

    exact_up_to: Annotated[int, Field(ge=0)] = 512

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``Matching``)."""
        matching = Exact() if len(scores_NN) <= self.exact_up_to else Greedy()
        return matching.match(scores_NN, num_pairs, rng)


def max_weight_pairs(
    scores_NN: Array, num_pairs: int, rng: np.random.Generator | None = None
) -> list[tuple[int, int]]:
    """Return the disjoint (teacher, student) pairs of largest total score, best pair first.

    Exact to N 2^-37 of the largest score (Edmonds' blossom algorithm on 60-bit integers, O(N^3)).

    Args:
        scores_NN: Scores; ``-inf`` is inadmissible, the diagonal is ignored.
        num_pairs: The number of pairs; fewer only where no matching of that size is admissible.
        rng: Breaks ties; without it their order is fixed, and the total is exact.

    Raises:
        ScoresError: When the scores are not a square matrix, or one is NaN or +inf.
    """
    weights_NN = square_weights(scores_NN, rng)
    # Of two agents only the better role can be in a best matching; the lower index teaches where
    # both roles weigh the same.
    teaches_NN = weights_NN > weights_NN.T
    best_NN = np.maximum(weights_NN, weights_NN.T)
    usable_NN = best_NN != INADMISSIBLE
    if rng is not None and usable_NN.sum() == len(best_NN) * (len(best_NN) - 1):
        # Noise makes the best matching unique, so that every exact algorithm finds the same.
        chosen = best_perfect_matching(best_NN, min(num_pairs, len(best_NN) // 2))
    else:
        chosen = best_matching(best_NN, usable_NN, num_pairs)
    edges = [
        (int(best_NN[i, j]), (j, i) if teaches_NN[j, i] else (i, j))
        for i, j in ((min(pair), max(pair)) for pair in chosen)
    ]
    return [pair for _, pair in sorted(edges, key=lambda edge: (-edge[0], edge[1]))]
