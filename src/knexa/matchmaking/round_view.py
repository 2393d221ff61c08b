"""What a matchmaker sees in a round, and the plans that it makes of scores.

Axes: N agents, T topics, K arms, F profile features, d context features. Matrices over ordered
pairs are indexed ``[teacher, student]``, and where arms have topics ``[teacher, student, topic]``.
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from knexa.errors import UserError
from knexa.matchmaking.answers import NO_TOPICS, TransferTopics
from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.contexts import Context, TopicFactors
from knexa.matchmaking.large import LARGE, LARGE_BY_TOPIC
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.plans import Arm, Directive, Plan, Selection
from knexa.matchmaking.weights import ScoresError

MAX_ARMS = 1 << 24
"""Arms with topics that are scored one by one at most: their contexts take half a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Raw rewards of this round by counterfactual trials on the agents' snapshot.

    Attributes:
        rewards: Reward of each arm, [N, N] or [N, N, T]; NaN where an agent would teach itself,
            ``-inf`` where the protocol cannot serve the pair.
        no_teacher_N: Reward of as many steps without a teacher: on private data, and on earlier
            packages where the protocol rehearses them.
    """

    rewards: Array
    no_teacher_N: Array


@dataclass(frozen=True, kw_only=True)
class RoundView:
    """All that a matchmaker may see in a round.

    Attributes:
        round: 1-based round number.
        profiles_NF: Profiles, one row an agent, features in about [0, 1].
        context: The configured context.
        matching: The configured selection.
        topics: The topics of the transfer set.
        num_pairs: K_p, the largest number of pairs of a plan of disjoint pairs.
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
        peer_losses: The student's loss on the teacher's text, in nats, diagonal NaN, in the shape
            of scores; only for matchmakers that declare ``needs = {"peer losses"}``.
    """

    round: int
    profiles_NF: Array
    context: Context
    matching: Selection
    num_pairs: int
    protocol: str
    rng: np.random.Generator
    topics: TransferTopics = NO_TOPICS
    ledger: Ledger = field(default_factory=Ledger)
    admissible_NN: Mask | None = None
    available_N: Mask | None = None
    mutual: bool = False
    probe: Probe | None = None
    peer_losses: Array | None = None

    @property
    def num_agents(self) -> int:
        """Number of agents, N."""
        return int(self.profiles_NF.shape[0])

    @property
    def available(self) -> list[int]:
        """The agents that are present and not busy."""
        everyone = range(self.num_agents)
        return [i for i in everyone if self.available_N is None or self.available_N[i]]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of scores: (N, N), or (N, N, T) where arms have topics.

        Raises:
            UserError: When arms with topics are too many to score each.
        """
        pairs = (self.num_agents, self.num_agents)
        if not self.matching.by_topic:
            return pairs
        check_num_arms(self.num_agents, self.topics)
        return (*pairs, len(self.topics.categories))

    @property
    def ranks_teachers(self) -> bool:
        """Whether so many arms have topics that teachers are ranked instead of all arms scored."""
        return self.num_agents > LARGE_BY_TOPIC and self.matching.ranks

    @property
    def admissible(self) -> Mask:
        """Which arms may be chosen, in the shape of scores."""
        allowed_NN = ~np.eye(self.num_agents, dtype=bool)
        if self.admissible_NN is not None:
            allowed_NN &= self.admissible_NN
        return np.asarray(np.broadcast_to(_over_topics(allowed_NN, self.shape), self.shape))

    @cached_property
    def topic_factors(self) -> TopicFactors | None:
        """The factors of all contexts where these are products; None where they are not."""
        if not self.context.by_topic:
            return None
        return self.context.topic_factors(self.profiles_NF, self.ledger, self.topics)

    @cached_property
    def _built_contexts(self) -> Array:
        shape = self.shape
        if self.context.by_topic:
            check_num_arms(self.num_agents, self.topics)
        if self.matching.by_topic and self.topic_factors is not None:
            return self.topic_factors.all_rows()
        arms = np.indices(shape).reshape(len(shape), math.prod(shape)).T
        return self._rows(arms).reshape(*shape, -1)

    def _rows(self, arms_Ka: Indices) -> Array:
        if self.topic_factors is not None:
            return self.topic_factors.rows(arms_Ka)
        return self.context.arm_rows(self.profiles_NF, self.ledger, self.topics, arms_Ka)

    def contexts(self) -> Array:
        """Return the contexts of all arms, scores' shape and d (built once; do not write to it)."""
        return self._built_contexts

    def contexts_of(self, arms: Sequence[Arm]) -> Array:
        """Return contexts_Kd of these arms alone."""
        num_parts = 2 + self.matching.by_topic
        return self._rows(np.array(arms, dtype=np.int64).reshape(len(arms), num_parts))

    def arm_of(self, directive: Directive) -> Arm | None:
        """Return the arm that a directive is; None where it is none of the selection's."""
        return self.matching.arm_of(directive, self.topics)

    def estimates(self, theta_d: Array) -> Array:
        """Return the estimates theta^T x of all arms, in the shape of scores."""
        if self.num_agents > LARGE and not self.context.by_topic:
            known = (self.context, self.profiles_NF, self.ledger)
            return linear_pair_scores(*known, theta_d).dense()
        return np.asarray(self.contexts() @ theta_d)

    def match(self, scores: Array, *, abstain: bool = False) -> Plan:
        """Return the plan that the configured selection makes by the scores of all arms.

        With ``abstain``, arms whose score is not positive are left out.

        Raises:
            ScoresError: When the scores are no real array of ``shape``, or one is NaN or +inf.
        """
        self._check_scores(scores)
        weights = scores + scores.T if self.mutual else scores
        weights = matchable(weights, self.admissible_NN, abstain=abstain)
        arms = self.matching.select(weights, self.topics, self.num_pairs, self.rng)
        if self.matching.is_pairing:
            self._check_pairs(arms)
        return self.plan(arms, scores)

    def match_ranked(
        self, worths_NT: Array, missing_NT: Array | None = None, *, abstain: bool = False
    ) -> Plan:
        """Return the plan that ``match`` makes where scores are products.

        Up to ``LARGE_BY_TOPIC`` agents it is made by the scores of all arms.

        Args:
            worths_NT: What a teacher is worth on a topic, ``[teacher, topic]``.
            missing_NT: How much of the topic a student lacks, ``[student, topic]``; None is 1.
                A score is the product of the two.
            abstain: Whether arms whose score is not positive are left out.
        """
        if missing_NT is None:
            missing_NT = np.ones(worths_NT.shape)
        if not self.ranks_teachers:
            return self.match(missing_NT * worths_NT[:, None], abstain=abstain)
        known = (self.admissible_NN, self.topics, self.rng)
        arms, scores = self.matching.select_ranked(worths_NT, missing_NT, *known, abstain=abstain)
        return self.plan_of(arms, scores)

    def draw(self) -> Plan:
        """Return a random plan that the configured selection allows."""
        if self.ranks_teachers:
            known = (self.num_agents, self.admissible_NN, self.topics)
            return self.plan(self.matching.draw_ranked(*known, self.rng))
        return self.plan(self.matching.draw(self.admissible, self.topics, self.num_pairs, self.rng))

    def _check_pairs(self, pairs: Sequence[Arm]) -> None:
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
        shape = self.shape
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu":
            kind = scores.dtype if isinstance(scores, np.ndarray) else type(scores).__name__
            raise ScoresError(f"scores are {kind}, expected is an array of real numbers {shape}")
        if scores.shape != shape:
            raise ScoresError(
                f"scores have the shape {scores.shape}, expected is {shape}, [teacher, student"
                f"{', topic' * self.matching.by_topic}]"
            )

    def plan(self, arms: Sequence[Arm], scores: Array | None = None) -> Plan:
        """Return the plan of these arms, with their scores if given."""
        if self.mutual:
            arms = [both for i, j in arms for both in ((i, j), (j, i))]
        if scores is None or not len(arms):
            return self.plan_of(arms, [None] * len(arms))
        return self.plan_of(arms, scores[tuple(np.array(arms, dtype=np.int64).T)].tolist())

    def plan_of(self, arms: Sequence[Arm], scores: Sequence[float | None]) -> Plan:
        """Return the plan of these arms, given the score of each."""
        prefix, protocol, categories = f"r{self.round}-", self.protocol, self.topics.categories
        return tuple(
            Directive(
                id=f"{prefix}{index}",
                teachers=tuple(arm[:1]),
                students=tuple(arm[1:2]),
                protocol=protocol,
                score=score,
                topics=(categories[arm[2]],) if len(arm) > 2 else None,
            )
            for index, (arm, score) in enumerate(zip(arms, scores, strict=True))
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


def check_num_arms(num_agents: int, topics: TransferTopics) -> None:
    """Raise a ``UserError`` where so many agents have too many arms with topics to hold each."""
    num_arms = num_agents**2 * len(topics.categories)
    if num_arms > MAX_ARMS:
        raise UserError(
            f"{num_agents} agents and {len(topics.categories)} topics have {num_arms:.1e} arms, "
            f"which are scored one by one up to {MAX_ARMS:.1e}: choose matching=routed regret=none "
            "with matchmaker=linucb, c2ucb, thompson, heuristic or random; or fewer agents"
        )


def matchable(weights: Array, admissible_TS: Mask | None, *, abstain: bool) -> Array:
    """Return the weights with ``-inf`` where an arm must not be chosen.

    Args:
        weights: What arms are chosen by: of T teachers, S students and maybe topics.
        admissible_TS: Which pairs may be chosen; None is all.
        abstain: Whether arms whose weight is not positive may not.
    """
    if admissible_TS is not None:
        weights = np.where(_over_topics(admissible_TS, weights.shape), weights, -np.inf)
    if abstain:
        weights = np.where(weights > 0.0, weights, -np.inf)
    return weights


def _over_topics(mask_TS: Mask, shape: tuple[int, ...]) -> Mask:
    """Return the mask with an axis for every axis of ``shape`` behind the pairs'."""
    return mask_TS.reshape(mask_TS.shape + (1,) * (len(shape) - 2))
