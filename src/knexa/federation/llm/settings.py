"""``federation=llm``: the settings; ``setup`` brings them to life."""

import gc
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar

from knexa.federation.settings import Federation

if TYPE_CHECKING:
    from knexa.federation.llm.setup import LLMSetup
    from knexa.federation.settings import Settings


@dataclass(frozen=True, kw_only=True)
class LLM(Federation):
    """The settings of a federation of language models."""

    name: ClassVar[str] = "llm"

    def set_up(self, settings: "Settings", stack: ExitStack) -> "LLMSetup":
        """Load what the run needs; ``stack`` closes it again."""
        from knexa.federation.llm.benchmark_check import benchmark_check
        from knexa.federation.settings import LLMSettings

        assert isinstance(settings, LLMSettings)  # it lacks nothing
        benchmark_check(settings)  # goes on while torch is imported
        return _llm_setup()(settings, stack)


@cache
def _llm_setup() -> "type[LLMSetup]":
    """Import torch and all, without looking for garbage: what is there afterwards stays anyhow."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        from knexa.federation.llm.setup import LLMSetup

        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    return LLMSetup
