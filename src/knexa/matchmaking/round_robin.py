"""Round robin: the tournament schedule, a strong baseline without any measurements."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView


@dataclass(frozen=True, kw_only=True)
class RoundRobin(Matchmaker):
    """All agents meet all others once a cycle; roles are swapped from one cycle to the next.

    The circle method: one agent stays, the others move on by one place a round. A cycle takes N - 1
    rounds, or N where N is odd, and then every agent sits out once. Within a cycle each agent
    teaches in half of its meetings, give or take one; two cycles hold every ordered pair once.

    If a plan may hold fewer pairs than a round of the schedule, that round is spread over several.
    A pair that the protocol cannot serve swaps roles, or sits out if that does not help.

    Where students learn from one teacher each, or one a topic, the teachers take turns: from round
    to round and from topic to topic the next agent teaches. Under a budget, students ask about the
    topics that they have asked least about.
    """

    name: ClassVar[str] = "round_robin"
    by_topic: ClassVar[bool] = True

    def propose(self, view: RoundView) -> Plan:
        """Return the round's meetings."""
        if not view.matching.is_pairing:
            return view.match(_turns(view))
        pairs = _meetings(view.round - 1, view.num_agents, view.num_pairs)
        return view.plan([turned for pair in pairs for turned in _served(view, pair)])


def _turns(view: RoundView) -> Array:
    """Return scores below 0 by which the agents whose turn it is teach."""
    teachers, students, *topics = np.indices(view.shape)
    others = max(view.num_agents - 1, 1)
    places = (teachers - students) % view.num_agents - 1  # among a student's others, from 0
    topic = topics[0] if topics else 0
    waits = (places - (view.round - 1) - topic) % others
    if not topics:
        return np.asarray(-1.0 - waits)
    sizes_T = view.topics.sizes_T
    times_NT = view.ledger.requested(view.num_agents)[:, view.topics.categories_T] / sizes_T
    # Topics come before teachers: a budget is filled in descending score.
    queue_NT = times_NT * len(sizes_T) + np.arange(len(sizes_T))
    return np.asarray(-1.0 - waits - others * queue_NT)


def _meetings(step: int, num_agents: int, num_pairs: int) -> list[tuple[int, int]]:
    """Return the (teacher, student) pairs of the 0-based ``step`` of the schedule."""
    if num_agents < 2 or num_pairs < 1:
        return []
    num_places = num_agents + num_agents % 2  # the last place is the bye where N is odd
    num_parts = -(-(num_agents // 2) // num_pairs)
    slot, part = divmod(step, num_parts)
    cycle, turn = divmod(slot, num_places - 1)
    circle = [(turn + place) % (num_places - 1) for place in range(num_places - 1)]
    meetings = [(circle[0], num_places - 1)]
    meetings += [(circle[k], circle[-k]) for k in range(1, num_places // 2)]
    played = [pair for pair in meetings if max(pair) < num_agents]
    return [_roles(min(pair), max(pair), cycle) for pair in played[part::num_parts]]


def _roles(low: int, high: int, cycle: int) -> tuple[int, int]:
    """Return (teacher, student): by the parity of the distance, which shares the roles evenly."""
    return (low, high) if (high - low + cycle) % 2 else (high, low)


def _served(view: RoundView, pair: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pair in the first order that the protocol can serve, or nothing."""
    orders = [pair, pair[::-1]]
    mask_NN = view.admissible_NN
    return [order for order in orders if mask_NN is None or mask_NN[order]][:1]
