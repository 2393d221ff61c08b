"""``exchange=akd``: Adaptive Knowledge Distillation as published (Eq. 2 of the paper)."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.protocols.distillation import Temperature, linear
from knexa.protocols.text import TextDistillation


@dataclass(frozen=True, kw_only=True)
class AKD(TextDistillation):
    """The student learns from all the text that it received in the round, right or wrong.

    Attributes:
        temperature_start: The teacher's sampling temperature in the first round (0 is greedy).
        temperature_end: The same in the last round; linear between.
    """

    name: ClassVar[str] = "akd"

    temperature_start: Temperature = 1.5
    temperature_end: Temperature = 2.5

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a teacher answers; 0 is greedy."""
        return linear(self.temperature_start, self.temperature_end, round_number, num_rounds)
