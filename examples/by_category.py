# python -m knexa -cd . partition=by_category roster=duo debug=smoke 'trusted_modules=[by_category]'
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from knexa.data.partition import AgentData, Partition
from knexa.data.problem import Problem
from knexa.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ByCategory(Partition):
    """All problems of category c belong to agent c mod N; every fifth one validates."""

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> list[AgentData]:
        hands: list[list[Problem]] = [[] for _ in range(num_agents)]
        for problem in problems:
            hands[problem.category % num_agents].append(problem)
        if min(map(len, hands)) < 5:
            raise UserError("partition=by_category: too few categories for so many agents")
        return [AgentData(train=train(hand), validation=tuple(hand[::5])) for hand in hands]


def train(hand: list[Problem]) -> tuple[Problem, ...]:
    return tuple(problem for place, problem in enumerate(hand) if place % 5)
