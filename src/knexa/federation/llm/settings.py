"""``federation=llm``: the settings, from which ``setup`` builds the federation."""

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

        assert isinstance(settings, LLMSettings)
        benchmark_check(settings)  # runs while torch is imported
        return _llm_setup()(settings, stack)


@cache
def _llm_setup() -> "type[LLMSetup]":
    """Import torch and the rest with the garbage collector off: what is imported stays anyway."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        from knexa.federation.llm.setup import LLMSetup

        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
    return LLMSetup
