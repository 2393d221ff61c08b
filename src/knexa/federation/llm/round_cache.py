"""What is computed from a round's snapshot: packages, what is kept of them, and trials; each once.

A phase is a pure function of the states, so a probed exchange *is* the exchange, and whoever asks
for what was computed already is given that. What rests only on agents that are busy stays from
round to round: their states do not change until their exchange takes effect. After a resume it is
computed again, and gives the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeRuntime,
    GroupTransfer,
    Learned,
    Measurement,
    OutgoingPackage,
    ReceivedKnowledge,
    Taught,
    Topics,
    union,
)
from knexa.agents.scoring import measure
from knexa.agents.state import AgentState
from knexa.engine.local import Pool

Asked = tuple[int, Topics]
"""A teacher, and the topics that it is asked for."""
Source = tuple[tuple[int, ...], Topics]
"""The teachers of a directive, and the topics that they are asked for."""
Arm = tuple[tuple[Source, ...], int]
"""All that a student is taught in a round, and the student."""

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key; ``agents_of`` tells on whose states a key's value rests."""

    def __init__(self, agents_of: Callable[[K], Iterable[int]]) -> None:
        self._agents_of, self._values = agents_of, dict[K, V]()

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def items(self) -> Iterable[tuple[K, V]]:
        """Return what is known."""
        return self._values.items()

    def fill(self, keys: Iterable[K], compute: Callable[[list[K]], Iterable[V]]) -> None:
        """Compute what is not known yet, all of it in one call."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._values]
        if missing:
            self._values.update(zip(missing, compute(missing), strict=True))

    def put(self, values: Mapping[K, V]) -> None:
        """Take values that were computed elsewhere."""
        self._values.update(values)

    def keep(self, idle: set[int]) -> None:
        """Forget what rests on anybody else's state."""
        known = self._values.items()
        self._values = {key: value for key, value in known if idle.issuperset(self._agents_of(key))}


class RoundCache:
    """Computes on demand from ``states``, the list of all members' that its owner changes."""

    def __init__(self, runtime: ExchangeRuntime, pool: Pool, states: list[AgentState]) -> None:
        self.runtime, self.pool, self.states = runtime, pool, states
        self.packages = Memo[Asked, OutgoingPackage](lambda asked: asked[:1])
        self.received = Memo[Asked, ReceivedKnowledge](lambda asked: asked[:1])
        self.transfers = Memo[Source, GroupTransfer](lambda source: source[0])
        self.measured = Memo[int, Measurement](lambda student: (student,))
        self.trials = Memo[Arm, tuple[AgentState, Learned]](_agents_of_arm)

    def begin_round(self, idle: set[int]) -> None:
        """Forget the round before, but for what rests on agents that stay as they are."""
        for memo in (self.packages, self.received, self.transfers, self.measured, self.trials):
            memo.keep(idle)

    def make_packages(self, round_number: int, asked: Iterable[Asked]) -> None:
        """Let these teachers teach."""
        speaker = self.runtime.byzantine.speaker

        def compute(missing: list[Asked]) -> list[OutgoingPackage]:
            tasks = [(self.states[speaker(j)], round_number, j, topics) for j, topics in missing]
            return self.pool.map(phases.teach, tasks, [teacher for teacher, _ in missing])

        self.packages.fill(asked, compute)

    def receive(self, round_number: int, asked: Sequence[Asked]) -> None:
        """Read what these teachers sent."""

        def compute(missing: list[Asked]) -> list[ReceivedKnowledge]:
            tasks = [(self.packages[each], round_number, each[1]) for each in missing]
            return self.pool.map(phases.receive, tasks, [teacher for teacher, _ in missing])

        self.make_packages(round_number, asked)
        self.received.fill(asked, compute)

    def deliver(self, round_number: int, arms: Iterable[Arm]) -> None:
        """Put together what each group of teachers brings."""
        students: dict[Source, list[int]] = {}
        for sources, student in arms:
            for source in sources:
                students.setdefault(source, []).append(student)

        def compute(missing: list[Source]) -> Iterable[GroupTransfer]:
            asked = {(j, topics) for teachers, topics in missing for j in teachers}
            self.receive(round_number, sorted(asked, key=in_order))
            for source in missing:
                teachers, topics = source
                context = _DeliverContext(self, round_number, topics)
                yield self.runtime.protocol.deliver(context, teachers, students[source])

        self.transfers.fill(students, compute)

    def measure(self, students: Iterable[int]) -> None:
        """Measure these students before they learn."""

        def compute(missing: list[int]) -> list[Measurement]:
            return self.pool.map(measure, [(self.states[i],) for i in missing], missing)

        self.measured.fill(students, compute)

    def learn(self, round_number: int, arms: Sequence[Arm]) -> None:
        """Let every student learn from all that it is taught; no state changes."""
        self.deliver(round_number, arms)
        for arm in arms:  # a server learns before it teaches
            sources, student = arm
            for source in sources:
                if student in self.transfers[source].learned:
                    self.trials.put({arm: self.transfers[source].learned[student]})

        def compute(missing: list[Arm]) -> list[tuple[AgentState, Learned]]:
            students = [student for _, student in missing]
            self.measure(students)
            tasks = [
                (self.states[i], self.knowledge(sources, i), round_number, self.measured[i])
                for sources, i in missing
            ]
            return self.pool.map(phases.learn, tasks, students)

        self.trials.fill(arms, compute)

    def knowledge(self, sources: Sequence[Source], student: int) -> ReceivedKnowledge:
        """Return all that reaches a student as one."""
        received = [self.transfers[source].for_student(student) for source in sources]
        return union(self.runtime.protocol, received)

    def kilobytes(self, sources: Sequence[Source]) -> float:
        """Return what travels to a student."""
        return sum(self.transfers[source].kilobytes for source in sources)


@dataclass(frozen=True, slots=True)
class _DeliverContext:
    """A ``RoundContext`` over the cache."""

    cache: RoundCache
    round_number: int
    topics: Topics

    @property
    def runtime(self) -> ExchangeRuntime:
        return self.cache.runtime

    @property
    def states(self) -> Sequence[AgentState]:
        return self.cache.states

    def taught(self, teachers: Sequence[int]) -> list[Taught]:
        asked = [(teacher, self.topics) for teacher in teachers]
        self.cache.receive(self.round_number, asked)
        return [(self.cache.packages[each], self.cache.received[each]) for each in asked]

    def map(self, phase: Callable[..., Any], tasks: Sequence[Any], keys: Sequence[int]) -> Any:
        return self.cache.pool.map(phase, tasks, keys)


def in_order(asked: Asked) -> tuple[int, tuple[int, ...]]:
    """Return what sorts by teacher, then by topics, all of them first."""
    return asked[0], asked[1] or ()


def _agents_of_arm(arm: Arm) -> set[int]:
    sources, student = arm
    return {student}.union(*(teachers for teachers, _ in sources))
