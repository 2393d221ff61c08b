"""Base classes and data types of matchmaking: directives, plans, round views, matchmakers.

A policy is one class: ``propose`` returns the round's plan, ``learn`` (optional) takes rewards.
Axes: N agents, K pairs or feedbacks, F profile features, d context features. Matrices over ordered
pairs are indexed ``[teacher, student]``.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from knexa.errors import UserError
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.contexts import Context
from knexa.matchmaking.large import LARGE
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.weights import ScoresError

NEEDS = frozenset({"probes", "peer losses"})
"""What a policy may ask to see beyond profiles and rewards."""


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


class Matching(ABC):
    """Chooses disjoint ordered pairs by their scores. Base of every option of ``matching=``.

    Class attributes:
        is_lazy: Whether it needs the scores of few pairs only (``large.prefilter.LazyMatching``).
    """

    is_lazy: ClassVar[bool] = False

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


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Raw rewards of this round by counterfactual trials on the agents' snapshot.

    Attributes:
        rewards_NN: Reward of each ordered pair; NaN on the diagonal, ``-inf`` where the protocol
            cannot serve the pair.
        no_teacher_N: Reward of as many steps without a teacher: on private data, and on earlier
            packages where the protocol rehearses them.
    """

    rewards_NN: Array
    no_teacher_N: Array


@dataclass(frozen=True, kw_only=True)
class RoundView:
    """All that a matchmaker may see in a round.

    Attributes:
        round: 1-based round number.
        profiles_NF: Profiles, one row an agent, features in about [0, 1].
        context: The configured context.
        matching: The configured matching.
        num_pairs: K_p, the largest number of pairs of a plan.
        protocol: Name of the exchange protocol that directives carry.
        rng: The round's generator, for every draw the matchmaker makes.
        ledger: The CPM's record of past exchanges.
        admissible_NN: Which ordered pairs may be matched: the protocol can serve them
            (``exchange=logits`` needs equal tokenizers) and both agents are available; None is all.
        available_N: Which agents are present and not busy; None is all of them. A plan may name no
            others.
        mutual: Each pair teaches both ways: two directives a pair, matched by the sum of both
            scores.
        probe: Counterfactual rewards; only for matchmakers that declare ``needs = {"probes"}``.
        peer_losses_NN: The student's loss on the teacher's text, in nats, diagonal NaN; only for
            matchmakers that declare ``needs = {"peer losses"}``.
    """

    round: int
    profiles_NF: Array
    context: Context
    matching: Matching
    num_pairs: int
    protocol: str
    rng: np.random.Generator
    ledger: Ledger = field(default_factory=Ledger)
    admissible_NN: Mask | None = None
    available_N: Mask | None = None
    mutual: bool = False
    probe: Probe | None = None
    peer_losses_NN: Array | None = None

    @property
    def num_agents(self) -> int:
        """Number of agents, N."""
        return int(self.profiles_NF.shape[0])

    @property
    def available(self) -> list[int]:
        """The agents that are present and not busy."""
        everyone = range(self.num_agents)
        return [i for i in everyone if self.available_N is None or self.available_N[i]]

    @cached_property
    def _built_contexts(self) -> Array:
        return self.context.build(self.profiles_NF, self.ledger)

    def contexts(self) -> Array:
        """Return contexts_NNd of all ordered pairs (built once a round; do not write to it)."""
        return self._built_contexts

    def contexts_of(self, pairs: Sequence[tuple[int, int]]) -> Array:
        """Return contexts_Kd of these (teacher, student) pairs alone."""
        teachers_K, students_K = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return self.context.rows(self.profiles_NF, self.ledger, teachers_K, students_K)

    def estimates(self, theta_d: Array) -> Array:
        """Return estimates_NN = theta^T x of all ordered pairs."""
        if self.num_agents > LARGE:
            known = (self.context, self.profiles_NF, self.ledger)
            return linear_pair_scores(*known, theta_d).dense()
        return np.asarray(self.contexts() @ theta_d)

    def match(self, scores_NN: Array, *, abstain: bool = False) -> Plan:
        """Return the plan of disjoint pairs that the configured matching picks by the scores.

        With ``abstain``, pairs whose score is not positive are left out.

        Raises:
            ScoresError: When the scores are no real matrix [N, N], or one is NaN or +inf.
        """
        self._check_scores(scores_NN)
        weights_NN = scores_NN + scores_NN.T if self.mutual else scores_NN
        weights_NN = matchable(weights_NN, self.admissible_NN, abstain=abstain)
        pairs = self.matching.match(weights_NN, self.num_pairs, self.rng)
        self._check_pairs(pairs)
        return self.plan(pairs, scores_NN)

    def _check_pairs(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Raise a ``UserError`` where a matching broke its promise."""
        said = f"{type(self.matching).__name__}.match must return disjoint (teacher, student) pairs"
        try:
            agents = [
                operator.index(agent) for teacher, student in pairs for agent in (teacher, student)
            ]
        except (TypeError, ValueError) as error:
            raise UserError(f"{said} of agents' numbers: {error}") from error
        if len(set(agents)) < len(agents) or not set(agents) <= set(range(self.num_agents)):
            raise UserError(f"{said} of the agents 0 to {self.num_agents - 1}, not {list(pairs)}")

    def _check_scores(self, scores: object) -> None:
        shape = (self.num_agents, self.num_agents)
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu":
            kind = scores.dtype if isinstance(scores, np.ndarray) else type(scores).__name__
            raise ScoresError(f"scores are {kind}, expected is an array of real numbers {shape}")
        if scores.shape != shape:
            raise ScoresError(
                f"scores have the shape {scores.shape}, expected is {shape}, [teacher, student]"
            )

    def plan(self, pairs: Sequence[tuple[int, int]], scores_NN: Array | None = None) -> Plan:
        """Return the plan of these (teacher, student) pairs, with their scores if given."""
        ordered = [both for i, j in pairs for both in ((i, j), (j, i))] if self.mutual else pairs
        scores = [None if scores_NN is None else scores_NN[pair].item() for pair in ordered]
        return tuple(
            self.directive(index, (teacher,), (student,), score)
            for index, ((teacher, student), score) in enumerate(zip(ordered, scores, strict=True))
        )

    def directive(
        self,
        index: int,
        teachers: Sequence[int],
        students: Sequence[int],
        score: float | None = None,
        topics: Sequence[int] | None = None,
    ) -> Directive:
        """Return the round's directive number ``index``, for plans that are not pairings.

        ``topics`` are categories of transfer problems that the teachers are asked for; None is all.
        """
        return Directive(
            id=f"r{self.round}-{index}",
            teachers=tuple(teachers),
            students=tuple(students),
            protocol=self.protocol,
            score=score,
            topics=None if topics is None else tuple(map(int, topics)),
        )


def matchable(weights_TS: Array, admissible_TS: Mask | None, *, abstain: bool) -> Array:
    """Return the weights with ``-inf`` where a pair must not be chosen.

    Args:
        weights_TS: What pairs are matched by.
        admissible_TS: Which pairs may be chosen; None is all.
        abstain: Whether pairs whose weight is not positive may not.
    """
    if admissible_TS is not None:
        weights_TS = np.where(admissible_TS, weights_TS, -np.inf)
    if abstain:
        weights_TS = np.where(weights_TS > 0.0, weights_TS, -np.inf)
    return weights_TS


class Matchmaker:
    """Base of every matchmaker: override ``propose``; override the rest where the policy learns.

    Class attributes:
        needs: What the policy sees beyond profiles and rewards, e.g. ``{"probes"}``; shown at the
            start of a run and in reports.
        protocol: Name of the exchange protocol that the policy dictates; None follows the config.
        num_servers: Server agents (without private data) that its plans name; their indices follow
            the agents'.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    protocol: ClassVar[str | None] = None
    num_servers: ClassVar[int] = 0

    def start(self, num_features: int) -> None:
        """Prepare for contexts of d = ``num_features``; called once, before the first round."""

    def propose(self, view: RoundView) -> Plan:
        """Return the round's plan."""
        raise NotImplementedError

    def learn(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Learn from K rewards (normalised as configured) and the contexts of their pairs.

        Args:
            contexts_Kd: The context of each pair in the round that chose it.
            rewards_K: What the pair earned.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the learned state as arrays, numbers and strings (for the checkpoint)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A receiver's report on one directive: the scalar reward (Eq. 3), raw."""

    directive_id: str
    reward: float
