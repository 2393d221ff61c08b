"""Rewards: what a receiver reports after an exchange, and how the CPM standardises it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from knexa.matchmaking.base import Array

Normalization = Literal["zscore", "none"]

_EPSILON = 1e-6  # the paper's, in (r - mu) / (sigma + 1e-6)


@dataclass(frozen=True, kw_only=True)
class LocalLoss:
    """The fall of the receiver's own validation loss, less the cost of the package (Eq. 3).

    Attributes:
        gamma: Worth of one nat of validation loss.
        delta: Cost of one kilobyte received.
        normalization: What the CPM does before it learns: ``zscore`` (the paper's) or ``none``.
    """

    gamma: Annotated[float, Field(ge=0)] = 1.0
    delta: Annotated[float, Field(ge=0)] = 1e-4
    normalization: Normalization = "zscore"

    def reward(self, *, loss_before: float, loss_after: float, kilobytes: float) -> float:
        """Return r = gamma (loss_before - loss_after) - delta kilobytes, raw."""
        return self.gamma * (loss_before - loss_after) - self.delta * kilobytes

    def normalizer(self) -> "RewardNormalizer":
        """Return a fresh normaliser for one run's CPM."""
        return RewardNormalizer(self.normalization)


class RewardNormalizer:
    """The running z-score (r - mu) / (sigma + 1e-6) over all rewards so far, or the identity.

    Mean and population deviation include the rewards being normalised, and a batch is taken in
    whole before any of it is normalised. So the order within a batch does not matter, the first
    reward of all is 0, and the n-th can never exceed sqrt(n - 1) in magnitude. Rewards handed out
    earlier are not revised: a policy's targets drift with the statistics, which is the paper's
    design; compare ``none``.
    """

    def __init__(self, normalization: Normalization) -> None:
        self.normalization = normalization
        self.count = 0
        self.mean = 0.0
        self._sum_squares = 0.0

    @property
    def deviation(self) -> float:
        """Population standard deviation of the rewards so far; 0 before the second."""
        return float(np.sqrt(self._sum_squares / self.count)) if self.count else 0.0

    def normalize(self, rewards_K: Array) -> Array:
        """Take K raw rewards into the statistics and return them normalised."""
        for reward in rewards_K.tolist():  # Welford's update: no cancellation of large sums
            self.count += 1
            offset = reward - self.mean
            self.mean += offset / self.count
            self._sum_squares += offset * (reward - self.mean)
        if self.normalization == "none":
            return rewards_K.copy()
        return np.asarray((rewards_K - self.mean) / (self.deviation + _EPSILON))

    def state_dict(self) -> dict[str, Any]:
        """Return the running statistics."""
        return {"count": self.count, "mean": self.mean, "sum_squares": self._sum_squares}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.count = int(state["count"])
        self.mean = float(state["mean"])
        self._sum_squares = float(state["sum_squares"])
