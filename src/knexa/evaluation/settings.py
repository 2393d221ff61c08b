"""Settings of the evaluation: what is measured, and the limits of generated programs."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measurements on the global test set, and limits of the sandbox.

    Attributes:
        every: Rounds between two greedy measurements of the learning curve; 0 measures the last
            round alone, which is always measured.
        num_samples: n, the completions a problem in the final measurement.
        ks: The k of pass@k; those above n are dropped, which is logged.
        temperature: Sampling temperature of the final measurement.
        max_new_tokens: Longest completion, in tokens.
        batch_size: Completions decoded together.
        cpu_s: CPU seconds that a program may use.
        wall_s: Wall-clock seconds after which a program is ended in any case.
        memory_mb: Memory that a program may allocate, in MiB.
        sandbox: ``available`` uses the layers that this machine supports and warns of missing ones;
            ``strict`` fails the run at its start if one is missing.
    """

    name: ClassVar[str] = "evaluation"

    every: Annotated[int, Field(ge=0)] = 1
    num_samples: Annotated[int, Field(ge=1)] = 10
    ks: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="a list of integers >= 1"),
    ] = (1, 5, 10)
    temperature: Annotated[float, Field(ge=0)] = 0.4
    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    batch_size: Annotated[int, Field(ge=1)] = 128
    cpu_s: Annotated[float, Field(gt=0)] = 3.0
    wall_s: Annotated[float, Field(gt=0)] = 30.0
    memory_mb: Annotated[int, Field(ge=16)] = 512
    sandbox: Literal["available", "strict"] = "available"

    def due(self, round_number: int, num_rounds: int) -> bool:
        """Return whether the learning curve is measured in that round (round 0: untrained)."""
        if round_number == num_rounds:
            return True
        return self.every > 0 and round_number % self.every == 0

    def kept_ks(self) -> tuple[int, ...]:
        """Return the ks that n completions can estimate."""
        return tuple(k for k in self.ks if k <= self.num_samples)
