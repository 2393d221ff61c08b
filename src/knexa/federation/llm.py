"""``federation=llm``: the settings; ``llm_stage`` brings them to life."""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from knexa.federation.federation import Federation

if TYPE_CHECKING:
    from knexa.federation.llm_stage import LLMStage
    from knexa.federation.settings import Settings


@dataclass(frozen=True, kw_only=True)
class LLM(Federation):
    """The settings of a federation of language models."""

    def stage(self, settings: "Settings", stack: ExitStack) -> "LLMStage":
        """Load what the run needs; ``stack`` closes it again."""
        from knexa.federation.metric_gate import gating

        gating(settings)  # goes on while the next line imports torch
        from knexa.federation.llm_stage import LLMStage

        return LLMStage(settings, stack)
