"""What a plan is made of: arms, directives, the selection that says which may stand together.

Axes: N agents, T topics, K arms. Matrices over ordered pairs are indexed ``[teacher, student]``,
and where arms have topics ``[teacher, student, topic]``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.arrays import Array, Indices, Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """Who teaches whom, how, and what.

    Attributes:
        id: ``r<round>-<index>``.
        teachers: Roster indices.
        students: Roster indices.
        protocol: Name of the exchange protocol.
        score: What the policy chose it by.
        topics: Categories of transfer problems that the teachers are asked for; None is all.
    """

    id: str
    teachers: tuple[int, ...]
    students: tuple[int, ...]
    protocol: str
    score: float | None = None
    topics: tuple[int, ...] | None = None

    @property
    def pair(self) -> tuple[int, int] | None:
        """(teacher, student) where the directive is a peer-to-peer pair, else None."""
        if len(self.teachers) == 1 and len(self.students) == 1:
            return self.teachers[0], self.students[0]
        return None


Plan = tuple[Directive, ...]


Arm = tuple[int, ...]
"""(teacher, student), or (teacher, student, topic) with the topic's place in ``TransferTopics``."""


class Selection(ABC):
    """Says which sets of arms a round may hold, and chooses the best by their scores.

    Base of every option of ``matching=``: of ``Matching``, whose sets are disjoint pairs, and of
    what ``selections.py`` holds.

    Class attributes:
        by_topic: Whether an arm is a teacher, a student and a topic; else it is an ordered pair.
        is_pairing: Whether no agent is in two arms.
        chooses: Whether there is anything to choose; else every round holds all arms.
        is_lazy: Whether it needs the scores of few pairs only (``large.prefilter.LazyMatching``).
        ranks: Whether it has ``select_ranked`` and ``draw_ranked``, for large federations.
    """

    by_topic: ClassVar[bool] = False
    is_pairing: ClassVar[bool] = False
    chooses: ClassVar[bool] = True
    is_lazy: ClassVar[bool] = False
    ranks: ClassVar[bool] = False

    @abstractmethod
    def select(
        self, scores: Array, topics: TransferTopics, num_pairs: int, rng: np.random.Generator | None
    ) -> Sequence[Arm]:
        """Return the admissible set of arms with the largest total score.

        Args:
            scores: Scores [N, N], or [N, N, T] where arms have topics; ``-inf`` is inadmissible,
                and nobody teaches itself.
            topics: The topics of the transfer set.
            num_pairs: The largest number of pairs; only where these are disjoint.
            rng: Breaks ties at random; None leaves their order open.

        Raises:
            ScoresError: When a score is NaN or +inf.
        """

    def select_ranked(
        self,
        worths_NT: Array,
        missing_NT: Array,
        admissible_NN: Mask | None,
        topics: TransferTopics,
        rng: np.random.Generator,
        *,
        abstain: bool = False,
    ) -> tuple[Sequence[Arm], Sequence[float]]:
        """Return the arms that ``select`` chooses, and their scores, where scores are products.

        A score is worth[teacher, topic] times missing[student, topic], so that the teachers of a
        topic rank alike for all students.

        Args:
            worths_NT: What a teacher is worth on a topic, ``[teacher, topic]``.
            missing_NT: How much of the topic a student lacks, ``[student, topic]``, at least 0.
            admissible_NN: Which ordered pairs may meet; None is all.
            topics: The topics of the transfer set.
            rng: Breaks ties at random.
            abstain: Whether arms whose score is not positive are left out.

        Raises:
            ScoresError: When a worth is not finite.
        """
        raise NotImplementedError

    def draw(
        self, admissible: Mask, topics: TransferTopics, num_pairs: int, rng: np.random.Generator
    ) -> Sequence[Arm]:
        """Return a random admissible set of arms: the policy of ``matchmaker=random``.

        ``admissible`` says which arms are, in the shape of scores.
        """
        scores = np.where(admissible, rng.random(admissible.shape), -np.inf)
        return self.select(scores, topics, num_pairs, rng)

    def draw_ranked(
        self,
        num_agents: int,
        admissible_NN: Mask | None,
        topics: TransferTopics,
        rng: np.random.Generator,
    ) -> Sequence[Arm]:
        """Return what ``draw`` does, for ``admissible_NN`` as in ``select_ranked``."""
        raise NotImplementedError

    def affordable(self, times_NT: Indices, topics: TransferTopics) -> Mask:
        """Return which topics every agent may ask one teacher about at once, asked_NT.

        Args:
            times_NT: How often it has asked about each; the least asked come first.
            topics: The topics of the transfer set.
        """
        return np.ones(times_NT.shape, dtype=bool)

    def expected(self, rewards: Array, topics: TransferTopics) -> float | None:
        """Return the expected total reward of ``draw``; None where it has no closed form.

        ``rewards`` are in the shape of scores, ``-inf`` where inadmissible.
        """
        return None

    def arm_of(self, directive: Directive, topics: TransferTopics) -> Arm | None:
        """Return the arm that a directive is; None where it is none."""
        pair, asked = directive.pair, directive.topics
        if pair is None or pair[0] == pair[1]:
            return None
        if not self.by_topic:
            return pair
        if asked is None or len(asked) != 1 or asked[0] not in topics.categories:
            return None
        return (*pair, topics.categories.index(asked[0]))


class Matching(Selection):
    """Chooses disjoint ordered pairs by their scores. Override ``match``."""

    is_pairing: ClassVar[bool] = True

    def select(
        self, scores: Array, topics: TransferTopics, num_pairs: int, rng: np.random.Generator | None
    ) -> Sequence[Arm]:
        """Return the pairs that ``match`` finds (see ``Selection``)."""
        return self.match(scores, num_pairs, np.random.default_rng(0) if rng is None else rng)

    @abstractmethod
    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs, in descending score.

        Args:
            scores_NN: Scores ``[teacher, student]``; ``-inf`` is inadmissible, the diagonal is
                ignored.
            num_pairs: The largest number of pairs.
            rng: Breaks ties at random.

        Raises:
            ScoresError: When the scores are not a square matrix, or one is NaN or +inf.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A receiver's report on one directive.

    Attributes:
        directive_id: The directive.
        reward: The scalar reward, raw.
        answers: Counts of the answers that one teacher brought one student, by topic; empty where
            rewards are not of answers.
    """

    directive_id: str
    reward: float
    answers: tuple[TopicAnswers, ...] = ()
