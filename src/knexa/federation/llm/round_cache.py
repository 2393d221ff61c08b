"""The results of a round's phases, each computed once: packages, transfers, trials of learning.

A phase is a pure function of the states, so the result of a probe is also that of the exchange.
Results that depend on busy agents alone are kept from round to round, as the states of these do not
change until their exchange takes effect. After a resume they are computed again, and are the same.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    GroupTransfer,
    Learned,
    Measurement,
    OutgoingPackage,
    Question,
    ReceivedKnowledge,
    RoundContext,
    Taught,
    Written,
)
from knexa.agents.scoring import measure
from knexa.agents.state import AgentState
from knexa.engine.local import Pool
from knexa.engine.object_refs import fetched

Asked = tuple[int, Question]
"""(teacher, what it is asked)."""
Source = tuple[tuple[int, ...], Question]
"""(teachers of a directive, what they are asked)."""
Arm = tuple[tuple[Source, ...], int]
"""(all sources of a student in a round, the student)."""

K = TypeVar("K")
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key; ``agents_of`` names the agents whose states a key's value depends on."""

    def __init__(self, agents_of: Callable[[K], Iterable[int]]) -> None:
        self._agents_of, self._values = agents_of, dict[K, V]()

    def __getitem__(self, key: K) -> V:
        return self._values[key]

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def get(self, key: K, default: V) -> V:
        """Return the key's value, or ``default`` where there is none."""
        return self._values.get(key, default)

    def fill(self, keys: Iterable[K], compute: Callable[[list[K]], Iterable[V]]) -> None:
        """Compute the missing values, all in one call."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._values]
        if missing:
            self._values.update(zip(missing, compute(missing), strict=True))

    def put(self, values: Mapping[K, V]) -> None:
        """Add values that were computed elsewhere."""
        self._values.update(values)

    def keep(self, unchanged: set[int]) -> None:
        """Keep only the values that depend on no other agents than these."""
        self._values = {
            key: value
            for key, value in self._values.items()
            if unchanged.issuperset(self._agents_of(key))
        }


class RoundCache:
    """Computes on demand from ``states``, the list of all members' states, which ``LLMWorld`` owns.

    ``written``, ``packages``, ``received``, ``transfers``, ``measured`` and ``trials`` hold the
    results. A teacher writes an answer once a round, however often it is asked for it.
    """

    def __init__(self, runtime: ExchangeRuntime, pool: Pool, states: list[AgentState]) -> None:
        self.runtime, self.pool, self.states = runtime, pool, states
        self.written = Memo[int, Written](lambda teacher: (teacher,))
        self.packages = Memo[Asked, OutgoingPackage](lambda asked: asked[:1])
        self.received = Memo[Asked, ReceivedKnowledge](lambda asked: asked[:1])
        self.transfers = Memo[Source, GroupTransfer](lambda source: source[0])
        self.measured = Memo[int, Measurement](lambda student: (student,))
        self.trials = Memo[Arm, tuple[AgentState, Learned]](_agents_of_arm)

    def begin_round(self, idle: set[int]) -> None:
        """Forget the results that depend on any agent but the idle ones."""
        self.written.keep(idle)
        for memo in (self.packages, self.received, self.transfers, self.measured, self.trials):
            memo.keep(idle)

    def make_packages(self, round_number: int, asked: Iterable[Asked]) -> None:
        """Let the teachers write what they are asked, each all of it at once, and pack it."""
        speaker = self.runtime.byzantine.speaker

        def compute(missing: list[Asked]) -> list[OutgoingPackage]:
            questions: dict[int, list[Question]] = {}
            for teacher, question in missing:
                questions.setdefault(teacher, []).append(question)
            tasks = [
                (self.states[speaker(j)], round_number, j, asked, self.written.get(j, Written()))
                for j, asked in questions.items()
            ]
            taught = self.pool.map(phases.teach, tasks, list(questions))
            sent: dict[Asked, OutgoingPackage] = {}
            for (teacher, asked), (packages, written) in zip(
                questions.items(), taught, strict=True
            ):
                self.written.put({teacher: written})
                sent |= zip(((teacher, question) for question in asked), packages, strict=True)
            return [sent[each] for each in missing]

        self.packages.fill(asked, compute)

    def receive(self, round_number: int, asked: Sequence[Asked]) -> None:
        """Let the packages be read, vetted and verified."""

        def compute(missing: list[Asked]) -> list[ReceivedKnowledge]:
            tasks = [(self.packages[each], round_number, each[1]) for each in missing]
            return self.pool.map(phases.receive, tasks, [teacher for teacher, _ in missing])

        self.make_packages(round_number, asked)
        self.received.fill(asked, compute)

    def tokens_generated(self, round_number: int, asked: Iterable[Asked]) -> Counter[int]:
        """Return by teacher the tokens decoded for these packages, those of an answer once."""
        tokens, times = Counter[int](), Counter[tuple[int, str]]()
        for teacher, question in asked:
            tokens[teacher] += self.packages[teacher, question].tokens_generated
            context = ExchangeContext(self.runtime, round_number, question)
            problems = self.runtime.protocol.problems(context)
            times.update((teacher, problem.task_id) for problem in problems)
        for (teacher, task_id), number in times.items():
            written = self.written.get(teacher, Written()).tokens
            tokens[teacher] -= (number - 1) * written.get(task_id, 0)
        return tokens

    def taught(
        self, round_number: int, question: Question, teachers: Iterable[int]
    ) -> list[Taught]:
        """Return what these teachers send to the question, and what students keep of it."""
        asked = [(teacher, question) for teacher in teachers]
        self.receive(round_number, asked)
        return [(self.packages[each], self.received[each]) for each in asked]

    def deliver(self, round_number: int, arms: Iterable[Arm]) -> None:
        """Let the protocol combine what each group of teachers brings."""
        students: dict[Source, list[int]] = {}
        for sources, student in arms:
            for source in sources:
                students.setdefault(source, []).append(student)

        def compute(missing: list[Source]) -> Iterable[GroupTransfer]:
            asked = {(j, question) for teachers, question in missing for j in teachers}
            self.receive(round_number, sorted(asked, key=in_order))
            for source in missing:
                teachers, question = source
                context = RoundContext(
                    runtime=self.runtime,
                    round_number=round_number,
                    states=self.states,
                    taught=partial(self.taught, round_number, question),
                    map=self.pool.map,
                )
                yield self.runtime.protocol.deliver(context, teachers, students[source])

        self.transfers.fill(students, compute)

    def measure(self, students: Iterable[int]) -> None:
        """Measure these students before they learn."""

        def compute(missing: list[int]) -> list[Measurement]:
            return self.pool.map(measure, [(self.states[i],) for i in missing], missing)

        self.measured.fill(students, compute)

    def learn(self, round_number: int, arms: Sequence[Arm]) -> None:
        """Let every student learn, once, from all its sources; no state changes."""
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
        if len(received) == 1:
            return received[0]
        return self.runtime.protocol.combine([fetched(each) for each in received])

    def kilobytes(self, sources: Sequence[Source]) -> float:
        """Return what travels to a student of these sources."""
        return sum(self.transfers[source].kilobytes for source in sources)


def in_order(asked: Asked) -> tuple[int, tuple[int, ...], bool, list[str]]:
    """Return a sort key: by teacher, then by topics and missing problems, with None first."""
    teacher, question = asked
    missing = question.missing
    return teacher, question.topics or (), missing is not None, sorted(missing or ())


def _agents_of_arm(arm: Arm) -> set[int]:
    sources, student = arm
    return {student}.union(*(teachers for teachers, _ in sources))
