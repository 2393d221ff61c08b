"""Self-training: the baseline in which nobody teaches anybody else (STaR, RFT)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class SelfTaught(Matchmaker):
    """Every agent answers the transfer problems itself and keeps what passes, every round.

    As many answers as a student may ask for, and nothing travels. Under a budget an agent asks
    itself about the topics that it has asked least about; no other choice of ``matching`` matters.
    """

    name: ClassVar[str] = "self_taught"
    by_topic: ClassVar[bool] = True
    teaches_itself: ClassVar[bool] = True

    def propose(self, view: RoundView) -> Plan:
        """Let every available agent teach itself."""
        categories_T, sizes_T = view.topics.categories_T, view.topics.sizes_T
        times_NT = (
            view.ledger.requested(view.num_agents)[:, categories_T].astype(np.int64) // sizes_T
        )
        affordable_NT = view.matching.affordable(times_NT, view.topics)
        return tuple(
            view.directive(
                index,
                (agent,),
                (agent,),
                topics=None if affordable_NT[agent].all() else categories_T[affordable_NT[agent]],
            )
            for index, agent in enumerate(view.available)
        )
