"""Matchings: from the scores of ordered pairs to disjoint ones, greedily or exactly.

Both treat scores as equal when they differ by less than 2^-36 of the largest magnitude: well above
the rounding of a score, well below anything that a reward can tell. Equal scores are ordered by the
generator, so no agent gains by its index. Axes: N agents, T teachers, S students, p candidate
pairs; scores are ``[teacher, student]``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.base import Matching
from knexa.matchmaking.blossom import Weights, best_matching, best_perfect_matching
from knexa.matchmaking.pair_scores import Array, Indices, Mask, ScoresError

_SCALE_BITS = 60  # scores become integers of at most 60 bits, more than a double's mantissa holds
_TIE_BITS = 24  # and the lowest 24 of them are where ties are broken

_INADMISSIBLE = np.iinfo(np.int64).min

_BLOCK = 1 << 18
"""Scores that are turned to weights at once: 2 MB, inside the cache."""

_CANDIDATE_SHARE = 32
"""A greedy pass sorts about one in so many of the pairs that are left."""

_SAMPLE = 1 << 16
"""Weights that the threshold of a greedy pass is estimated from."""


@dataclass(frozen=True, kw_only=True)
class Greedy(Matching):
    """The paper's matching: take pairs in descending score, skipping agents already taken."""

    name: ClassVar[str] = "greedy"

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``Matching``).

        Raises:
            ScoresError: When the scores are not a square matrix, or one is NaN or +inf.
        """
        _check_square(scores_NN)
        agents_N = np.arange(len(scores_NN))
        return greedy_pairs(scores_NN, agents_N, agents_N, num_pairs, rng)


@dataclass(frozen=True, kw_only=True)
class Exact(Matching):
    """Maximum-weight matching: the disjoint pairs with the largest total score.

    Takes exactly ``num_pairs`` pairs, or as many as the admissible scores allow, also where scores
    are negative: a round's number of exchanges is the federation's choice, not the policy's.
    """

    name: ClassVar[str] = "exact"

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return the best disjoint (teacher, student) pairs (see ``Matching``).

        Raises:
            ScoresError: When the scores are not a square matrix, or one is NaN or +inf.
        """
        return max_weight_pairs(scores_NN, num_pairs, rng)


@dataclass(frozen=True, kw_only=True)
class Auto(Matching):
    """Exact in small federations, greedy in large ones, by the number of agents alone.

    Attributes:
        exact_up_to: The largest number of agents that are matched exactly.
    """

    name: ClassVar[str] = "auto"

    exact_up_to: Annotated[int, Field(ge=0)] = 512

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs (see ``Matching``).

        Raises:
            ScoresError: When the scores are not a square matrix, or one is NaN or +inf.
        """
        matching = Exact() if len(scores_NN) <= self.exact_up_to else Greedy()
        return matching.match(scores_NN, num_pairs, rng)


def greedy_pairs(
    scores_TS: Array,
    teachers_T: Indices,
    students_S: Indices,
    num_pairs: int,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Return disjoint pairs of the given agents in descending score, best pair first.

    Sorting every pair is what costs. Each pass sorts only those above a threshold, takes the
    disjoint ones among them, and drops the agents that are taken; what lies below the threshold
    waits. A pair shares an agent with fewer than 2 (T + S) others, so a pass that sorts 1 / 32 of
    the pairs takes at least 1 / 128 of the agents, and about a quarter of them in practice.

    Args:
        scores_TS: Scores; ``-inf`` is inadmissible, and so is an agent with itself.
        teachers_T: Agents that may teach, ascending.
        students_S: Agents that may learn, ascending; may overlap with the teachers.
        num_pairs: The largest number of pairs.
        rng: Breaks ties.
    """
    weights_TS = _integer_weights(scores_TS, teachers_T, students_S, rng)
    num_agents = 1 + int(max(teachers_T.max(initial=0), students_S.max(initial=0)))
    # One memory, two views: arrays are filtered by one, single agents looked up in the other.
    free = bytearray(b"\1") * num_agents
    free_N = np.frombuffer(free, dtype=np.bool_)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < num_pairs and weights_TS.size:
        threshold = _threshold(weights_TS)
        candidates_p = np.flatnonzero(weights_TS >= threshold)
        order_p = _descending(weights_TS.reshape(-1)[candidates_p])
        rows_p, columns_p = np.divmod(candidates_p[order_p], weights_TS.shape[1])
        _take(teachers_T[rows_p], students_S[columns_p], num_pairs, free, free_N, pairs)
        if threshold == _INADMISSIBLE + 1:
            break  # every admissible pair was a candidate
        rows_T, columns_S = free_N[teachers_T], free_N[students_S]
        teachers_T, students_S = teachers_T[rows_T], students_S[columns_S]
        weights_TS = weights_TS[np.ix_(rows_T, columns_S)]
    return pairs


def _descending(weights_p: Weights) -> Indices:
    """Return the order of descending weight, equal ones in their own order."""
    order_p = np.argsort(weights_p)[::-1]  # several times faster than a stable sort
    sorted_p = weights_p[order_p]
    if (sorted_p[1:] == sorted_p[:-1]).any():
        return np.argsort(-weights_p, kind="stable")
    return order_p


def _threshold(weights_TS: Weights) -> int:
    """Return a weight that about 1 / 32 of all reach, at least the lowest admissible one.

    Read off an evenly spaced sample; a poor estimate costs time, not correctness.
    """
    weights_n = weights_TS.reshape(-1)
    stride = max(1, len(weights_n) // _SAMPLE)
    # Coprime with the row length, so that the sample does not walk down a few columns.
    while stride > 1 and np.gcd(stride, weights_TS.shape[1]) > 1:
        stride += 1
    sample_n = weights_n[::stride]
    rank = len(sample_n) - 1 - len(sample_n) // _CANDIDATE_SHARE
    if len(weights_n) <= _SAMPLE // 8:
        return _INADMISSIBLE + 1  # few enough to sort them all
    return max(int(np.partition(sample_n, rank)[rank]), _INADMISSIBLE + 1)


def _take(
    teachers_p: Indices,
    students_p: Indices,
    num_pairs: int,
    free: bytearray,
    free_N: Mask,
    pairs: list[tuple[int, int]],
) -> None:
    """Append the candidates, best first, whose agents are free when their turn comes."""
    begin, size = 0, 128
    while begin < len(teachers_p) and len(pairs) < num_pairs:
        chunk = slice(begin, begin + size)
        # Most candidates of a late chunk are dead already; arrays drop them faster than a loop.
        alive_p = free_N[teachers_p[chunk]] & free_N[students_p[chunk]]
        teachers, students = (
            teachers_p[chunk][alive_p].tolist(),
            students_p[chunk][alive_p].tolist(),
        )
        for teacher, student in zip(teachers, students, strict=True):
            if free[teacher] and free[student]:
                free[teacher] = free[student] = 0
                pairs.append((teacher, student))
                if len(pairs) == num_pairs:
                    return
        begin, size = begin + size, min(2 * size, 1 << 15)


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
    _check_square(scores_NN)
    agents_N = np.arange(len(scores_NN))
    weights_NN = _integer_weights(scores_NN, agents_N, agents_N, rng)
    # Of two agents only the better role can be in a best matching. Where both roles weigh the same
    # (without rng, or once in 2^24) the lower index teaches.
    teaches_NN = weights_NN > weights_NN.T
    best_NN = np.maximum(weights_NN, weights_NN.T)
    usable_NN = best_NN != _INADMISSIBLE
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


def _check_square(scores_NN: Array) -> None:
    if scores_NN.ndim != 2 or scores_NN.shape[0] != scores_NN.shape[1]:
        raise ScoresError(f"scores must be a square matrix, not of shape {scores_NN.shape}")


def _integer_weights(
    scores_TS: Array,
    teachers_T: Indices,
    students_S: Indices,
    rng: np.random.Generator | None,
) -> Weights:
    """Return the scores as integers in the same order, with noise below 2^-36 where rng is given.

    Integers, because their sums are exact in any order, and the blossom algorithm takes no other.
    Inadmissible pairs, and agents with themselves, are the least integer.

    Raises:
        ScoresError: When a score that is not an agent's with itself is NaN or +inf.
    """
    num_students = len(students_S)
    size = max(1, _BLOCK // max(1, num_students))
    blocks = [slice(begin, begin + size) for begin in range(0, len(teachers_T), size)]

    def admissible(block: slice) -> tuple[Array, Mask]:
        scores_bS = scores_TS[block]
        allowed_bS = scores_bS != -np.inf
        allowed_bS &= teachers_T[block, None] != students_S
        return np.where(allowed_bS, scores_bS, 0.0), allowed_bS

    largest = 0.0
    for block in blocks:
        values_bS, _ = admissible(block)
        largest = float(np.maximum(largest, np.abs(values_bS).max(initial=0.0)))
    if not np.isfinite(largest):
        raise ScoresError("scores must be finite, or -inf where a pair is inadmissible")
    weights_TS = np.empty(scores_TS.shape, dtype=np.int64)
    for block in blocks:
        values_bS, allowed_bS = admissible(block)
        if largest > 0.0:
            values_bS /= largest  # first, so that the product is finite for every finite score
            values_bS *= 2.0**_SCALE_BITS
            np.rint(values_bS, out=values_bS)
        weights_bS = values_bS.astype(np.int64)
        if rng is not None:
            weights_bS += rng.integers(0, 2**_TIE_BITS, size=weights_bS.shape)
        weights_TS[block] = np.where(allowed_bS, weights_bS, _INADMISSIBLE)
    return weights_TS
