"""FedSKD: similarity distillation both ways between pairs of a round robin."""

from dataclasses import dataclass, replace
from typing import ClassVar

from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_robin import RoundRobin
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class FedSKD(RoundRobin):
    """The round robin's pairs, teaching both ways; ``federation.mutual`` is ignored."""

    name: ClassVar[str] = "fedskd"
    protocol: ClassVar[str | None] = "similarity"

    def propose(self, view: RoundView) -> Plan:
        """Return two directives a pair."""
        return super().propose(replace(view, mutual=True))
