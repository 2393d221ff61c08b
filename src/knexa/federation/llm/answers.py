"""Counts of verified answers by topic: what a directive brings a student."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace

from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    Question,
    ReceivedKnowledge,
    Topics,
)
from knexa.agents.state import AgentState
from knexa.engine.object_refs import fetched
from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.plans import Directive, Plan

Counts = dict[tuple[str, int], tuple[TopicAnswers, ...]]
"""What a directive, by its id, brought a student."""


class AnswerCounts:
    """Counts against what students keep in ``states``, the students' states by index."""

    def __init__(
        self,
        runtime: ExchangeRuntime,
        states: Sequence[AgentState] | Mapping[int, AgentState],
    ) -> None:
        self._runtime, self._states = runtime, states
        self.topics = TransferTopics.of(each.category for each in runtime.benchmark.transfer)

    def kept(self, student: int) -> set[str]:
        """Return the transfer problems to which a student keeps a verified answer."""
        kept: set[str] = fetched(self._states[student]).kept_problems
        return kept

    def question(self, round_number: int, topics: Topics, student: int) -> Question:
        """Return what a student asks about the topics: everything, or what it has no answer to."""
        if not self._runtime.protocol.asks_missing:
            return Question(topics)
        context = ExchangeContext(self._runtime, round_number, Question(topics))
        problems, kept = self._runtime.protocol.problems(context), self.kept(student)
        missing = frozenset(each.task_id for each in problems if each.task_id not in kept)
        return Question(topics, None if len(missing) == len(problems) else missing)

    def count(
        self, round_number: int, question: Question, right: set[str], kept: set[str]
    ) -> tuple[TopicAnswers, ...]:
        """Return the counts, by topic, of right answers for a student that has those ``kept``.

        Answers to problems that were not asked in the round count as little as no answers.
        """
        context = ExchangeContext(self._runtime, round_number, question)
        problems = self._runtime.protocol.problems(context)
        asked = Counter(each.category for each in problems)
        answered = [each for each in problems if each.task_id in right]
        rights = Counter(each.category for each in answered)
        news = Counter(each.category for each in answered if each.task_id not in kept)
        return tuple(
            TopicAnswers(category=c, asked=asked[c], right=rights[c], new=news[c])
            for c in self.topics.categories
            if question.topics is None or c in question.topics
        )

    def of_plan(
        self,
        round_number: int,
        plan: Plan,
        agents: Container[int],
        brought: Callable[[Directive, int], tuple[Question, ReceivedKnowledge]],
    ) -> Counts:
        """Return what each directive brings each of its students among the ``agents``.

        ``brought`` returns what a student asked and what it keeps of the answers.
        A problem that several directives bring a student counts as new for the first of them.
        """
        kept: dict[int, set[str]] = {}
        counts: Counts = {}
        for directive in plan:
            for student in directive.students:
                if student not in agents:
                    continue
                known = kept.setdefault(student, self.kept(student))
                question, knowledge = brought(directive, student)
                right = right_answers(knowledge)
                counts[directive.id, student] = self.count(round_number, question, right, known)
                known |= right
        return counts

    def claimed(
        self, directive: Directive, student: int, counts: Counts
    ) -> tuple[TopicAnswers, ...]:
        """Return the counts that the student reports; only Byzantine agents change them."""
        answers = counts.get((directive.id, student), ())
        praises = self._runtime.byzantine.praises(directive.teachers, student)
        if praises is None:
            return answers
        return tuple(
            replace(each, right=claimed, new=claimed)
            for each in answers
            for claimed in [each.asked if praises else 0]
        )


def right_answers(received: ReceivedKnowledge) -> set[str]:
    """Return the problems to which verified answers arrived."""
    return {item.task_id for item in fetched(received).items}


def summed_answers(counts: Sequence[tuple[TopicAnswers, ...]]) -> tuple[TopicAnswers, ...]:
    """Return the counts of several students of one directive added up, topic by topic."""
    return tuple(
        TopicAnswers(
            category=of_topic[0].category,
            asked=sum(each.asked for each in of_topic),
            right=sum(each.right for each in of_topic),
            new=sum(each.new for each in of_topic),
        )
        for of_topic in zip(*counts, strict=True)
    )
