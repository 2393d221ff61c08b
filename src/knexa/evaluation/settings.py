"""How much is measured, and under which limits generated programs run."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The measurements of a run on the global test set, and the sandbox's limits.

    Attributes:
        every: Rounds between two greedy measurements of the learning curve; the last round is
            always measured, 0 measures the last round alone.
        num_samples: n, completions a problem in the final measurement.
        ks: The k of pass@k; those above n are dropped, and the log says so.
        temperature: Sampling temperature of the final measurement.
        max_new_tokens: Tokens of a completion at most.
        batch_size: Completions decoded together.
        cpu_s: CPU seconds that a program may use.
        wall_s: Wall-clock backstop of a program.
        memory_mb: Memory that a program may add, in MiB.
        sandbox: ``available`` uses the layers that this machine grants and says which it does not;
            ``strict`` fails the run at start where one is missing.
    """

    name: ClassVar[str] = "evaluation"

    every: Annotated[int, Field(ge=0)] = 1
    num_samples: Annotated[int, Field(ge=1)] = 10
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 5, 10)
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
