"""Central-KD: the baseline in which a server makes one teacher of all clients (after FedMD)."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class CentralKD(Matchmaker):
    """All agents teach all agents, as one ensemble, every round."""

    name: ClassVar[str] = "central_kd"
    protocol: ClassVar[str | None] = "ensemble"

    def propose(self, view: RoundView) -> Plan:
        """Return one directive: all available agents teach all of them."""
        everyone = view.available
        return (view.directive(0, everyone, everyone),)
