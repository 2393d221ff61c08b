"""Base of every matchmaker: ``propose`` returns a plan, ``learn`` (optional) takes rewards.

Axes: K arms, d context features.
"""

from typing import Any, ClassVar

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.round_view import RoundView

NEEDS = frozenset({"probes", "peer losses"})
"""What a policy may ask to see beyond profiles and rewards."""


class Matchmaker:
    """Base of every matchmaker: override ``propose``; override the rest where the policy learns.

    Class attributes:
        needs: What the policy sees beyond profiles and rewards, e.g. ``{"probes"}``; shown at the
            start of a run and in reports.
        protocol: Name of the exchange protocol that the policy dictates; None follows the config.
        num_servers: Server agents (without private data) that its plans name; their indices follow
            the agents'.
        by_topic: Whether it can score arms that have topics.
        teaches_itself: Whether its plans let an agent teach itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    protocol: ClassVar[str | None] = None
    num_servers: ClassVar[int] = 0
    by_topic: ClassVar[bool] = False
    teaches_itself: ClassVar[bool] = False

    def start(self, num_features: int) -> None:
        """Prepare for contexts of d = ``num_features``; called once, before the first round."""

    def propose(self, view: RoundView) -> Plan:
        """Return the round's plan."""
        raise NotImplementedError

    def learn(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Learn from K rewards (normalised as configured) and the contexts of their pairs.

        Args:
            contexts_Kd: The context of each pair in the round that chose it.
            rewards_K: What the pair earned.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the learned state as arrays, numbers and strings (for the checkpoint)."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
