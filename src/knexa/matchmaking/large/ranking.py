"""The best teacher of every student and topic, without the N^2 T scores of all arms.

Where a student's scores are a teacher's worth on the topic, times a number of the student that is
not negative, all students see the teachers of a topic in the same order; they differ in whom they
may ask. Axes: N agents, T topics, g teachers of equal worth, s students who wait, b of them.
"""

import numpy as np

from knexa.matchmaking.arrays import Array, Indices, Mask

NOBODY = -1
"""The teacher of a student and topic that may ask nobody."""

_LEVEL_BITS = 36
"""Worths are equal where they differ by less than 2^-36 of the largest, as scores are."""

_TRIES = 4
"""Draws among equals before those who drew someone that they may not ask are counted out."""

_BLOCK = 1 << 22
"""Pairs of a teacher and a student that are counted out at once: 32 MB."""


def best_teachers(
    worths_NT: Array, missing_NT: Array, admissible_NN: Mask | None, rng: np.random.Generator
) -> Indices:
    """Return teachers_NT ``[student, topic]`` with the largest worth that each student may ask.

    Equal worths are drawn from, evenly and by every student anew. A student that misses nothing
    draws from all teachers: whoever it asks is worth nothing to it.

    Args:
        worths_NT: Finite worths ``[teacher, topic]``.
        missing_NT: What they are multiplied by, ``[student, topic]``, at least 0.
        admissible_NN: Which ordered pairs may meet; None is all. Nobody asks itself.
        rng: Breaks ties.
    """
    num_agents, num_topics = worths_NT.shape
    teachers_NT = np.full((num_agents, num_topics), NOBODY)
    students_n = np.arange(num_agents)
    if admissible_NN is not None:  # those who may ask somebody
        students_n = np.flatnonzero(admissible_NN.sum(axis=0) > admissible_NN.diagonal())
    largest = float(np.abs(worths_NT).max(initial=0.0)) or 1.0
    levels_TN = np.rint(worths_NT.T / largest * 2.0**_LEVEL_BITS)
    for topic, levels_N in enumerate(levels_TN):
        ranked_N = np.argsort(-levels_N, kind="stable")
        ends = [*(np.flatnonzero(np.diff(levels_N[ranked_N])) + 1).tolist(), num_agents]
        lacks_n = missing_NT[students_n, topic] > 0.0
        for waiting_s, ends_g in ((students_n[lacks_n], ends), (students_n[~lacks_n], ends[-1:])):
            begin = 0
            for end in ends_g:
                if not len(waiting_s):
                    break
                found_s = _drawn(ranked_N[begin:end], waiting_s, admissible_NN, rng)
                teachers_NT[waiting_s, topic] = found_s
                begin, waiting_s = end, waiting_s[found_s == NOBODY]
    return teachers_NT


def _drawn(
    group_g: Indices, students_s: Indices, admissible_NN: Mask | None, rng: np.random.Generator
) -> Indices:
    """Return teachers_s of the group, each drawn evenly from those that the student may ask."""
    teachers_s = np.full(len(students_s), NOBODY)
    for _ in range(_TRIES if len(group_g) > 1 else 0):
        open_s = np.flatnonzero(teachers_s == NOBODY)
        drawn_s = group_g[rng.integers(len(group_g), size=len(open_s))]
        is_allowed_s = _allowed(drawn_s, students_s[open_s], admissible_NN)
        teachers_s[open_s[is_allowed_s]] = drawn_s[is_allowed_s]
    open_s = np.flatnonzero(teachers_s == NOBODY)
    size = max(1, _BLOCK // len(group_g))
    for begin in range(0, len(open_s), size):
        open_b = open_s[begin : begin + size]
        allowed_gb = _allowed(group_g[:, None], students_s[None, open_b], admissible_NN)
        counts_gb = allowed_gb.cumsum(axis=0)
        places_b = rng.integers(np.maximum(counts_gb[-1], 1))
        chosen_b = group_g[(counts_gb > places_b).argmax(axis=0)]
        teachers_s[open_b] = np.where(counts_gb[-1] > 0, chosen_b, NOBODY)
    return teachers_s


def _allowed(teachers: Indices, students: Indices, admissible_NN: Mask | None) -> Mask:
    """Return which students may ask which teachers; the two are broadcast."""
    others = teachers != students
    allowed = others if admissible_NN is None else others & admissible_NN[teachers, students]
    return np.asarray(allowed)
