"""Selections that are no pairings: one teacher a student, one a student and topic, everybody.

Equal scores (see ``weights.py``) are ordered at random. Axes: N agents, T topics, B + 1 numbers of
answers; scores are ``[teacher, student]`` or ``[teacher, student, topic]``.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.large.ranking import NOBODY, best_teachers
from knexa.matchmaking.plans import Arm, Selection
from knexa.matchmaking.weights import (
    INADMISSIBLE,
    ScoresError,
    Weights,
    integer_weights,
    largest_magnitude,
)

_SPARE_BITS = 6  # room for sums of up to 2^6 topics' weights in 64 bits


@dataclass(frozen=True, kw_only=True)
class OneToMany(Selection):
    """Each student has one teacher, and a teacher has as many students as want it.

    Attributes:
        capacity: The most students of a teacher; None is any number. With it the total score is the
            largest of all plans that serve as many students as can be served (Hungarian algorithm).
    """

    name: ClassVar[str] = "one_to_many"

    capacity: Annotated[int, Field(ge=1)] | None = None

    def select(
        self, scores: Array, topics: TransferTopics, num_pairs: int, rng: np.random.Generator | None
    ) -> list[Arm]:
        """Return every student's best teacher (see ``Selection``); ``num_pairs`` is ignored."""
        weights_NN = _weights(scores, rng)
        if self.capacity is None or self.capacity >= len(scores) - 1:
            teachers_N = weights_NN.argmax(axis=0)
        else:
            teachers_N = _assigned(weights_NN, self.capacity)
        return [
            (int(teacher), student)
            for student, teacher in enumerate(teachers_N)
            if weights_NN[teacher, student] != INADMISSIBLE
        ]

    def expected(self, rewards: Array, topics: TransferTopics) -> float | None:
        """Return the sum of every student's mean reward over its teachers (see ``Selection``).

        With a capacity only where all arms are admissible, so that all are equally likely.
        """
        admissible_NN = np.isfinite(rewards)
        all_may_meet = admissible_NN.sum() == len(rewards) * (len(rewards) - 1)
        if self.capacity is not None and not all_may_meet:
            return None
        return float(_means(rewards).sum())


@dataclass(frozen=True, kw_only=True)
class Routed(Selection):
    """Each student asks one teacher about a topic, and about each topic another one if it pays.

    Attributes:
        budget: The most answers that a student may ask for in a round; None is any number. With it
            topics compete: those are asked about whose scores have the largest total (a knapsack,
            solved exactly), and with what is left the best of the others, as long as they fit. A
            topic counts with all its transfer problems, also in a round that asks about some only.
    """

    name: ClassVar[str] = "routed"
    by_topic: ClassVar[bool] = True
    ranks: ClassVar[bool] = True

    budget: Annotated[int, Field(ge=1)] | None = None

    def select(
        self, scores: Array, topics: TransferTopics, num_pairs: int, rng: np.random.Generator | None
    ) -> list[Arm]:
        """Return every student's best teacher of each topic that it asks about, student by student.

        ``num_pairs`` is ignored (see ``Selection``).
        """
        weights_NNT = _weights(scores, rng)
        teachers_NT, best_NT = weights_NNT.argmax(axis=0), weights_NNT.max(axis=0)
        asked_NT = best_NT != INADMISSIBLE
        if self._binds(topics):
            assert self.budget is not None
            asked_NT = _within(best_NT, topics.sizes_T, self.budget)
        return _arms(teachers_NT, asked_NT)

    def draw(
        self, admissible: Mask, topics: TransferTopics, num_pairs: int, rng: np.random.Generator
    ) -> list[Arm]:
        """Return a random teacher for each topic of a random set of topics (see ``Selection``).

        The set is uniformly drawn from those within the budget to which no topic could be added.
        """
        draws_NNT = np.where(_without_self(admissible), rng.random(admissible.shape), -1.0)
        teachers_NT, asked_NT = draws_NNT.argmax(axis=0), draws_NNT.max(axis=0) >= 0.0
        return self._drawn(teachers_NT, asked_NT, topics, rng)

    def _drawn(
        self,
        teachers_NT: Indices,
        asked_NT: Mask,
        topics: TransferTopics,
        rng: np.random.Generator,
    ) -> list[Arm]:
        """Return the drawn teachers of a drawn set of topics."""
        if self._binds(topics):
            assert self.budget is not None
            sets_ST = _maximal_sets(topics.sizes, self.budget)
            asked_NT &= sets_ST[rng.integers(len(sets_ST), size=len(asked_NT))]
        return _arms(teachers_NT, asked_NT)

    def select_ranked(
        self,
        worths_NT: Array,
        missing_NT: Array,
        admissible_NN: Mask | None,
        topics: TransferTopics,
        rng: np.random.Generator,
        *,
        abstain: bool = False,
    ) -> tuple[list[Arm], list[float]]:
        """Return what ``select`` does, and the scores, by ranks (see ``Selection``)."""
        if not np.isfinite(worths_NT).all():
            raise ScoresError("scores must be finite, or -inf where a pair is inadmissible")
        teachers_NT = best_teachers(worths_NT, missing_NT, admissible_NN, rng)
        best_NT = missing_NT * worths_NT[teachers_NT, np.arange(worths_NT.shape[1])]
        asked_NT = (teachers_NT != NOBODY) & (best_NT > 0.0 if abstain else True)
        if self._binds(topics):
            assert self.budget is not None
            largest = largest_magnitude(best_NT, asked_NT)
            weights_NT = integer_weights(best_NT, asked_NT, largest, rng)
            asked_NT = _within(weights_NT, topics.sizes_T, self.budget)
        return _arms(teachers_NT, asked_NT), best_NT[asked_NT].tolist()

    def draw_ranked(
        self,
        num_agents: int,
        admissible_NN: Mask | None,
        topics: TransferTopics,
        rng: np.random.Generator,
    ) -> list[Arm]:
        """Return what ``draw`` does, without N^2 T draws (see ``Selection``)."""
        equal_NT = np.zeros((num_agents, len(topics.categories)))
        teachers_NT = best_teachers(equal_NT, equal_NT, admissible_NN, rng)
        return self._drawn(teachers_NT, teachers_NT != NOBODY, topics, rng)

    def affordable(self, times_NT: Indices, topics: TransferTopics) -> Mask:
        """Return the topics that a budget leaves room for (see ``Selection``)."""
        if not self._binds(topics):
            return super().affordable(times_NT, topics)
        assert self.budget is not None
        return _within(-times_NT, topics.sizes_T, self.budget)

    def expected(self, rewards: Array, topics: TransferTopics) -> float | None:
        """Return the sum of the mean rewards over teachers, as often as topics are drawn."""
        means_NT = _means(rewards)
        if self._binds(topics):
            assert self.budget is not None
            means_NT = means_NT * _maximal_sets(topics.sizes, self.budget).mean(axis=0)
        return float(means_NT.sum())

    def _binds(self, topics: TransferTopics) -> bool:
        return self.budget is not None and self.budget < sum(topics.sizes)


@dataclass(frozen=True, kw_only=True)
class Broadcast(Selection):
    """Everybody teaches everybody about everything, every round: what a public pool would give.

    N - 1 times the answers of one teacher a student; there is nothing to choose.
    """

    name: ClassVar[str] = "broadcast"
    chooses: ClassVar[bool] = False

    def select(
        self, scores: Array, topics: TransferTopics, num_pairs: int, rng: np.random.Generator | None
    ) -> list[Arm]:
        """Return all admissible pairs, student by student (see ``Selection``)."""
        students_K, teachers_K = np.nonzero(_without_self(scores != -np.inf).T)
        return list(zip(teachers_K.tolist(), students_K.tolist(), strict=True))


def _arms(teachers_NT: Indices, asked_NT: Mask) -> list[Arm]:
    """Return the arms of the topics that are asked about, student by student."""
    students_K, topics_K = np.nonzero(asked_NT)
    columns = (teachers_NT[students_K, topics_K], students_K, topics_K)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _without_self(allowed: Mask) -> Mask:
    """Return the mask without the arms in which an agent would teach itself."""
    allowed = allowed.copy()
    everyone = np.arange(len(allowed))
    allowed[everyone, everyone] = False
    return allowed


def _weights(scores: Array, rng: np.random.Generator | None) -> Weights:
    """Return the scores as integer weights, ``INADMISSIBLE`` where not allowed."""
    allowed = _without_self(scores != -np.inf)
    return integer_weights(scores, allowed, largest_magnitude(scores, allowed), rng)


def _means(rewards: Array) -> Array:
    """Return the mean over the admissible teachers of every student (and topic); 0 without any."""
    known = _without_self(np.isfinite(rewards))
    totals = np.where(known, rewards, 0.0).sum(axis=0)
    return np.asarray(totals / np.maximum(known.sum(axis=0), 1))


def _assigned(weights_NN: Weights, capacity: int) -> Indices:
    """Return teachers_N of the best assignment in which no teacher has more students."""
    from scipy.optimize import linear_sum_assignment

    num_agents = len(weights_NN)
    allowed_NN = weights_NN != INADMISSIBLE
    values_NN = np.where(allowed_NN, weights_NN / 2.0**60, 0.0)  # in about [-1, 1]
    # Whoever can be served is: leaving one out costs more than all scores together can earn.
    values_NN[~allowed_NN] = -4.0 * (num_agents + 1)
    slots_SN = np.repeat(values_NN, capacity, axis=0)
    slots_K, students_K = linear_sum_assignment(slots_SN, maximize=True)
    teachers_N = np.zeros(num_agents, dtype=np.int64)
    teachers_N[students_K] = slots_K // capacity
    return teachers_N


def _within(best_NT: Weights, sizes_T: Indices, budget: int) -> Mask:
    """Return which topics each student asks about, asked_NT, by the weight of their best teacher.

    Of the topics with positive weights those with the largest total, by dynamic programming over
    answers; of the others, best first, what still fits.
    """
    num_agents, num_topics = best_NT.shape
    gains_NT = np.where(best_NT > 0, best_NT >> _SPARE_BITS, 0)
    totals_NB = np.zeros((num_agents, budget + 1), dtype=np.int64)
    takes_TNB = np.zeros((num_topics, num_agents, budget + 1), dtype=bool)
    for topic, size in enumerate(sizes_T.tolist()):
        if size > budget:
            continue
        with_it_NB = totals_NB[:, : budget + 1 - size] + gains_NT[:, topic, None]
        takes_TNB[topic, :, size:] = with_it_NB > totals_NB[:, size:]
        totals_NB[:, size:] = np.maximum(totals_NB[:, size:], with_it_NB)
    asked_NT = np.zeros((num_agents, num_topics), dtype=bool)
    left_N, everyone = np.full(num_agents, budget), np.arange(num_agents)
    for topic in reversed(range(num_topics)):
        asked_NT[:, topic] = takes_TNB[topic, everyone, left_N]
        left_N -= np.where(asked_NT[:, topic], sizes_T[topic], 0)
    # The least weight has no negative, and comes first: it is not asked about anyway.
    for topics_N in np.argsort(-best_NT, axis=1, kind="stable").T:
        fits_N = (best_NT[everyone, topics_N] != INADMISSIBLE) & (sizes_T[topics_N] <= left_N)
        fits_N &= ~asked_NT[everyone, topics_N]
        asked_NT[everyone, topics_N] |= fits_N
        left_N -= np.where(fits_N, sizes_T[topics_N], 0)
    return asked_NT


@lru_cache(maxsize=8)
def _maximal_sets(sizes: tuple[int, ...], budget: int) -> NDArray[np.bool_]:
    """Return every set of topics within the budget to which none could be added, sets_ST."""
    sets_ST = np.array(list(product((False, True), repeat=len(sizes))), dtype=bool)
    left_S = budget - sets_ST @ np.array(sizes)
    fits_ST = ~sets_ST & (np.array(sizes) <= left_S[:, None])
    return np.asarray(sets_ST[(left_S >= 0) & ~fits_ST.any(axis=1)])
