"""Teaching by text: a teacher decodes answers to transfer problems, a student re-encodes them.

Text lets agents of any architectures and tokenizers pair. Both sides' guardrails vet it and, where
the protocol verifies, it is run against the problems' public tests.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from knexa.agents.byzantine import kept_answers
from knexa.agents.exchange_protocol import ExchangeContext, OutgoingPackage, ReceivedKnowledge
from knexa.agents.state import AgentState, KeptText
from knexa.data.problem import Problem
from knexa.evaluation import Outcome
from knexa.exchange.ensemble import mean_one
from knexa.exchange.package import KnowledgePackage, TextItem, decode, encode
from knexa.protocols.distillation import Distillation
from knexa.seeding import derive_rng, derive_seed

if TYPE_CHECKING:
    from knexa.agents.solve import Answer


@dataclass(frozen=True, kw_only=True)
class TextDistillation(Distillation):
    """Base of the protocols whose teachers answer transfer problems in text."""

    @property
    def answers_per_problem(self) -> int:
        """Number of answers that a teacher draws for each problem; it sends the best."""
        return 1

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a teacher answers; 0 is greedy."""
        return 0.0

    def weights(self, items: Sequence[TextItem]) -> Sequence[float]:
        """Return the weights of a package's answers in training."""
        return [1.0] * len(items)

    def attachment(
        self, context: ExchangeContext, state: AgentState, package: KnowledgePackage
    ) -> bytes:
        """Return the bytes that the teacher sends beside the text."""
        return b""

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        """Return the teacher's answers, vetted by its guardrail."""
        runtime = context.runtime
        items, tokens_generated = self._answers(context, state)
        vetted = runtime.guardrail.vet(items)
        package = KnowledgePackage(
            sender=runtime.members[sender].name,
            round=context.round_number,
            items=tuple(vetted.items),
        )
        return OutgoingPackage(
            teacher=sender,
            text=encode(package),
            payload=self.attachment(context, state, package),
            items_sent=len(package.items),
            guardrail=vetted.report.counts,
            tokens_generated=tokens_generated,
        )

    def _answers(self, context: ExchangeContext, state: AgentState) -> tuple[list[TextItem], int]:
        """Return the agent's answers on the topics, and the tokens decoded for them.

        An answer must not depend on what else is asked, and draws and batches do; so all problems
        are answered, once a round, and a package of topics is a part of these answers.
        """
        if "answers" not in context.written:
            context.written["answers"] = self._all_answers(replace(context, topics=None), state)
        items, tokens = context.written["answers"]
        asked = {problem.task_id for problem in self.problems(context)}
        return (
            [item for item in items if item.task_id in asked],
            sum(count for task_id, count in tokens.items() if task_id in asked),
        )

    def _all_answers(
        self, context: ExchangeContext, state: AgentState
    ) -> tuple[list[TextItem], dict[str, int]]:
        """Return the agent's answers, forged by Byzantine agents, and each problem's tokens."""
        from knexa.agents import solve

        runtime, problems = context.runtime, self.problems(context)
        keys = (context.round_number, state.index)
        forged = runtime.byzantine.text(
            state.index,
            problems,
            kept_answers([(text.task_id, text.completion) for text in state.replay]),
            derive_rng(runtime.seed, "byzantine-text", *keys),
        )
        if forged is not None:
            return forged, {}
        number = self.answers_per_problem
        answers = solve.answer(
            runtime,
            state,
            problems,
            temperature=self.decoding_temperature(context.round_number, runtime.num_rounds),
            seed=derive_seed(runtime.seed, "teach", *keys),
            num_samples=number,
            # The receiver runs them; where that is this process, it may begin now.
            is_executed=number > 1 or (runtime.is_alone and self.verifies),
        )
        items = [
            TextItem(task_id=a.task_id, completion=a.completion, confidence=a.confidence)
            for a in self._best(context, problems, answers)
            if a.completion.strip()
        ]
        tokens = Counter[str]()
        for answer in answers:
            tokens[answer.task_id] += answer.num_tokens
        return items, tokens

    def _best(
        self, context: ExchangeContext, problems: Sequence[Problem], answers: "list[Answer]"
    ) -> "list[Answer]":
        """Return each problem's first answer that passes its public tests, else its first."""
        from knexa.agents import solve

        number = self.answers_per_problem
        if number == 1:
            return answers
        owners = [problem for problem in problems for _ in range(number)]
        outcomes = solve.execute(context.runtime, owners, [a.completion for a in answers])
        best = []
        for begin in range(0, len(answers), number):
            drawn = range(begin, begin + number)
            passed = (index for index in drawn if outcomes[index] is Outcome.PASSED)
            best.append(answers[next(passed, begin)])
        return best

    def receive(
        self, context: ExchangeContext, package: OutgoingPackage
    ) -> Generator[None, None, ReceivedKnowledge]:
        """Read and vet the answers, and run them where the protocol verifies."""
        read = decode(package.text)
        taught = {
            problem.task_id
            for problem in self.taught_problems(context.runtime)
            if context.topics is None or problem.category in context.topics
        }
        vetted = context.runtime.guardrail.vet(
            [item for item in read.items if item.task_id in taught]
        )
        items: Sequence[TextItem] = vetted.items
        if self.verifies:
            items = yield from passing(context, items)
        return self.kept(context, package, read, items, vetted.report.counts)

    def kept(
        self,
        context: ExchangeContext,
        package: OutgoingPackage,
        read: KnowledgePackage,
        items: Sequence[TextItem],
        guardrail: dict[str, int],
    ) -> ReceivedKnowledge:
        """Return what students keep of the ``items`` that passed the guardrail and the tests.

        ``read`` is all text of the package; ``guardrail`` are the guardrail's counts.
        """
        return ReceivedKnowledge(
            guardrail=guardrail, items=tuple(items), texts=weighed(items, self.weights(items))
        )


def passing(
    context: ExchangeContext, items: Sequence[TextItem]
) -> Generator[None, None, list[TextItem]]:
    """Return the answers that pass their problems' public tests."""
    from knexa.agents import solve

    runtime = context.runtime
    problems = [runtime.transfer_by_id[item.task_id] for item in items]
    completions = [item.completion for item in items]
    solve.begin(runtime, problems, completions)
    yield
    outcomes = solve.execute(runtime, problems, completions)
    return [
        item for item, outcome in zip(items, outcomes, strict=True) if outcome is Outcome.PASSED
    ]


def weighed(items: Sequence[TextItem], weights: Sequence[float]) -> tuple[KeptText, ...]:
    """Return the answers with their weights in training."""
    return tuple(
        KeptText(task_id=item.task_id, completion=item.completion, weight=weight)
        for item, weight in zip(items, weights, strict=True)
    )


def confidence_weights(items: Sequence[TextItem]) -> list[float]:
    """Return exp(mean log-probability) of each, scaled to a mean of 1; 0 where none is given."""
    confidences = [-np.inf if i.confidence is None else min(i.confidence, 0.0) for i in items]
    return [float(weight) for weight in mean_one(np.exp(np.array(confidences, dtype=np.float64)))]
