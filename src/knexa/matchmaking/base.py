"""The matchmaker's vocabulary: directives, plans, what a policy sees, and what it must do.

A policy is one class: ``propose`` turns what the CPM sees into a plan, ``learn`` (optional) takes
rewards. Axes: N agents, K feedbacks, F profile features, d context features. Matrices over ordered
pairs are indexed ``[teacher, student]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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


class Context(Protocol):
    """Turns the profiles of all agents into one feature vector per ordered pair."""

    def num_features(self, num_profile_features: int) -> int:
        """Return d for profiles of that many features."""

    def build(self, profiles_NF: Array) -> Array:
        """Return contexts_NNd, ``[teacher, student]`` first; the diagonal's content is unused."""


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
        probe: Counterfactual rewards; only for matchmakers that declare ``needs = {"probes"}``.
    """

    round: int
    profiles_NF: Array
    context: Context
    matching: Matching
    num_pairs: int
    protocol: str
    rng: np.random.Generator
    probe: Probe | None = None

    @property
    def num_agents(self) -> int:
        """Number of agents, N."""
        return int(self.profiles_NF.shape[0])

    @cached_property
    def _built_contexts(self) -> Array:
        return self.context.build(self.profiles_NF)

    def contexts(self) -> Array:
        """Return contexts_NNd of all ordered pairs (built once a round; do not write to it)."""
        return self._built_contexts

    def match(self, scores_NN: Array) -> Plan:
        """Return the plan of disjoint pairs that the configured matching picks by ``scores_NN``."""
        pairs = self.matching.match(scores_NN, self.num_pairs, self.rng)
        return self.plan(pairs, scores_NN)

    def plan(self, pairs: Sequence[tuple[int, int]], scores_NN: Array | None = None) -> Plan:
        """Return the plan of these (teacher, student) pairs, with their scores if given."""
        return tuple(
            Directive(
                id=f"r{self.round}-{index}",
                teachers=(teacher,),
                students=(student,),
                protocol=self.protocol,
                score=None if scores_NN is None else float(scores_NN[teacher, student]),
            )
            for index, (teacher, student) in enumerate(pairs)
        )


class Matchmaker:
    """Base of every matchmaker: override ``propose``; override the rest where the policy learns.

    Class attributes:
        needs: What the policy sees beyond profiles and rewards, e.g. ``{"probes"}``; printed at
            start and in reports, so that an oracle is never mistaken for a CPM.
        protocol: Name of the exchange protocol that the policy dictates; None follows the config.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    protocol: ClassVar[str | None] = None

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
