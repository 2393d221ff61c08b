"""Rewards: what a receiver reports after an exchange, and how the CPM normalises it."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array

Amount = TypeVar("Amount", float, Array)
"""Of one exchange, or of K exchanges at once."""

Normalization = Literal["zscore", "none"]

_EPSILON = 1e-6  # the paper's, in (r - mu) / (sigma + 1e-6)
# Far beyond honest values: a uniform guess costs 12 nats a token, and an adapter is 0.2 GiB.
_LARGEST_IMPROVEMENT = 1000.0
_LARGEST_KILOBYTES = 1024.0**2


Measure = Literal["validation_loss", "transfer_loss", "transfer_pass"]
"""What a student measures before and after an exchange: its mean token cross-entropy in nats on its
own validation split or on the transfer set, or the share of transfer problems that it solves."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """What a receiver reports after an exchange: an improvement, less the cost of the package.

    Base of every option of ``reward=``: override ``measure`` and, where more is better, ``rises``.

    Class attributes:
        measure: What the student measures before and after the exchange, one number.
        rises: Whether an improvement makes the measure larger; False for losses.

    Attributes:
        gamma: Worth of one unit of improvement.
        delta: Cost of one kilobyte received.
        normalization: What the CPM does before it learns: ``zscore`` (the paper's) or ``none``.
    """

    measure: ClassVar[Measure] = "validation_loss"
    rises: ClassVar[bool] = False

    gamma: Annotated[float, Field(ge=0)] = 1.0
    delta: Annotated[float, Field(ge=0)] = 1e-4
    normalization: Normalization = "zscore"

    def reward(self, *, before: Amount, after: Amount, kilobytes: Amount) -> Amount:
        """Return r = gamma (improvement) - delta kilobytes, raw; of arrays_K, element by element.

        Args:
            before: What the student measured before the exchange (see ``Measure``).
            after: The same after it.
            kilobytes: What it received.
        """
        improvement = after - before if self.rises else before - after
        return self.gamma * improvement - self.delta * kilobytes

    @property
    def largest(self) -> float:
        """Largest magnitude that the CPM accepts; a larger reward was forged.

        It protects the numerics only: a Byzantine agent can still outweigh the others' rewards.
        """
        return max(self.gamma, 1.0) * _LARGEST_IMPROVEMENT + self.delta * _LARGEST_KILOBYTES

    def normalizer(self) -> "RewardNormalizer":
        """Return a fresh normaliser for one run's CPM."""
        return RewardNormalizer(self.normalization)


@dataclass(frozen=True, kw_only=True)
class LocalLoss(Reward):
    """The fall of the receiver's own validation loss (Eq. 3)."""

    name: ClassVar[str] = "local_loss"
    measure: ClassVar[Measure] = "validation_loss"


@dataclass(frozen=True, kw_only=True)
class TransferLoss(Reward):
    """The fall of the receiver's loss on the public transfer problems' reference solutions."""

    name: ClassVar[str] = "transfer_loss"
    measure: ClassVar[Measure] = "transfer_loss"


@dataclass(frozen=True, kw_only=True)
class TransferPass(Reward):
    """The rise of the share of public transfer problems that the receiver solves greedily."""

    name: ClassVar[str] = "transfer_pass"
    measure: ClassVar[Measure] = "transfer_pass"
    rises: ClassVar[bool] = True


class RewardNormalizer:
    """The running z-score (r - mu) / (sigma + 1e-6) over all rewards so far, or the identity.

    Mean and population deviation include the whole batch that is normalised. So the order within a
    batch does not matter, the first reward of all is 0, and the n-th is at most sqrt(n - 1) in
    magnitude. Earlier rewards are not revised when the statistics change, as in the paper.
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
        """Add K raw rewards to the statistics and return them normalised."""
        for reward in rewards_K.tolist():  # Welford's update avoids cancellation of large sums
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
