"""Greedy matching of many agents without sorting all pairs.

Axes: N agents, T teachers, S students, b a block of teachers, p candidate pairs; scores are
``[teacher, student]``.
"""

import numpy as np

from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.weights import INADMISSIBLE, Weights, integer_weights, largest_magnitude

_BLOCK = 1 << 18
"""Scores that are converted to weights at once: 2 MB, which fit into the cache."""

_CANDIDATE_SHARE = 32
"""A greedy pass sorts about 1 / 32 of the remaining pairs."""

_SAMPLE = 1 << 16
"""Weights that the threshold of a greedy pass is estimated from."""


def greedy_pairs(
    scores_TS: Array,
    teachers_T: Indices,
    students_S: Indices,
    num_pairs: int,
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    """Return disjoint pairs of the given agents in descending score, best pair first.

    Each pass sorts the pairs above a threshold, takes the disjoint ones in order, and removes their
    agents. A pair shares an agent with fewer than 2 (T + S) others, so a pass that sorts 1 / 32 of
    the pairs takes at least 1 / 128 of the agents, and about a quarter in practice.

    Args:
        scores_TS: Scores; ``-inf`` is inadmissible, and so is an agent with itself.
        teachers_T: Agents that may teach, ascending.
        students_S: Agents that may learn, ascending; may overlap with the teachers.
        num_pairs: The largest number of pairs.
        rng: Breaks ties.
    """
    weights_TS = _weights(scores_TS, teachers_T, students_S, rng)
    num_agents = 1 + int(max(teachers_T.max(initial=0), students_S.max(initial=0)))
    # Two views of the same memory: one filters arrays, the other looks up single agents.
    free = bytearray(b"\1") * num_agents
    free_N = np.frombuffer(free, dtype=np.bool_)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < num_pairs and weights_TS.size:
        threshold = _threshold(weights_TS)
        candidates_p = np.flatnonzero(weights_TS >= threshold)
        order_p = _descending(weights_TS.reshape(-1)[candidates_p])
        rows_p, columns_p = np.divmod(candidates_p[order_p], weights_TS.shape[1])
        _take(teachers_T[rows_p], students_S[columns_p], num_pairs, free, free_N, pairs)
        if threshold == INADMISSIBLE + 1:
            break  # every admissible pair was a candidate
        rows_T, columns_S = free_N[teachers_T], free_N[students_S]
        teachers_T, students_S = teachers_T[rows_T], students_S[columns_S]
        weights_TS = weights_TS[np.ix_(rows_T, columns_S)]
    return pairs


def _descending(weights_p: Weights) -> Indices:
    """Return the stable order of descending weight."""
    order_p = np.argsort(weights_p)[::-1]  # several times faster than a stable sort
    sorted_p = weights_p[order_p]
    if (sorted_p[1:] == sorted_p[:-1]).any():
        return np.argsort(-weights_p, kind="stable")
    return order_p


def _threshold(weights_TS: Weights) -> int:
    """Return a weight that about 1 / 32 of all exceed, estimated from an evenly spaced sample."""
    weights_n = weights_TS.reshape(-1)
    stride = max(1, len(weights_n) // _SAMPLE)
    # Coprime with the row length, so that the sample covers all columns.
    while stride > 1 and np.gcd(stride, weights_TS.shape[1]) > 1:
        stride += 1
    sample_n = weights_n[::stride]
    rank = len(sample_n) - 1 - len(sample_n) // _CANDIDATE_SHARE
    if len(weights_n) <= _SAMPLE // 8:
        return INADMISSIBLE + 1  # few enough to sort them all
    return max(int(np.partition(sample_n, rank)[rank]), INADMISSIBLE + 1)


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
        # Most candidates of a late chunk are taken; arrays drop them faster than a loop.
        chunk_teachers, chunk_students = teachers_p[chunk], students_p[chunk]
        free_p = free_N[chunk_teachers] & free_N[chunk_students]
        left = zip(chunk_teachers[free_p].tolist(), chunk_students[free_p].tolist(), strict=True)
        for teacher, student in left:
            if free[teacher] and free[student]:
                free[teacher] = free[student] = 0
                pairs.append((teacher, student))
                if len(pairs) == num_pairs:
                    return
        begin, size = begin + size, min(2 * size, 1 << 15)


def _weights(
    scores_TS: Array, teachers_T: Indices, students_S: Indices, rng: np.random.Generator
) -> Weights:
    """Return the scores as integers, a block at a time; an agent with itself is inadmissible."""
    size = max(1, _BLOCK // max(1, len(students_S)))
    blocks = [slice(begin, begin + size) for begin in range(0, len(teachers_T), size)]

    def allowed(block: slice) -> Mask:
        allowed_bS = scores_TS[block] != -np.inf
        allowed_bS &= teachers_T[block, None] != students_S
        return np.asarray(allowed_bS)

    largest = max((largest_magnitude(scores_TS[b], allowed(b)) for b in blocks), default=0.0)
    weights_TS = np.empty(scores_TS.shape, dtype=np.int64)
    for block in blocks:
        weights_TS[block] = integer_weights(scores_TS[block], allowed(block), largest, rng)
    return weights_TS
