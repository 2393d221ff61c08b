"""Partitions of the training pool among the agents: label skew, experts, IID, or given sizes.

Every partition assigns all problems, each exactly once, and is a function of the problems, the
number of agents and the generator alone. Axes: N agents, C categories that occur in the pool.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from knexa.data.problem import Problem
from knexa.errors import UserError

_LOG = logging.getLogger(__name__)
_FLOORS = "partition.min_train and partition.min_validation"
_MOVED = "partition: moved %d of %d problems so that no agent is short"

VALIDATION_FRACTION = 72 / 348
"""The published split: of 348 problems, 276 are trained on and 72 validate."""


@dataclass(frozen=True)
class AgentData:
    """One agent's private problems."""

    train: tuple[Problem, ...]
    validation: tuple[Problem, ...]
    group: int = 0
    """Its group of agents, by whose conventions problems are meant."""


class Split(list[AgentData]):
    """The agents' data in roster order, and the number of draws until all had enough.

    Raises:
        AssertionError: If a problem was dealt twice: an invariant of every partition.
    """

    def __init__(self, agents: Iterable[AgentData], num_draws: int = 1) -> None:
        super().__init__(agents)
        self.num_draws = num_draws
        ids = [problem.task_id for agent in self for problem in agent.train + agent.validation]
        assert len(ids) == len(set(ids)), "a problem was dealt out twice"


class Partition(ABC):
    """Base of every component of the config group ``partition``.

    Class attributes:
        num_groups: How many groups of agents it makes; the data must tell as many apart.
    """

    num_groups: ClassVar[int] = 1

    def check(self, num_problems: int, num_agents: int) -> None:
        """Refuse numbers of problems and agents that ``split`` could not deal; takes no time.

        Every agent needs a problem to train on and one to validate.

        Raises:
            UserError: One line with the fix.
        """
        _check_enough(num_problems, num_agents, 2, "use fewer agents")

    @abstractmethod
    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> list[AgentData]:
        """Deal all ``problems`` to ``num_agents`` agents, each once.

        Raises:
            UserError: If that many agents cannot all have enough.
        """


@dataclass(frozen=True, kw_only=True)
class Dirichlet(Partition):
    """Label skew (Hsu et al. 2019): one Dirichlet vector per category over the agents.

    For each category a vector p ~ Dirichlet(alpha, ..., alpha) over the N agents is drawn, and the
    category's problems, shuffled, are cut at round(cumsum(p) * n). Small alpha: a category belongs
    to one agent or two; large alpha: every agent has the pool's own mix. Where a category has few
    problems per agent, rounding of the cuts favours the same agents in all categories of equal
    size, so that at large alpha sizes differ more than with ``IID``.

    Attributes:
        alpha: Concentration; 0.1 is the published setting.
        validation_fraction: Share of all problems that validate; each agent's share is in
            proportion to its size (largest remainders), and drawn uniformly from its own problems.
        min_train: Fewest training problems an agent may end with.
        min_validation: Fewest validation problems an agent may end with.
        on_short: What happens when an agent is short: ``redraw`` draws all vectors again, and after
            ``max_draws`` draws fills the one that lacked the fewest problems; ``fill`` fills at
            once: it moves random problems from the agents with the most; ``error`` stops the run.
        max_draws: Bound on the draws of ``redraw``. The chance that nobody is short falls with the
            number of agents, not with the problems each has (twelve agents at alpha 0.1: one draw
            in thousands with 29 problems an agent, in twelve with 58).
    """

    name: ClassVar[str] = "dirichlet"

    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 0.1
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION
    min_train: Annotated[int, Field(ge=1)] = 16
    min_validation: Annotated[int, Field(ge=1)] = 4
    on_short: Literal["redraw", "fill", "error"] = "redraw"
    max_draws: Annotated[int, Field(ge=1)] = 1000

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> Split:
        """Deal the problems; see the class."""
        self.check(len(problems), num_agents)
        hands, num_draws = self._best_draw(problems, num_agents, rng)
        if _num_short(hands, self._need):
            if self.on_short == "error":
                evener = "raise partition.alpha" if self.alpha < 1 else "use partition=iid"
                raise UserError(
                    f"partition.alpha={self.alpha:g}: some of {num_agents} agents have fewer than "
                    f"{self._need} problems; {evener}, lower {_FLOORS}, or set "
                    "partition.on_short=fill"
                )
            _LOG.log(
                logging.INFO if self.on_short == "fill" else logging.WARNING,
                _MOVED + "%s",
                _fill(hands, self._need, rng),
                len(problems),
                f": some were in each of {num_draws} draws" if num_draws > 1 else "",
            )
        counts = validation_counts(
            [len(hand) for hand in hands],
            self.validation_fraction,
            min_train=self.min_train,
            min_validation=self.min_validation,
        )
        return Split(_deal_validation(problems, hands, counts, rng), num_draws)

    def check(self, num_problems: int, num_agents: int) -> None:
        """Refuse fewer problems than all agents together need."""
        _check_enough(num_problems, num_agents, self._need, f"lower {_FLOORS}")

    @property
    def _need(self) -> int:
        """The fewest problems that an agent may end with."""
        return self.min_train + self.min_validation

    def _best_draw(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> tuple[list[list[int]], int]:
        """Return the first draw in which nobody is short, and the number of draws.

        Of all allowed draws the one that lacks the fewest problems, where somebody always is.
        """
        max_draws = self.max_draws if self.on_short == "redraw" else 1
        best, num_draws = self._draw(problems, num_agents, rng), 1
        while _num_short(best, self._need) and num_draws < max_draws:
            hands = self._draw(problems, num_agents, rng)
            num_draws += 1
            best = min(best, hands, key=lambda dealt: _num_short(dealt, self._need))
        return best, num_draws

    def _draw(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> list[list[int]]:
        """Return the positions of the problems that each agent is dealt, in one draw."""
        hands: list[list[int]] = [[] for _ in range(num_agents)]
        for positions in _positions_by_category(problems).values():
            shares_N = rng.dirichlet(np.full(num_agents, self.alpha))
            cuts = np.rint(np.cumsum(shares_N)[:-1] * len(positions)).astype(np.int64)
            for hand, piece in zip(hands, np.split(rng.permutation(positions), cuts), strict=True):
                hand.extend(piece.tolist())
        return hands


@dataclass(frozen=True, kw_only=True)
class Conventions(Dirichlet):
    """Groups of agents with conflicting conventions: ``Dirichlet``, and a random half each. Ours.

    Problems mean to an agent what they mean to its group (``Problem.as_meant_by``), so its own
    solutions and tests are of its group's convention, while public tests accept all of them. The
    problems that an agent gets are those of ``Dirichlet`` at the same seed.
    """

    name: ClassVar[str] = "conventions"
    num_groups: ClassVar[int] = 2

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> Split:
        """Deal the problems; see the class."""
        dealt = super().split(problems, num_agents, rng)
        groups = (rng.permutation(num_agents) % self.num_groups).tolist()
        agents = [
            AgentData(
                train=tuple(problem.as_meant_by(group) for problem in agent.train),
                validation=tuple(problem.as_meant_by(group) for problem in agent.validation),
                group=group,
            )
            for agent, group in zip(dealt, groups, strict=True)
        ]
        return Split(agents, dealt.num_draws)


@dataclass(frozen=True, kw_only=True)
class Experts(Partition):
    """Few agents hold most problems of a category, and the others little of it. Ours.

    The agents, in a random order, take turns at being experts: a category's problems are shuffled,
    and ``share`` of them goes to its ``num_experts`` experts in equal parts. So agents are experts
    of as many categories as each other, give or take one; where there are more agents than places,
    some are experts of none. The rest of all problems is dealt in a random order: each goes to the
    agent with the fewest problems that is no expert of its category (ties at random). Whoever is
    short then is given random problems of the agents with the most.

    Unlike ``Dirichlet``'s alpha, ``num_experts`` says how many peers are worth asking about a
    category, whatever the number of agents.

    Attributes:
        num_experts: Experts of a category; fewer than agents.
        share: Share of a category's problems that its experts hold together.
        validation_fraction: As in ``Dirichlet``.
        min_train: Fewest training problems an agent may end with.
        min_validation: Fewest validation problems an agent may end with.
    """

    name: ClassVar[str] = "experts"

    num_experts: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(gt=0, le=1)] = 0.8
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION
    min_train: Annotated[int, Field(ge=1)] = 16
    min_validation: Annotated[int, Field(ge=1)] = 4

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> Split:
        """Deal the problems; see the class."""
        self.check(len(problems), num_agents)
        hands = self._deal(problems, num_agents, rng)
        need = self.min_train + self.min_validation
        if _num_short(hands, need):
            _LOG.warning(_MOVED, _fill(hands, need, rng), len(problems))
        counts = validation_counts(
            [len(hand) for hand in hands],
            self.validation_fraction,
            min_train=self.min_train,
            min_validation=self.min_validation,
        )
        return Split(_deal_validation(problems, hands, counts, rng))

    def check(self, num_problems: int, num_agents: int) -> None:
        """Refuse fewer problems than all agents need, and experts that everybody would be."""
        need = self.min_train + self.min_validation
        _check_enough(num_problems, num_agents, need, f"lower {_FLOORS}")
        if self.num_experts >= num_agents:
            raise UserError(
                f"partition.num_experts={self.num_experts} of {num_agents} agents leaves nobody "
                f"who is no expert: set at most {num_agents - 1}, or use partition=iid"
            )

    def _deal(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> list[list[int]]:
        """Return the positions of the problems that each agent is dealt."""
        turns = rng.permutation(num_agents)
        hands: list[list[int]] = [[] for _ in range(num_agents)]
        experts: dict[int, list[int]] = {}
        rest: list[int] = []
        for place, (category, positions) in enumerate(_positions_by_category(problems).items()):
            first = place * self.num_experts
            experts[category] = turns[
                np.arange(first, first + self.num_experts) % num_agents
            ].tolist()
            shuffled = rng.permutation(positions)
            held, others = np.split(shuffled, [round(self.share * len(positions))])
            for agent, part in zip(
                experts[category], np.array_split(held, self.num_experts), strict=True
            ):
                hands[agent] += part.tolist()
            rest += others.tolist()
        for position in rng.permutation(np.array(rest, dtype=np.int64)).tolist():
            order = rng.permutation(num_agents).tolist()
            able = [i for i in order if i not in experts[problems[position].category]]
            hands[min(able, key=lambda agent: len(hands[agent]))].append(position)
        return hands


@dataclass(frozen=True, kw_only=True)
class IID(Partition):
    """Uniform: a shuffled pool in N equal parts (sizes differ by one at most).

    Attributes:
        validation_fraction: As in ``Dirichlet``; every agent keeps one of each at least.
    """

    name: ClassVar[str] = "iid"

    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = VALIDATION_FRACTION

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> Split:
        """Deal the problems; see the class."""
        self.check(len(problems), num_agents)
        parts = np.array_split(rng.permutation(len(problems)), num_agents)
        hands = [part.tolist() for part in parts]
        counts = validation_counts([len(hand) for hand in hands], self.validation_fraction)
        return Split(_deal_validation(problems, hands, counts, rng))


@dataclass(frozen=True, kw_only=True)
class Sizes(Partition):
    """Given train and validation counts per agent, met exactly, with label skew inside them.

    As in ``Dirichlet``, one vector p_c ~ Dirichlet(alpha) per category says which agents prefer it.
    The problems are then dealt one at a time in a random order: a problem of category c goes to an
    agent drawn from p_c among the agents with room left (by room left, where none of those has any
    weight in p_c). So preferences decide until an agent is full, and no category comes last.
    The skew is less than ``Dirichlet``'s at the same alpha: equal sizes cannot be as unequal.

    Attributes:
        train: Training problems of each agent, in roster order.
        validation: Validation problems of each agent.
        alpha: Concentration of the preferences.
    """

    name: ClassVar[str] = "sizes"

    train: tuple[Annotated[int, Field(ge=1)], ...] = (45, 43, 44, 46, 54, 44)
    validation: tuple[Annotated[int, Field(ge=1)], ...] = (12, 11, 12, 12, 14, 11)
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 0.1

    def __post_init__(self) -> None:
        if not self.train or len(self.train) != len(self.validation):
            raise ValueError(
                f"train has {len(self.train)} sizes and validation {len(self.validation)}; "
                "give one of each per agent"
            )

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> Split:
        """Deal the problems; see the class."""
        self.check(len(problems), num_agents)
        hands = self._deal(problems, np.add(self.train, self.validation), rng)
        return Split(_deal_validation(problems, hands, self.validation, rng))

    def check(self, num_problems: int, num_agents: int) -> None:
        """Refuse sizes that are not one an agent, or that do not add up to all problems."""
        if num_agents != len(self.train):
            raise UserError(
                f"partition.train gives sizes for {len(self.train)} agents but the roster has "
                f"{num_agents}; give one size per agent, or use partition=dirichlet"
            )
        total = sum(self.train) + sum(self.validation)
        if total != num_problems:
            raise UserError(
                f"partition.train and partition.validation sum to {total} but the pool has "
                f"{num_problems} problems; make them equal, or use partition=dirichlet"
            )

    def _deal(
        self, problems: Sequence[Problem], rooms_N: NDArray[np.int64], rng: np.random.Generator
    ) -> list[list[int]]:
        """Return the positions of each agent's problems; agent n gets rooms_N[n] of them."""
        preferences = {
            category: rng.dirichlet(np.full(len(rooms_N), self.alpha))
            for category in _positions_by_category(problems)
        }
        left_N = rooms_N.copy()
        hands: list[list[int]] = [[] for _ in rooms_N]
        for position in rng.permutation(len(problems)).tolist():
            weights_N = np.where(left_N > 0, preferences[problems[position].category], 0.0)
            if weights_N.sum() < 1e-12:
                weights_N = left_N.astype(np.float64)
            agent = int(rng.choice(len(left_N), p=weights_N / weights_N.sum()))
            left_N[agent] -= 1
            hands[agent].append(position)
        return hands


def validation_counts(
    sizes: Sequence[int], fraction: float, *, min_train: int = 1, min_validation: int = 1
) -> list[int]:
    """Return each agent's number of validation problems.

    round(fraction * total) in all, apportioned to the sizes by largest remainders (ties to the
    lower index), then raised to ``min_validation`` and lowered so that ``min_train`` remain.
    """
    exact_N = np.asarray(sizes, dtype=np.float64) * fraction
    counts_N = np.floor(exact_N).astype(np.int64)
    num_missing = round(float(exact_N.sum())) - int(counts_N.sum())
    order = np.argsort(-(exact_N - counts_N), kind="stable")
    counts_N[order[:num_missing]] += 1
    clipped_N = np.clip(counts_N, min_validation, np.asarray(sizes) - min_train)
    return [int(count) for count in clipped_N]


def _positions_by_category(problems: Sequence[Problem]) -> dict[int, list[int]]:
    """Return the positions of the problems of each category that occurs, in ascending order."""
    groups: dict[int, list[int]] = {}
    for position, problem in enumerate(problems):
        groups.setdefault(problem.category, []).append(position)
    return dict(sorted(groups.items()))


def _check_enough(num_problems: int, num_agents: int, need: int, fix: str) -> None:
    """Raise UserError where ``num_agents`` cannot all have ``need`` problems."""
    if num_agents * need > num_problems:
        raise UserError(
            f"{num_agents} agents with at least {need} problems each need {num_agents * need}, but "
            f"the pool has {num_problems}: at most {num_problems // need} agents; {fix}"
        )


def _num_short(hands: Sequence[Sequence[int]], need: int) -> int:
    """Return how many problems the hands lack so that each has ``need``."""
    return sum(max(0, need - len(hand)) for hand in hands)


def _fill(hands: list[list[int]], need: int, rng: np.random.Generator) -> int:
    """Move random problems from the fullest hands until none has fewer than ``need``."""
    num_moved = 0
    for hand in hands:
        while len(hand) < need:
            donor = max(hands, key=len)
            hand.append(donor.pop(int(rng.integers(len(donor)))))
            num_moved += 1
    return num_moved


def _deal_validation(
    problems: Sequence[Problem],
    hands: Sequence[Sequence[int]],
    counts: Sequence[int],
    rng: np.random.Generator,
) -> list[AgentData]:
    """Draw each agent's validation problems uniformly from its hand; both parts in pool order."""
    agents = []
    for hand, count in zip(hands, counts, strict=True):
        shuffled = rng.permutation(hand).tolist()
        agents.append(
            AgentData(
                train=tuple(problems[position] for position in sorted(shuffled[count:])),
                validation=tuple(problems[position] for position in sorted(shuffled[:count])),
            )
        )
    assert sum(len(agent.train) + len(agent.validation) for agent in agents) == len(problems)
    return agents
