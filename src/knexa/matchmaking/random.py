"""Random-P2P: the baseline of uniformly random arms."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.matchings import Greedy
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class Random(Matchmaker):
    """Uniformly random disjoint pairs with uniformly random roles, anew each round.

    With a selection of another shape, a random set of arms that it allows (``Selection.draw``).
    """

    name: ClassVar[str] = "random"
    by_topic: ClassVar[bool] = True

    def propose(self, view: RoundView) -> Plan:
        """Pair the agents in a random order; which pairing ``matching`` is, is ignored."""
        if not view.matching.is_pairing:
            return view.draw()
        if view.admissible_NN is not None:
            scores_NN = view.rng.random(view.admissible_NN.shape)
            scores_NN[~view.admissible_NN] = -np.inf
            return view.plan(Greedy().match(scores_NN, view.num_pairs, view.rng))
        order = view.rng.permutation(view.num_agents).tolist()
        num_pairs = min(view.num_pairs, view.num_agents // 2)
        return view.plan([(order[2 * k], order[2 * k + 1]) for k in range(num_pairs)])
