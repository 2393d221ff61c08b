"""Oracle: the upper reference, which sees counterfactual rewards."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.matchings import max_weight_pairs
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class Oracle(Matchmaker):
    """The best arms by this round's counterfactual rewards.

    Disjoint pairs are always matched exactly, whatever pairing ``matching`` is; where pairs teach
    both ways, the sum of both rewards counts. It looks one round ahead, so it need not be the best
    over a whole run.

    Attributes:
        allow_unpaired: False chooses as many arms as random does, even at negative rewards, so
            that runs have equal numbers of exchanges. True leaves out arms whose reward is not
            positive.
    """

    name: ClassVar[str] = "oracle"
    by_topic: ClassVar[bool] = True

    allow_unpaired: bool = False
    needs: ClassVar[frozenset[str]] = frozenset({"probes"})

    def propose(self, view: RoundView) -> Plan:
        """Return the arms with the largest total raw reward."""
        if view.probe is None:
            raise ValueError("the oracle needs the round's probe")
        if not view.matching.is_pairing:
            rewards = np.where(view.admissible, view.probe.rewards, -np.inf)
            return view.match(rewards, abstain=self.allow_unpaired)
        rewards_NN = view.probe.rewards
        worth_NN = rewards_NN + rewards_NN.T if view.mutual else rewards_NN
        # Clipped at 0, a pair that loses weighs as much as no pair: the best matching of any size.
        scores_NN = np.maximum(worth_NN, 0.0) if self.allow_unpaired else worth_NN
        if view.admissible_NN is not None:
            scores_NN = np.where(view.admissible_NN, scores_NN, -np.inf)
        pairs = max_weight_pairs(scores_NN, view.num_pairs, view.rng)
        if self.allow_unpaired:
            pairs = [pair for pair in pairs if worth_NN[pair] > 0.0]
        return view.plan(pairs, rewards_NN)
