"""What the round loop asks of a federation, be its agents language models or formulas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.base import Directive, Plan, Probe
from knexa.tracking.rows import AgentRow, SampleRow, ServerCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One directive carried out: the raw reward, what travelled and what was kept of it.

    ``reward`` is the mean over its students, ``kilobytes`` everything that was sent for it.
    ``server`` is what a server agent spent on it, where there is one.
    """

    directive: Directive
    reward: float
    kilobytes: float
    items_sent: int
    items_kept: int
    guardrail: dict[str, int]
    server: ServerCosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A directive tried on its round's snapshot; nothing has changed.

    Attributes:
        directive: Who teaches whom.
        learning_tokens: How many tokens learning takes each student; a student of several
            directives learns once, from all of them.
    """

    directive: Directive
    learning_tokens: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a teacher sends for a directive.

    Attributes:
        parts: The bytes as sent, or the digests of those that are in an object store.
        kilobytes: What they count for.
        tokens_generated: What the teacher generated to make them.
        items_sent: How many answers they hold.
        guardrail: What the teacher's gateway did.
    """

    parts: tuple[bytes, ...]
    kilobytes: float
    tokens_generated: int
    items_sent: int
    guardrail: dict[str, int]


class World(Protocol):
    """A federation that lives through rounds."""

    num_agents: int
    protocol_name: str
    admissible_NN: Mask | None

    def begin_round(self, round_number: int, active_N: Mask | None = None) -> None:
        """Let every agent update itself, or those of ``active_N`` alone.

        The others are away or busy with an exchange: their states stay as they are.
        """

    def update_tokens(self) -> list[int]:
        """Return how many tokens each agent trained on in this round's update."""

    def profiles(self) -> Array:
        """Return profiles_NF, all that the CPM learns of the agents."""

    def probe(self, round_number: int) -> Probe:
        """Return what every ordered pair would earn now; nothing changes."""

    def peer_losses(self, round_number: int) -> Array:
        """Return peer_losses_NN, every student's loss on every teacher's text, diagonal NaN."""

    def packages(self, round_number: int, plan: Plan) -> dict[str, dict[int, Package]]:
        """Return what the plan's teachers send, by directive and teacher; no state changes."""

    def try_learning(self, round_number: int, plan: Plan) -> list[Trial]:
        """Let the plan's students learn from the snapshot of that round; no state changes.

        The round may be an earlier one, whose agents have been busy until now.

        Returns:
            A trial for each directive, in the plan's order.
        """

    def commit(self, round_number: int, trials: Sequence[Trial]) -> list[Exchange]:
        """Apply the trials: the students become what they learned; one result a trial, in order."""

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[AgentRow]:
        """Return what stands in the round's rows of rounds.jsonl, by agent."""

    def final_samples(self) -> list[SampleRow]:
        """Return the rows of samples.jsonl.zst."""

    def save(self, folder: Path) -> None:
        """Write the world's state into an empty folder."""

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
