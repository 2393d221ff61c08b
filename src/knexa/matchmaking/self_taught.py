"""Self-training: the baseline in which nobody teaches anybody else (STaR, RFT)."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.base import Matchmaker, Plan, RoundView


@dataclass(frozen=True, kw_only=True)
class SelfTaught(Matchmaker):
    """Every agent answers the transfer problems itself and keeps what passes, every round.

    As many answers as from one teacher, and nothing travels; ``matching`` is ignored.
    """

    name: ClassVar[str] = "self_taught"
    by_topic: ClassVar[bool] = True
    teaches_itself: ClassVar[bool] = True

    def propose(self, view: RoundView) -> Plan:
        """Let every available agent teach itself."""
        return tuple(
            view.directive(index, (agent,), (agent,)) for index, agent in enumerate(view.available)
        )
