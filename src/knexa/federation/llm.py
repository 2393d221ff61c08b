"""``federation=llm``: the settings; ``llm_stage`` brings them to life."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

if TYPE_CHECKING:
    from knexa.federation.llm_stage import LLMStage
    from knexa.federation.settings import Settings


@dataclass(frozen=True, kw_only=True)
class LLM:
    """The settings of a federation of language models.

    Attributes:
        num_rounds: Rounds of local update, matchmaking, exchange and feedback.
        num_pairs: K_p, pairs of a round at most; None means half the agents.
        mutual: Both agents of a pair teach each other, in two directives.
    """

    num_rounds: Annotated[int, Field(ge=1)]
    num_pairs: Annotated[int, Field(ge=0)] | None = None

    mutual: bool = False

    def stage(self, settings: "Settings", stack: ExitStack) -> "LLMStage":
        """Load what the run needs; ``stack`` closes it again."""
        from knexa.federation.llm_stage import LLMStage

        return LLMStage(settings, stack)

    def pairs_of(self, num_agents: int) -> int:
        """Return K_p for that many agents."""
        most = num_agents // 2
        return most if self.num_pairs is None else min(self.num_pairs, most)
