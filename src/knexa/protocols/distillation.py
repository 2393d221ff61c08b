"""Eq. 2 of the paper, the objective of Adaptive Knowledge Distillation.

    L = (1 - alpha) L_private + alpha L_teacher

alpha grows linearly over the rounds. The teacher's term, whatever it is of, comes from the public
transfer set. ``Distillation.learn`` trains by it; the weights are applied in ``agents.training``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeProtocol,
    Learned,
    Measurement,
    ReceivedKnowledge,
)
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example, Term
from knexa.data.problem import Problem
from knexa.seeding import derive_rng

if TYPE_CHECKING:
    from knexa.agents.learning import Extra
    from knexa.agents.runtime import Runtime

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0)]


def linear(start: float, end: float, round_number: int, num_rounds: int) -> float:
    """Return the value of a linear schedule in a 1-based round; ``start`` in round 1."""
    if num_rounds <= 1:
        return start
    return start + (end - start) * (round_number - 1) / (num_rounds - 1)


@dataclass(frozen=True, kw_only=True)
class Distillation(ExchangeProtocol):
    """Base of the protocols whose students train by Eq. 2.

    Attributes:
        alpha_start: Weight of the teacher's term in Eq. 2 in the first round.
        alpha_end: The same in the last round; linear between.
        num_steps: Optimizer steps of one exchange, whatever the package holds, so that all arms of
            a probe are trained equally.
        num_problems: Transfer problems that a teacher answers in a round, drawn anew each round;
            None means all.
    """

    alpha_start: Fraction = 0.2
    alpha_end: Fraction = 0.5
    num_steps: Annotated[int, Field(ge=1)] = 4
    num_problems: Annotated[int, Field(ge=1)] | None = None

    @property
    def steps_per_exchange(self) -> int:
        """Optimizer steps that a student takes in one exchange."""
        return self.num_steps

    def alpha(self, round_number: int, num_rounds: int) -> float:
        """Return the weight of the teacher's term in a round."""
        return linear(self.alpha_start, self.alpha_end, round_number, num_rounds)

    def taught_problems(self, runtime: "Runtime") -> Sequence[Problem]:
        """Return the transfer problems that may be taught."""
        return runtime.benchmark.transfer

    def problems(self, context: ExchangeContext) -> Sequence[Problem]:
        """Return the round's transfer problems that are asked, in order."""
        taught, number = self.taught_problems(context.runtime), self.num_problems
        if number is not None and number < len(taught):
            rng = derive_rng(context.runtime.seed, "transfer", context.round_number)
            taught = [taught[i] for i in sorted(rng.choice(len(taught), number, replace=False))]
        return [problem for problem in taught if context.asks(problem)]

    def terms(
        self, context: ExchangeContext, state: AgentState, received: ReceivedKnowledge | None
    ) -> list[Term]:
        """Return the teacher's terms of Eq. 2: weighted sequences to learn beside private data."""
        texts = () if received is None else received.texts
        return [(self._alpha(context), text_examples(context, state, texts))]

    def extra(self, context: ExchangeContext, received: ReceivedKnowledge | None) -> "Extra | None":
        """Return a teacher's term that is not of sequences."""
        return None

    def remembered(
        self, store: tuple[KeptText, ...], texts: Sequence[KeptText]
    ) -> tuple[KeptText, ...]:
        """Return the store of kept texts with the new ones at its end, each text once."""
        fresh = dict.fromkeys(texts)
        return (*(text for text in store if text not in fresh), *fresh)

    def learn(
        self,
        context: ExchangeContext,
        state: AgentState,
        received: ReceivedKnowledge | None,
        before: Measurement,
    ) -> tuple[AgentState, Learned]:
        """Train the student by Eq. 2; without ``received`` on what it has.

        Raises:
            UserError: The learning rate makes training diverge.
        """
        from knexa.agents.learning import train
        from knexa.agents.scoring import measure, refuse_divergence

        runtime = context.runtime
        if received is not None and (
            self.rehearses or runtime.byzantine.does(state.index, "copied")  # copiers resend texts
        ):
            state = replace(state, replay=self.remembered(state.replay, received.texts))
        trained, report = train(
            runtime,
            state,
            self.terms(context, state, received),
            alpha=self._alpha(context),
            extra=self.extra(context, received),
            num_batches=self.num_steps * runtime.training.accumulate,
            learning_rate=runtime.training.kd_learning_rate,
            purpose="learn",
            round_number=context.round_number,
        )
        after = measure(runtime, trained)
        refuse_divergence(runtime, trained, after.loss, "kd")
        items_kept = 0 if received is None else received.items_kept
        return trained, Learned(before, after, report, items_kept)

    def _alpha(self, context: ExchangeContext) -> float:
        return self.alpha(context.round_number, context.runtime.num_rounds)


def text_examples(
    context: ExchangeContext, state: AgentState, texts: Sequence[KeptText]
) -> list[Example]:
    """Return the texts as training sequences in the student's own tokens."""
    runtime = context.runtime
    loaded = runtime.backbone(state)
    return [runtime.kept_example(loaded, text) for text in texts]
