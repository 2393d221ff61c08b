"""The matchmaker's vocabulary: directives, plans, what a policy sees, and what it must do.

A policy is one class: ``propose`` turns what the CPM sees into a plan, ``learn`` (optional) takes
rewards. Axes: N agents, K pairs or feedbacks, F profile features, d context features. Matrices over
ordered pairs are indexed ``[teacher, student]``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from knexa.matchmaking.ledger import Ledger

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


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


_BLOCK = 1 << 22
"""Numbers that a block of contexts holds at most: 32 MB."""


class Context:
    """Turns what the CPM knows into one feature vector per ordered pair.

    Override ``num_features`` and ``rows``; override ``estimates`` and ``widths`` where terms that
    factor into a teacher's and a student's part make them cheaper than a row for every pair.
    """

    def num_features(self, num_profile_features: int) -> int:
        """Return d for profiles of that many features.

        Raises:
            ValueError: When the context needs features that such profiles do not have.
        """
        raise NotImplementedError

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd of the K ordered pairs."""
        raise NotImplementedError

    def build(self, profiles_NF: Array, ledger: Ledger | None = None) -> Array:
        """Return contexts_NNd of all ordered pairs; the diagonal's content is unused."""
        num_agents = len(profiles_NF)
        teachers_n, students_n = np.divmod(np.arange(num_agents**2), num_agents)
        known = Ledger() if ledger is None else ledger
        rows_nd = self.rows(profiles_NF, known, teachers_n, students_n)
        return rows_nd.reshape(num_agents, num_agents, rows_nd.shape[1])

    def estimates(self, profiles_NF: Array, ledger: Ledger, theta_d: Array) -> Array:
        """Return theta^T x of all ordered pairs, estimates_NN."""
        estimates_NN = np.empty((len(profiles_NF), len(profiles_NF)))
        for block, rows_nd in self._blocks(profiles_NF, ledger):
            estimates_NN[block] = (rows_nd @ theta_d).reshape(-1, len(profiles_NF))
        return estimates_NN

    def widths(self, profiles_NF: Array, ledger: Ledger, inverse_dd: Array) -> Array:
        """Return sqrt(x^T A^-1 x) of all ordered pairs, widths_NN."""
        widths_NN = np.empty((len(profiles_NF), len(profiles_NF)))
        for block, rows_nd in self._blocks(profiles_NF, ledger):
            widths_NN[block] = norms(rows_nd, inverse_dd).reshape(-1, len(profiles_NF))
        return widths_NN

    def _blocks(self, profiles_NF: Array, ledger: Ledger) -> Iterator[tuple[slice, Array]]:
        """Yield (teachers, rows_nd) such that no block of rows is larger than ``_BLOCK``."""
        num_agents = len(profiles_NF)
        size = max(1, _BLOCK // (num_agents * self.num_features(profiles_NF.shape[1])))
        students_N = np.arange(num_agents)
        for begin in range(0, num_agents, size):
            teachers_b = np.arange(begin, min(begin + size, num_agents))
            teachers_n = np.repeat(teachers_b, num_agents)
            students_n = np.tile(students_N, len(teachers_b))
            yield (
                slice(begin, begin + len(teachers_b)),
                self.rows(profiles_NF, ledger, teachers_n, students_n),
            )


def norms(contexts_nd: Array, inverse_dd: Array) -> Array:
    """Return sqrt(x^T A^-1 x) of every row."""
    squares_n = np.einsum("nd,nd->n", contexts_nd @ inverse_dd, contexts_nd)
    # Rounding can push the square of a well-explored direction just below zero.
    return np.asarray(np.sqrt(np.maximum(squares_n, 0.0)))


class Matching(Protocol):
    """Chooses disjoint ordered pairs by their scores."""

    def match(
        self, scores_NN: Array, num_pairs: int, rng: np.random.Generator
    ) -> list[tuple[int, int]]:
        """Return up to ``num_pairs`` disjoint (teacher, student) pairs.

        A score of ``-inf`` is inadmissible; the diagonal is ignored. Ties are broken by ``rng``,
        without bias towards low indices. Pairs come in descending score.
        """


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the round's snapshot says each directive would earn, by counterfactual trials.

    ``rewards_NN[teacher, student]`` is the raw reward of the ordered pair, diagonal NaN;
    ``no_teacher_N[student]`` is the raw reward of the same number of steps on private data.
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
            tokenizers); None is all of them.
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
    mutual: bool = False
    probe: Probe | None = None
    peer_losses_NN: Array | None = None

    @property
    def num_agents(self) -> int:
        """Number of agents, N."""
        return int(self.profiles_NF.shape[0])

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
        """Return theta^T x of all ordered pairs, without holding their contexts."""
        return self.context.estimates(self.profiles_NF, self.ledger, theta_d)

    def widths(self, inverse_dd: Array) -> Array:
        """Return sqrt(x^T A^-1 x) of all ordered pairs, without holding their contexts."""
        return self.context.widths(self.profiles_NF, self.ledger, inverse_dd)

    def match(self, scores_NN: Array, *, abstain: bool = False) -> Plan:
        """Return the plan of disjoint pairs that the configured matching picks by ``scores_NN``.

        With ``abstain`` a pair whose score is not positive is left out, so that agents may stay
        unpaired.
        """
        weights_NN = scores_NN + scores_NN.T if self.mutual else scores_NN
        if self.admissible_NN is not None:
            weights_NN = np.where(self.admissible_NN, weights_NN, -np.inf)
        if abstain:
            weights_NN = np.where(weights_NN > 0.0, weights_NN, -np.inf)
        pairs = self.matching.match(weights_NN, self.num_pairs, self.rng)
        return self.plan(pairs, scores_NN)

    def plan(self, pairs: Sequence[tuple[int, int]], scores_NN: Array | None = None) -> Plan:
        """Return the plan of these (teacher, student) pairs, with their scores if given."""
        ordered = [both for i, j in pairs for both in ((i, j), (j, i))] if self.mutual else pairs
        return tuple(
            self.directive(
                index,
                (teacher,),
                (student,),
                None if scores_NN is None else float(scores_NN[teacher, student]),
            )
            for index, (teacher, student) in enumerate(ordered)
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
