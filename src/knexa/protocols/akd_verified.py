"""``exchange=akd_verified``: AKD on answers that pass the transfer problems' public tests. Ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from knexa.agents.exchange_protocol import ExchangeContext, ReceivedKnowledge
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Term
from knexa.protocols.akd import AKD
from knexa.protocols.distillation import text_examples
from knexa.recipe import AddedLater


@dataclass(frozen=True, kw_only=True)
class AKDVerified(AKD):
    """A student keeps only answers that pass, and rehearses them.

    They go into a store that the student rehearses in later exchanges and local updates, so that it
    does not forget one teacher's answers while another teaches.

    Attributes:
        replay_size: The most completions that an agent keeps; the oldest are dropped first.
        num_candidates: Answers that a teacher draws for each problem; it runs the public tests
            itself and sends the first answer that passes, or the first of all where none does.
        ask: What a student asks about of its directives' topics: ``all`` problems, or the
            ``missing`` ones, to which it keeps no answer.
    """

    name: ClassVar[str] = "akd_verified"
    rehearses: ClassVar[bool] = True

    replay_size: Annotated[int, Field(ge=1)] = 512
    num_candidates: Annotated[int, Field(ge=1)] = 1
    ask: Annotated[Literal["all", "missing"], AddedLater("all")] = "all"

    @property
    def verifies(self) -> bool:
        """Whether an answer counts only where it passes the problem's public tests."""
        return True

    @property
    def asks_missing(self) -> bool:
        """Whether students ask only about problems to which they keep no verified answer."""
        return self.ask == "missing"

    @property
    def answers_per_problem(self) -> int:
        """Number of answers that a teacher draws for each problem; it sends the best."""
        return self.num_candidates

    def remembered(
        self, store: tuple[KeptText, ...], texts: Sequence[KeptText]
    ) -> tuple[KeptText, ...]:
        """Return the newest ``replay_size`` texts of the store with the new ones at its end."""
        return super().remembered(store, texts)[-self.replay_size :]

    def terms(
        self, context: ExchangeContext, state: AgentState, received: ReceivedKnowledge | None
    ) -> list[Term]:
        """Return the whole store, which includes what was just received."""
        return [self.rehearsed(context, state)]

    def rehearsal(self, context: ExchangeContext, state: AgentState) -> tuple[float, list[Term]]:
        """Return (weight, terms) of what a local update trains on beside private data."""
        alpha, examples = self.rehearsed(context, state)
        return alpha, [(alpha, examples)]

    def rehearsed(self, context: ExchangeContext, state: AgentState) -> Term:
        """Return the store as a term of Eq. 2."""
        return self._alpha(context), text_examples(context, state, state.replay)
