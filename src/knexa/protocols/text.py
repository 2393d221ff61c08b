"""Teaching by text: a teacher decodes answers to transfer problems, a student re-encodes them.

Text lets agents of any architectures and tokenizers pair. Both sides' guardrails vet it and, where
the protocol verifies, it is run against the problems' public tests.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from knexa.agents.byzantine import kept_answers
from knexa.agents.exchange_protocol import (
    ExchangeContext,
    OutgoingPackage,
    ReceivedKnowledge,
    Written,
)
from knexa.agents.state import AgentState, KeptText
from knexa.data.problem import Problem
from knexa.evaluation import Outcome
from knexa.exchange.ensemble import mean_one
from knexa.exchange.package import KnowledgePackage, TextItem, decode, encode
from knexa.protocols.distillation import Distillation
from knexa.seeding import derive_rng, derive_seed

if TYPE_CHECKING:
    from knexa.agents.solve import Answer

_CONFIDENCE_DIGITS = 6


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
        """Return what the teacher wrote of what is asked, vetted by its guardrail."""
        runtime, written = context.runtime, context.written
        asked = [problem.task_id for problem in self.problems(context)]
        vetted = runtime.guardrail.vet(
            [written.answers[task_id] for task_id in asked if task_id in written.answers]
        )
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
            tokens_generated=sum(written.tokens.get(task_id, 0) for task_id in asked),
        )

    def write(
        self, context: ExchangeContext, state: AgentState, problems: Sequence[Problem]
    ) -> Written:
        """Decode the teacher's answers to the problems that it has not answered in the round yet.

        The draws of an answer do not depend on what else is asked. Byzantine agents forge answers
        to everything instead.
        """
        written, everything = context.written, self.problems(context)
        unanswered = [each for each in problems if each.task_id not in written.tokens]
        if not unanswered:
            return written
        keys = (context.round_number, state.index)
        forged = context.runtime.byzantine.text(
            state.index,
            everything,
            kept_answers([(text.task_id, text.completion) for text in state.replay]),
            derive_rng(context.runtime.seed, "byzantine-text", *keys),
        )
        if forged is not None:
            return Written(
                answers={item.task_id: item for item in forged},
                tokens={problem.task_id: 0 for problem in everything},
            )
        places = {problem.task_id: place for place, problem in enumerate(everything)}
        answers = self._answers(context, state, unanswered, places)
        items = [
            TextItem(
                task_id=a.task_id,
                completion=a.completion,
                # Its last digits depend on the batch; the size of a package must not.
                confidence=round(a.confidence, _CONFIDENCE_DIGITS),
            )
            for a in self._best(context, unanswered, answers)
            if a.completion.strip()
        ]
        tokens = Counter[str]()
        for answer in answers:
            tokens[answer.task_id] += answer.num_tokens
        return Written(
            answers={**written.answers, **{item.task_id: item for item in items}},
            tokens={**written.tokens, **tokens},
        )

    def _answers(
        self,
        context: ExchangeContext,
        state: AgentState,
        problems: Sequence[Problem],
        places: Mapping[str, int],
    ) -> "list[Answer]":
        """Return the answers drawn for these problems, given their places among the round's."""
        from knexa.agents import solve

        runtime, number = context.runtime, self.answers_per_problem
        return solve.answer(
            runtime,
            state,
            problems,
            temperature=self.decoding_temperature(context.round_number, runtime.num_rounds),
            seed=derive_seed(runtime.seed, "teach", context.round_number, state.index),
            num_samples=number,
            # The receiver runs them; where that is this process, it may begin now.
            is_executed=number > 1 or (runtime.is_alone and self.verifies),
            places=[places[problem.task_id] for problem in problems],
        )

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
            if context.asks(problem)
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
