"""The matchmaker's vocabulary: directives, plans, what a policy sees, and what it must do.

A policy is one class: ``propose`` turns what the CPM sees into a plan, ``learn`` (optional) takes
rewards. Axes: N agents, K pairs or feedbacks, F profile features, d context features. Matrices over
ordered pairs are indexed ``[teacher, student]``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.pair_scores import (
    Array,
    Context,
    Indices,
    Mask,
    PairScores,
    Scorer,
    ScoresError,
    Span,
    linear_scores,
)

NEEDS = frozenset({"probes", "peer losses"})
"""What a policy may ask to see beyond profiles and rewards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """Who teaches whom and how; ``id`` is ``r<round>-<index>``, agents are roster indices."""

    id: str
    teachers: tuple[int, ...]
    students: tuple[int, ...]
    protocol: str
    score: float | None = None

    @property
    def pair(self) -> tuple[int, int] | None:
        """(teacher, student) where the directive is a peer-to-peer pair, else None."""
        if len(self.teachers) == 1 and len(self.students) == 1:
            return self.teachers[0], self.students[0]
        return None


Plan = tuple[Directive, ...]


class Matching(ABC):
    """Base of every component of the config group ``matching``: disjoint ordered pairs by score."""

    @abstractmethod
    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs.

        A score of ``-inf`` is inadmissible; the diagonal is ignored. Ties are broken by ``rng``,
        without bias towards low indices. Pairs come in descending score.
        """


class LazyMatching(Matching):
    """A matching that asks for the scores of few pairs, so that N^2 of them are never held."""

    @abstractmethod
    def match_lazily(
        self, scores: PairScores, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs, as ``Matching.match``."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the round's snapshot says each directive would earn, by counterfactual trials.

    ``rewards_NN[teacher, student]`` is the raw reward of the ordered pair, diagonal NaN, ``-inf``
    where the protocol cannot serve the pair;
    ``no_teacher_N[student]`` is the raw reward of the same number of steps on private data, and on
    what the student kept of earlier lessons where the protocol rehearses.
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
        admissible_NN: Which ordered pairs the protocol can serve (``exchange=logits`` needs equal
            tokenizers) and whose agents are both available; None is all of them.
        available_N: Which agents are there and free; None is all of them. Nobody else may be in the
            plan.
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
        """The agents that are there and free, for plans that are not pairings."""
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

    def pair_scores(
        self, theta_d: Array, inverse_dd: Array | None = None, beta: float = 0.0
    ) -> PairScores:
        """Return theta^T x + beta sqrt(x^T A^-1 x) of all ordered pairs, to be computed on demand.

        ``inverse_dd`` is A^-1; without it there is no second term.
        """
        known = (self.profiles_NF, self.ledger)

        def of(teachers_K: Indices, students_K: Indices) -> Array:
            rows_Kd = self.context.rows(*known, teachers_K, students_K)
            return linear_scores(rows_Kd, theta_d, inverse_dd, beta)

        fill = self.context.scorer(*known, theta_d, inverse_dd, beta)
        return PairScores(num_agents=self.num_agents, fill=fill, of=of)

    def estimates(self, theta_d: Array) -> Array:
        """Return theta^T x of all ordered pairs, without holding their contexts."""
        return self.pair_scores(theta_d).dense()

    def widths(self, inverse_dd: Array) -> Array:
        """Return sqrt(x^T A^-1 x) of all ordered pairs, without holding their contexts."""
        return self.pair_scores(np.zeros(len(inverse_dd)), inverse_dd, 1.0).dense()

    def match(self, scores: Array | PairScores, *, abstain: bool = False) -> Plan:
        """Return the plan of disjoint pairs that the configured matching picks by ``scores``.

        With ``abstain`` a pair whose score is not positive is left out, so that agents may stay
        unpaired. ``PairScores`` are computed in full where the matching needs them all.

        Raises:
            ScoresError: When the scores are not one real number an ordered pair, one that counts
                is NaN or +inf.
        """
        if isinstance(scores, PairScores):
            if isinstance(self.matching, LazyMatching):
                weights = PairScores(
                    num_agents=self.num_agents, fill=self._weigher(scores, abstain), of=scores.of
                )
                return self.plan(
                    self.matching.match_lazily(weights, self.num_pairs, self.rng), scores
                )
            scores = scores.dense()
        self._check_scores(scores)
        weights_NN = scores + scores.T if self.mutual else scores
        weights_NN = self._allowed(weights_NN, self.admissible_NN, abstain)
        return self.plan(self.matching.match(weights_NN, self.num_pairs, self.rng), scores)

    def _check_scores(self, scores: Any) -> None:
        shape = (self.num_agents, self.num_agents)
        if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiu":
            kind = getattr(scores, "dtype", type(scores).__name__)
            raise ScoresError(f"scores are {kind}, expected is an array of real numbers {shape}")
        if scores.shape != shape:
            raise ScoresError(
                f"scores have the shape {scores.shape}, expected is {shape}, [teacher, student]"
            )

    def _weigher(self, scores: PairScores, abstain: bool) -> Scorer:
        """Return what fills blocks of the weights that pairs are matched by."""

        def fill(teachers: Span, students: Span, out_TS: Array) -> None:
            scores.fill(teachers, students, out_TS)
            if self.mutual:
                swapped_ST = np.empty(out_TS.shape[::-1])
                scores.fill(students, teachers, swapped_ST)
                out_TS += swapped_ST.T
            mask_NN = self.admissible_NN
            mask_TS = None if mask_NN is None else mask_NN[teachers][:, students]
            out_TS[:] = self._allowed(out_TS, mask_TS, abstain)

        return fill

    @staticmethod
    def _allowed(weights_TS: Array, admissible_TS: Mask | None, abstain: bool) -> Array:
        """Return the weights with ``-inf`` where a pair must not be chosen."""
        if admissible_TS is not None:
            weights_TS = np.where(admissible_TS, weights_TS, -np.inf)
        if abstain:
            weights_TS = np.where(weights_TS > 0.0, weights_TS, -np.inf)
        return weights_TS

    def plan(
        self, pairs: Sequence[tuple[int, int]], scores: Array | PairScores | None = None
    ) -> Plan:
        """Return the plan of these (teacher, student) pairs, with their scores if given."""
        ordered = [both for i, j in pairs for both in ((i, j), (j, i))] if self.mutual else pairs
        values: Sequence[float | None] = [None] * len(ordered)
        if scores is not None and ordered:
            teachers_K, students_K = np.array(ordered, dtype=np.int64).T
            if isinstance(scores, PairScores):
                values = scores.of(teachers_K, students_K).tolist()
            else:
                values = scores[teachers_K, students_K].tolist()
        return tuple(
            self.directive(index, (teacher,), (student,), value)
            for index, ((teacher, student), value) in enumerate(zip(ordered, values, strict=True))
        )

    def directive(
        self,
        index: int,
        teachers: Sequence[int],
        students: Sequence[int],
        score: float | None = None,
    ) -> Directive:
        """Return the round's directive number ``index``, for plans that are not pairings."""
        return Directive(
            id=f"r{self.round}-{index}",
            teachers=tuple(teachers),
            students=tuple(students),
            protocol=self.protocol,
            score=score,
        )


class Matchmaker:
    """Base of every matchmaker: override ``propose``; override the rest where the policy learns.

    Class attributes:
        needs: What the policy sees beyond profiles and rewards, e.g. ``{"probes"}``; printed at
            start and in reports, so that an oracle is never mistaken for a CPM.
        protocol: Name of the exchange protocol that the policy dictates; None follows the config.
        num_servers: Server agents (without private data) that its plans name; their indices follow
            the agents'.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    protocol: ClassVar[str | None] = None
    num_servers: ClassVar[int] = 0

    def start(self, num_features: int) -> None:
        """Called once before the first round with d, the number of context features."""

    def propose(self, view: RoundView) -> Plan:
        """Return the round's plan."""
        raise NotImplementedError

    def learn(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Take rewards (normalised as configured) with the contexts the choices were made on."""

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
