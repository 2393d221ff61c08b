"""The interface between the round loop and a federation of language models or formulas."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.plans import Directive, Feedback, Plan
from knexa.matchmaking.round_view import Probe
from knexa.tracking.rows import AgentRow, SampleRow, ServerCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The result of a directive that was carried out.

    ``reward`` is the raw reward, a mean over the students; ``kilobytes`` is all traffic of the
    directive; ``server`` is what a server agent spent on it, where there is one; ``answers`` are
    counts by topic, summed over the students, under a reward of answers.
    """

    directive: Directive
    reward: float
    kilobytes: float
    items_sent: int
    items_kept: int
    guardrail: dict[str, int]
    server: ServerCosts | None = None
    answers: tuple[TopicAnswers, ...] = ()

    def feedback(self) -> Feedback:
        """Return what the CPM is told of it."""
        return Feedback(
            directive_id=self.directive.id,
            reward=self.reward,
            answers=self.answers if self.directive.pair else (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A directive tried on its round's snapshot, before ``commit`` applies it.

    Attributes:
        directive: Who teaches whom.
        learning_tokens: Tokens that each student trains on; a student of several directives learns
            once, from all of them.
    """

    directive: Directive
    learning_tokens: dict[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A teacher's package as the network sees it.

    Attributes:
        parts: The bytes as sent, or the digests of those that are in an object store.
        kilobytes: Their size.
        tokens_generated: Tokens that the teacher decoded for them.
        items_sent: Number of answers.
        guardrail: What the teacher's guardrail blocked, redacted and counted.
    """

    parts: tuple[bytes, ...]
    kilobytes: float
    tokens_generated: int
    items_sent: int
    guardrail: dict[str, int]


class World(Protocol):
    """A federation that lives through rounds.

    Attributes:
        num_agents: N.
        protocol_name: The exchange protocol of the config.
        admissible_NN: Which ordered pairs it can serve; None is all.
        topics: The topics of the transfer set; none among formulas.
    """

    num_agents: int
    protocol_name: str
    admissible_NN: Mask | None
    topics: TransferTopics

    def begin_round(self, round_number: int, active_N: Mask | None = None) -> None:
        """Update every agent locally, or only those of ``active_N``: others are away or busy."""

    def update_tokens(self) -> list[int]:
        """Return how many tokens each agent trained on in this round's update."""

    def profiles(self) -> Array:
        """Return profiles_NF, all that the CPM is told of the agents."""

    def probe(self, round_number: int, *, by_topic: bool = False) -> Probe:
        """Return the reward that every arm would earn now; no state changes.

        An arm is an ordered pair, or with ``by_topic`` a teacher, a student and a topic.
        """

    def peer_losses(self, round_number: int, *, by_topic: bool = False) -> Array:
        """Return every student's loss on every teacher's text, diagonal NaN.

        Of shape [N, N], ``[teacher, student]``; or with ``by_topic`` [N, N, T], of the text on each
        topic.
        """

    def packages(self, round_number: int, plan: Plan) -> dict[str, dict[int, Package]]:
        """Return the plan's packages, by directive and teacher; no state changes."""

    def try_learning(self, round_number: int, plan: Plan) -> list[Trial]:
        """Return a trial of each directive on the snapshot of that round; no state changes.

        The round may be an earlier one, whose agents have been busy until now.
        """

    def commit(self, round_number: int, trials: Sequence[Trial]) -> list[Exchange]:
        """Apply the trials: the students become what they learned; one result a trial, in order."""

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[AgentRow]:
        """Return the agents' rows of rounds.jsonl."""

    def final_samples(self) -> list[SampleRow]:
        """Return the rows of samples.jsonl.zst."""

    def save(self, folder: Path) -> None:
        """Write the world's state into an empty folder."""

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
