"""What an exchange protocol is: what travels from teachers to students, and how it is learned.

A protocol is one class in one file (``knexa.protocols``, or a trusted module of the user's) and
one YAML of the config group ``exchange``. A teacher's ``teach`` makes an ``OutgoingPackage``;
``receive`` turns it into ``ReceivedKnowledge``, which does not depend on the student and is made
once; ``deliver`` puts many teachers' knowledge together; a student's ``learn`` trains on it. All
but ``deliver`` are phases: pure functions that run in any process.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

from knexa.agents.runtime import Runtime
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import FitReport, Term
from knexa.engine.object_refs import HasLarge, fetched
from knexa.exchange.package import TextItem
from knexa.tracking.rows import ServerCosts

Common = Literal["nothing", "tokenizer", "backbone"]
Topics = tuple[int, ...] | None
"""Categories of transfer problems that a teacher is asked for; None is all of them."""

NOTHING_FOUND: Mapping[str, int] = {"blocked": 0, "redacted": 0, "counted": 0}
"""The counts of a guardrail that found nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingPackage(HasLarge):
    """What a teacher sends, as it leaves the gateway.

    Attributes:
        teacher: Roster index of the sender.
        text: A ``KnowledgePackage`` as bytes; empty where the protocol sends no text.
        payload: The protocol's own bytes, such as tensors.
        items_sent: How many answers (or packages of numbers) it holds.
        guardrail: What the sender's guardrail blocked, redacted and counted.
        tokens_generated: What the teacher decoded for it.
    """

    large: ClassVar[tuple[str, ...]] = ("text", "payload")

    teacher: int
    text: bytes = b""
    payload: bytes = b""
    items_sent: int
    guardrail: Mapping[str, int] = field(default_factory=lambda: NOTHING_FOUND)
    tokens_generated: int = 0

    @property
    def kilobytes(self) -> float:
        """Size of the package as sent, in units of 1,024 bytes."""
        return (len(self.text) + len(self.payload)) / 1024

    @property
    def sier(self) -> float | None:
        """Share of the answers at the gateway that something was found in; None without text."""
        answers = self.items_sent + self.guardrail["blocked"]
        return sum(self.guardrail.values()) / answers if self.text and answers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedKnowledge(HasLarge):
    """What any student keeps of a package; a protocol that sends more than text derives its own.

    Attributes:
        guardrail: What the receiving gateway's guardrail did.
        items: The answers that passed, with their confidence.
        texts: The same as a student learns from them, weighed.
    """

    large: ClassVar[tuple[str, ...]] = ("items", "texts")

    guardrail: Mapping[str, int] = field(default_factory=lambda: NOTHING_FOUND)
    items: tuple[TextItem, ...] = ()
    texts: tuple[KeptText, ...] = ()

    @property
    def items_kept(self) -> int:
        """How many of the items that were sent are learned from."""
        return len(self.texts)


Taught = tuple[OutgoingPackage, ReceivedKnowledge]
"""A teacher's package, and what anybody keeps of it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """An agent measured before or after it learns.

    Attributes:
        loss: Mean token cross-entropy on its validation split, in nats; None without one.
        value: What the reward is measured by; None where it is a loss that the agent has not.
    """

    loss: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class Learned:
    """What learning did to a student."""

    before: Measurement
    after: Measurement
    fit: FitReport
    items_kept: int


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What a protocol's phases work with.

    Attributes:
        runtime: The models, the data and the run's components in this process.
        round_number: The round, from 1 on.
        topics: Categories of transfer problems that the directive asks for; None is all of them.
    """

    runtime: Runtime
    round_number: int
    topics: Topics = None


class RoundContext(Protocol):
    """What ``deliver`` works with: the round's states and packages, and whoever runs phases."""

    @property
    def runtime(self) -> Runtime:
        """The models, the data and the run's components."""

    @property
    def round_number(self) -> int:
        """The round, from 1 on."""

    @property
    def states(self) -> Sequence[AgentState]:
        """Every member's state in the round's snapshot, servers behind the agents."""

    def taught(self, teachers: Sequence[int]) -> list[Taught]:
        """Return what each of these teachers sent, and what is kept of it."""

    def map(self, phase: Callable[..., Any], tasks: Sequence[Any], keys: Sequence[int]) -> Any:
        """Run ``phase(runtime, *task)`` for every task; ``keys`` are the agents that it is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTransfer:
    """What a group of teachers (of one, mostly) brings its students, and what that took.

    Attributes:
        received: What a student learns from.
        kilobytes: What travels to each student.
        shared_kilobytes: What travels besides: uploads to a server, a pool sent out to be scored.
        items_sent: Answers (or packages of numbers) that the teachers sent.
        guardrail: Counts of all gateways on the way.
        own: The students that learn from something else than ``received``.
        learned: The students that have learned already: a server learns before it teaches.
        server: What a server agent spent, for the exchange's row.
    """

    received: ReceivedKnowledge
    kilobytes: float
    shared_kilobytes: float = 0.0
    items_sent: int
    guardrail: Mapping[str, int]
    own: Mapping[int, ReceivedKnowledge] = field(default_factory=dict)
    learned: Mapping[int, tuple[AgentState, Learned]] = field(default_factory=dict)
    server: ServerCosts | None = None

    def for_student(self, student: int) -> ReceivedKnowledge:
        """Return what that student learns from."""
        return self.own.get(student, self.received)


class ExchangeProtocol:
    """Base of every exchange protocol.

    Class attributes:
        name: Its name, which is also its option of the config group ``exchange``.
        pairs: Whether one peer teaches another; a protocol of groups belongs to the matchmaker
            that dictates it.
        common: What a teacher and its student must have in common.
        carries: What a teacher sends, in a word.
        has_text: Whether that holds text, which peers may score and liars may forge.
        rehearses: Students keep text and rehearse it in local updates.
        shares_start: Agents with equal backbones begin with equal adapters.
    """

    name: ClassVar[str] = ""
    pairs: ClassVar[bool] = True
    common: ClassVar[Common] = "nothing"
    carries: ClassVar[str] = "text"
    has_text: ClassVar[bool] = True
    rehearses: ClassVar[bool] = False
    shares_start: ClassVar[bool] = False

    @property
    def steps_per_exchange(self) -> int:
        """Optimizer steps that a student takes in one exchange."""
        return 0

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        """Return what the agent teaches, as far as the guardrail lets it out.

        Args:
            context: The round.
            state: The teacher.
            sender: Whose name the package bears: the teacher's, or another's whom a sybil speaks
                for.
        """
        raise NotImplementedError

    def receive(
        self, context: ExchangeContext, package: OutgoingPackage
    ) -> "ReceivedKnowledge | Generator[None, None, ReceivedKnowledge]":
        """Read, vet and (as a generator that yields once its programs run) verify a package.

        Raises:
            PackageError: The package is not valid: anybody may have written it.
        """
        raise NotImplementedError

    def learn(
        self,
        context: ExchangeContext,
        state: AgentState,
        received: ReceivedKnowledge | None,
        before: Measurement,
    ) -> tuple[AgentState, Learned]:
        """Return the student after it has learned, and what that did to it.

        Without ``received`` this is the no-teacher arm of the probes: equal training on what the
        student has.
        """
        raise NotImplementedError

    def deliver(
        self, context: RoundContext, teachers: Sequence[int], students: Sequence[int]
    ) -> GroupTransfer:
        """Return what the teachers bring these students: here one teacher's package as it is."""
        ((package, received),) = context.taught(teachers)
        return GroupTransfer(
            received=received,
            kilobytes=package.kilobytes,
            items_sent=package.items_sent,
            guardrail=summed([package.guardrail, received.guardrail]),
        )

    def combine(self, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
        """Return the union of what several directives bring one student: it learns once a round."""
        return replace(
            received[0],
            guardrail=summed([each.guardrail for each in received]),
            items=tuple(item for each in received for item in each.items),
            texts=tuple(dict.fromkeys(text for each in received for text in each.texts)),
        )

    def rehearsal(self, context: ExchangeContext, state: AgentState) -> tuple[float, list[Term]]:
        """Return what a local update trains on beside private data: (its weight, its terms)."""
        return 0.0, []


@dataclass(kw_only=True)
class ExchangeRuntime(Runtime):
    """The runtime of agents that teach each other by a protocol."""

    protocol: ExchangeProtocol

    @property
    def steps_per_exchange(self) -> int:
        """Optimizer steps that a student takes in one exchange."""
        return self.protocol.steps_per_exchange


def union(protocol: ExchangeProtocol, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
    """Return all that reaches a student in a round as one."""
    return received[0] if len(received) == 1 else protocol.combine([fetched(r) for r in received])


def summed(reports: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of guardrail counts, by kind."""
    return {kind: sum(report[kind] for report in reports) for kind in reports[0]}
