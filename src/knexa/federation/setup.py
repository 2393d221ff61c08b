"""What a run asks of its federation before the first round and after the last."""

from typing import Any, Protocol

from knexa.agents.byzantine import ByzantineAgents
from knexa.engine.local import Observer, Workers
from knexa.federation.world import World
from knexa.tracking.rows import RoundRow, SampleRow, Scores


class Setup(Protocol):
    """A federation set up for one run: its data and models are loaded, nothing has been trained.

    Attributes:
        workers: Where its phases run.
        checkpoint_every: Rounds between two checkpoints: what a kill can cost.
    """

    workers: Workers
    checkpoint_every: int

    @property
    def byzantine(self) -> ByzantineAgents:
        """Who lies, and how."""

    def world(self, observer: Observer) -> World:
        """Start the agents; ``observer`` is told of their phases."""

    def overview(self) -> dict[str, Any]:
        """Return the fields of ``StartInfo`` that describe agents, data and exchange."""

    def scores(self, rounds: list[RoundRow], samples: list[SampleRow]) -> Scores:
        """Return the final scores, and what they rest on, for summary.json."""
