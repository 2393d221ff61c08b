# python -m knexa -cd . reward=relative_loss federation=synthetic 'trusted_modules=[relative_loss]'
from dataclasses import dataclass
from typing import ClassVar

from knexa.matchmaking.rewards import Measure, MeasuredReward


@dataclass(frozen=True, kw_only=True)
class RelativeLoss(MeasuredReward):
    """By how large a share the student's validation loss fell: the strong can earn as much."""

    measure: ClassVar[Measure] = "validation_loss"

    def reward(self, *, before: float, after: float, kilobytes: float) -> float:
        return self.gamma * (before - after) / before - self.delta * kilobytes
