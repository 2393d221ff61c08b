"""FedAvg: the baseline that averages adapters, inside groups of equal backbones."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class FedAvg(Matchmaker):
    """Each group of agents with the same backbone is one directive, every round.

    An agent without others of its backbone takes no part.
    """

    name: ClassVar[str] = "fedavg"
    protocol: ClassVar[str | None] = "fedavg"

    def propose(self, view: RoundView) -> Plan:
        """Return one directive a group of two or more."""
        if view.admissible_NN is None:
            raise ValueError("FedAvg needs to know which agents share a backbone")
        groups: list[tuple[int, ...]] = []
        for agent in range(view.num_agents):
            peers = [peer for peer in range(view.num_agents) if view.admissible_NN[agent, peer]]
            group = tuple(sorted({agent, *peers}))
            if len(group) > 1 and group not in groups:
                groups.append(group)
        return tuple(view.directive(index, group, group) for index, group in enumerate(groups))
