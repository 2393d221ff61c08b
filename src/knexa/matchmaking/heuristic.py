"""Heuristic-P2P (paper, Algorithm 3): pair those whose data differ most."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.data.divergence import jensen_shannon, normalised_bins
from knexa.matchmaking.arrays import Mask
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.matchings import Greedy
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView
from knexa.profiles import layout


@dataclass(frozen=True, kw_only=True)
class Heuristic(Matchmaker):
    """Disjoint pairs in descending divergence of the data; the better performer teaches.

    With ``matching=one_to_many`` each student learns from the agent whose data differ most. Where
    arms have topics, the agent with the largest data share of a topic teaches it: metadata routing,
    the practice of multi-teacher distillation.

    The divergence is Jensen-Shannon's of the two data histograms, in bits. Pairs are always taken
    greedily, as in Algorithm 3, whatever ``matching`` says. The roles are the main text's (higher
    recent pass@1 teaches); the supplement's pseudocode has them the other way round. Equal
    performers draw their roles. Learns nothing from rewards.

    Attributes:
        num_histogram: How many of the last profile features are the data histogram.
    """

    name: ClassVar[str] = "heuristic"
    by_topic: ClassVar[bool] = True

    num_histogram: Annotated[int, Field(ge=1)] = layout.NUM_DATA

    def propose(self, view: RoundView) -> Plan:
        """Return the greedy pairs by divergence, with it as their score."""
        histograms_NH = view.profiles_NF[:, -self.num_histogram :]
        if view.matching.by_topic:
            shares_TN = normalised_bins(histograms_NH)[view.topics.categories_T]
            return view.match_ranked(shares_TN.T)
        divergence_NN = jensen_shannon(histograms_NH)
        if not view.matching.is_pairing:
            return view.match(divergence_NN)
        # Roles are fixed before matching: with both, a pair of equal performers would be twice as
        # likely to win a tie.
        scores_NN = np.where(_teaches(view), divergence_NN, -np.inf)
        if view.admissible_NN is not None:
            scores_NN = np.where(view.admissible_NN, scores_NN, -np.inf)
        pairs = Greedy().match(scores_NN, view.num_pairs, view.rng)
        return view.plan(pairs, divergence_NN)


def _teaches(view: RoundView) -> Mask:
    """Return whether the row's agent is the better performer of the two; ties are drawn."""
    solves_N = view.profiles_NF[:, layout.PASS_AT_1]
    tie_N = view.rng.permutation(view.num_agents)
    better_NN = solves_N[:, None] > solves_N[None, :]
    equal_NN = solves_N[:, None] == solves_N[None, :]
    return np.asarray(better_NN | (equal_NN & (tie_N[:, None] > tie_N[None, :])))
