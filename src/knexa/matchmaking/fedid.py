"""FedID: the baseline in which a central student learns from all clients and teaches them."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class FedID(Matchmaker):
    """All agents teach the server, and then learn from it, every round."""

    name: ClassVar[str] = "fedid"
    protocol: ClassVar[str | None] = "fedid"
    num_servers: ClassVar[int] = 1

    def propose(self, view: RoundView) -> Plan:
        """Return the one directive; the server, whose index follows the agents', learns first."""
        everyone = view.available
        return (view.directive(0, everyone, [view.num_agents, *everyone]),)
