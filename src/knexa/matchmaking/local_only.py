"""LocalOnly: the baseline without exchange."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class LocalOnly(Matchmaker):
    """Every agent trains on its own data alone."""

    name: ClassVar[str] = "local_only"
    by_topic: ClassVar[bool] = True

    def propose(self, view: RoundView) -> Plan:
        """Return the empty plan."""
        return ()
