"""The interface of a federation that is set up for a run."""

from typing import Any, Protocol

from knexa.agents.byzantine import ByzantineAgents
from knexa.engine.local import Observer, Workers
from knexa.federation.world import World
from knexa.tracking.rows import RoundRow, SampleRow, Scores


class Setup(Protocol):
    """A federation set up for one run: its data and models are loaded, nothing has been trained.

    Attributes:
        workers: Where its phases run.
        checkpoint_every: Rounds between two checkpoints.
        byzantine: The Byzantine agents, and their attacks.
    """

    workers: Workers
    checkpoint_every: int
    byzantine: ByzantineAgents

    def world(self, observer: Observer) -> World:
        """Start the agents; ``observer`` receives the progress of their phases."""

    def overview(self) -> dict[str, Any]:
        """Return the fields of ``StartInfo`` that describe agents, data and exchange."""

    def judged(self, samples: list[SampleRow]) -> list[SampleRow]:
        """Return the final samples with what hidden tests say of them, where the data has some."""

    def scores(self, rounds: list[RoundRow], samples: list[SampleRow]) -> Scores:
        """Return the scores for summary.json."""
