"""Exchange protocols: what travels from teachers to students, and how students learn from it.

To add one, derive a class from ``ExchangeProtocol`` in a file of its own (in ``knexa.protocols``,
or in a trusted module outside the package) and add one YAML to the config group ``exchange``. A
teacher's ``teach`` makes an ``OutgoingPackage``; ``receive`` turns it into ``ReceivedKnowledge``,
once for all students; ``deliver`` combines the knowledge of many teachers; a student's ``learn``
trains on it. All but ``deliver`` are phases: pure functions that run in any process.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from knexa.agents.runtime import Runtime
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import FitReport, Term
from knexa.data.problem import Problem
from knexa.engine.object_refs import HasLarge
from knexa.exchange.package import TextItem
from knexa.tracking.rows import ServerCosts

Common = Literal["nothing", "tokenizer", "backbone"]
Topics = tuple[int, ...] | None
"""Categories of transfer problems that a teacher is asked for; None is all of them."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a student asks a teacher.

    Attributes:
        topics: Categories of transfer problems; None is all of them.
        missing: Ids of the problems on these topics that it asks about; None is all.
    """

    topics: Topics = None
    missing: frozenset[str] | None = None


NOTHING_FOUND: Mapping[str, int] = {"blocked": 0, "redacted": 0, "counted": 0}
"""Guardrail counts of a package without findings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingPackage(HasLarge):
    """A teacher's package after its own guardrail.

    Attributes:
        teacher: Roster index of the sender.
        text: A ``KnowledgePackage`` as bytes; empty where the protocol sends no text.
        payload: The protocol's own bytes, such as tensors.
        items_sent: Number of answers, or of packages of numbers.
        guardrail: What the sender's guardrail blocked, redacted and counted.
        tokens_generated: Tokens that the teacher decoded for it.
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
    def findings(self) -> tuple[int, int]:
        """Findings of the sender's guardrail, and the answers that it vetted; 0 without text."""
        if not self.text:
            return 0, 0
        return sum(self.guardrail.values()), self.items_sent + self.guardrail["blocked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedKnowledge(HasLarge):
    """What students keep of a package; a protocol that sends more than text derives its own class.

    Attributes:
        guardrail: What the receiver's guardrail blocked, redacted and counted.
        items: The answers that passed, with their confidence.
        texts: The same answers with their weights in training.
    """

    large: ClassVar[tuple[str, ...]] = ("items", "texts")

    guardrail: Mapping[str, int] = field(default_factory=lambda: NOTHING_FOUND)
    items: tuple[TextItem, ...] = ()
    texts: tuple[KeptText, ...] = ()

    @property
    def items_kept(self) -> int:
        """Number of sent items that are learned from."""
        return len(self.texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written(HasLarge):
    """What a teacher has written in a round; its packages are parts of it.

    Attributes:
        answers: Its answers by problem; a problem may have none.
        tokens: Tokens decoded for each problem that it was to answer.
    """

    large: ClassVar[tuple[str, ...]] = ("answers",)

    answers: Mapping[str, TextItem] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


Taught = tuple[OutgoingPackage, ReceivedKnowledge]
"""A teacher's package, and what students keep of it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """An agent measured before or after it learns.

    Attributes:
        loss: Mean token cross-entropy on its validation split, in nats; None without one.
        value: The quantity that the reward compares; None where it is a loss without a split.
    """

    loss: float | None
    value: float | None


@dataclass(frozen=True, slots=True)
class Learned:
    """The result of a student's learning."""

    before: Measurement
    after: Measurement
    fit: FitReport
    items_kept: int


@dataclass(kw_only=True)
class ExchangeRuntime(Runtime):
    """The runtime of agents that teach each other by a protocol."""

    protocol: "ExchangeProtocol"


@dataclass(frozen=True, slots=True)
class ExchangeContext:
    """What ``teach``, ``receive`` and ``learn`` work with.

    Attributes:
        runtime: The models, the data and the run's components in this process.
        round_number: The round, from 1 on.
        question: What the student asks; everything where nothing was asked.
        written: What the teacher wrote in the round, which its packages are made from.
    """

    runtime: ExchangeRuntime
    round_number: int
    question: Question = Question()
    written: Written = Written()

    def asks(self, problem: Problem) -> bool:
        """Return whether the question is about the problem."""
        topics, missing = self.question.topics, self.question.missing
        is_on_topic = topics is None or problem.category in topics
        return is_on_topic and (missing is None or problem.task_id in missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """What ``deliver`` works with.

    Attributes:
        runtime: The models, the data and the run's components.
        round_number: The round, from 1 on.
        states: Every member's state in the round's snapshot, servers behind the agents.
        taught: Returns what each of these teachers sent, and what students keep of it.
        map: Runs ``phase(runtime, *task)`` for every task, given the agents that the tasks are for.
    """

    runtime: ExchangeRuntime
    round_number: int
    states: Sequence[AgentState]
    taught: Callable[[Sequence[int]], list[Taught]]
    map: Callable[[Callable[..., Any], Sequence[Any], Sequence[int]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupTransfer:
    """What a group of teachers (mostly a group of one) brings its students, and what it cost.

    Attributes:
        received: What a student learns from.
        kilobytes: What travels to each student.
        shared_kilobytes: All other traffic: uploads to a server, a pool sent out to be scored.
        items_sent: Answers (or packages of numbers) that the teachers sent.
        guardrail: Counts of all guardrails on the way.
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
        """Return what ``student`` learns from."""
        return self.own.get(student, self.received)


class ExchangeProtocol:
    """Base of every exchange protocol.

    Class attributes:
        name: Its option of the config group ``exchange``.
        pairs: Whether one peer teaches another; a protocol of groups belongs to the matchmaker
            that dictates it.
        common: What a teacher and its student must have in common.
        carries: What a teacher sends, in a word.
        has_text: Whether packages hold text, which peers may score and Byzantine agents forge.
        by_topic: Whether a teacher can be asked about some categories of problems alone.
        rehearses: Whether students keep text (``AgentState.replay``) and rehearse it in local
            updates.
        shares_start: Whether agents with equal backbones begin with equal adapters.
    """

    name: ClassVar[str] = ""
    pairs: ClassVar[bool] = True
    common: ClassVar[Common] = "nothing"
    carries: ClassVar[str] = "text"
    has_text: ClassVar[bool] = True
    by_topic: ClassVar[bool] = True
    rehearses: ClassVar[bool] = False
    shares_start: ClassVar[bool] = False

    @property
    def steps_per_exchange(self) -> int:
        """Optimizer steps that a student takes in one exchange."""
        return 0

    @property
    def verifies(self) -> bool:
        """Whether an answer counts only where it passes the problem's public tests."""
        return False

    @property
    def asks_missing(self) -> bool:
        """Whether students ask only about problems to which they keep no verified answer."""
        return False

    def problems(self, context: ExchangeContext) -> Sequence[Problem]:
        """Return the transfer problems that a teacher is asked in the round."""
        return ()

    def write(
        self, context: ExchangeContext, state: AgentState, problems: Sequence[Problem]
    ) -> Written:
        """Return what the teacher ``state`` has written once it has answered these problems too.

        ``context.written`` is what it wrote before in the round, and is not written again. Called
        before ``teach``, with all that is asked; a protocol without text writes nothing.
        """
        return context.written

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        """Return the package of the teacher ``state``, vetted by its guardrail.

        ``sender`` is whose name the package bears: the teacher's, but where one sybil writes the
        package of another.
        """
        raise NotImplementedError

    def receive(
        self, context: ExchangeContext, package: OutgoingPackage
    ) -> "ReceivedKnowledge | Generator[None, None, ReceivedKnowledge]":
        """Read, vet and verify a package; a generator yields once its programs run.

        Raises:
            PackageError: The package, which anybody may have written, is not valid.
        """
        raise NotImplementedError

    def learn(
        self,
        context: ExchangeContext,
        state: AgentState,
        received: ReceivedKnowledge | None,
        before: Measurement,
    ) -> tuple[AgentState, Learned]:
        """Return the student after learning, and its report.

        Without ``received`` this is the no-teacher arm of the probes: equal training on what the
        student has.
        """
        raise NotImplementedError

    def deliver(
        self, context: RoundContext, teachers: Sequence[int], students: Sequence[int]
    ) -> GroupTransfer:
        """Return what the teachers bring these students: here one teacher's package unchanged."""
        ((package, received),) = context.taught(teachers)
        return GroupTransfer(
            received=received,
            kilobytes=package.kilobytes,
            items_sent=package.items_sent,
            guardrail=summed([package.guardrail, received.guardrail]),
        )

    def combine(self, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
        """Return the union of what several directives bring one student: it learns once a round.

        A protocol whose students keep more than text overrides this.
        """
        if type(received[0]) is not ReceivedKnowledge:
            raise NotImplementedError(
                f"{type(self).__name__}.combine is missing: several directives teach one student"
            )
        return replace(
            received[0],
            guardrail=summed([each.guardrail for each in received]),
            items=tuple(item for each in received for item in each.items),
            texts=tuple(dict.fromkeys(text for each in received for text in each.texts)),
        )

    def rehearsal(self, context: ExchangeContext, state: AgentState) -> tuple[float, list[Term]]:
        """Return (weight, terms) of what a local update trains on beside private data."""
        return 0.0, []


def sier_of(findings: Iterable[tuple[int, int]]) -> float | None:
    """Return the share of answers with a finding (see ``OutgoingPackage.findings``), if any."""
    found, vetted = (sum(counts) for counts in zip((0, 0), *findings, strict=True))
    return found / vetted if vetted else None


def summed(reports: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return guardrail counts summed by kind."""
    return {kind: sum(report.get(kind, 0) for report in reports) for kind in reports[0]}
