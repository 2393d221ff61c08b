"""Rewards: what a receiver reports after an exchange, and how the CPM normalises it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.answers import TopicAnswers, TransferTopics
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
own validation split or on the probe set, or the share of probe problems that it solves."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """What a receiver reports after an exchange.

    Base of every option of ``reward=``, which is one of two kinds: of measurements before and after
    learning (``MeasuredReward``), or of the answers that arrived (``NewAnswers``), which are known
    before anybody learns.

    Class attributes:
        measure: What the student measures before and after the exchange, one number.
        of_answers: Whether the reward is ``worth`` of answers, and not ``reward`` of measurements.

    Attributes:
        normalization: What the CPM does before it learns: ``zscore`` (the paper's) or ``none``.
    """

    measure: ClassVar[Measure] = "validation_loss"
    of_answers: ClassVar[bool] = False

    normalization: Normalization = "zscore"

    def reward(self, *, before: Amount, after: Amount, kilobytes: Amount) -> Amount:
        """Return the raw reward of measurements; of arrays_K, element by element.

        Args:
            before: What the student measured before the exchange (see ``Measure``).
            after: The same after it.
            kilobytes: What it received.
        """
        raise NotImplementedError(f"{type(self).__name__} is no reward of measurements")

    def worth(self, answers: Sequence[TopicAnswers], topics: TransferTopics) -> float:
        """Return the raw reward of the answers that one directive brought one student.

        Args:
            answers: Their counts, by topic.
            topics: The topics of the transfer set.
        """
        raise NotImplementedError(f"{type(self).__name__} is no reward of answers")

    @property
    def largest(self) -> float:
        """Largest magnitude that the CPM accepts; a larger reward was forged.

        It protects the numerics only: a Byzantine agent can still outweigh the others' rewards.
        """
        return _LARGEST_IMPROVEMENT

    def normalizer(self) -> "RewardNormalizer":
        """Return a fresh normaliser for one run's CPM."""
        return RewardNormalizer(self.normalization)


@dataclass(frozen=True, kw_only=True)
class MeasuredReward(Reward):
    """An improvement that the student measures, less the cost of the package.

    Derived classes override ``measure`` and, where more is better, ``rises``.

    Class attributes:
        rises: Whether an improvement makes the measure larger; False for losses.

    Attributes:
        gamma: Worth of one unit of improvement.
        delta: Cost of one kilobyte received.
    """

    rises: ClassVar[bool] = False

    gamma: Annotated[float, Field(ge=0)] = 1.0
    delta: Annotated[float, Field(ge=0)] = 1e-4

    def reward(self, *, before: Amount, after: Amount, kilobytes: Amount) -> Amount:
        """Return r = gamma (improvement) - delta kilobytes, raw (see ``Reward``)."""
        improvement = after - before if self.rises else before - after
        return self.gamma * improvement - self.delta * kilobytes

    @property
    def largest(self) -> float:
        """Largest magnitude that the CPM accepts (see ``Reward``)."""
        return max(self.gamma, 1.0) * _LARGEST_IMPROVEMENT + self.delta * _LARGEST_KILOBYTES


@dataclass(frozen=True, kw_only=True)
class LocalLoss(MeasuredReward):
    """The fall of the receiver's own validation loss (Eq. 3)."""

    name: ClassVar[str] = "local_loss"
    measure: ClassVar[Measure] = "validation_loss"


@dataclass(frozen=True, kw_only=True)
class TransferLoss(MeasuredReward):
    """The fall of the receiver's loss on the public probe problems' reference solutions."""

    name: ClassVar[str] = "transfer_loss"
    measure: ClassVar[Measure] = "transfer_loss"


@dataclass(frozen=True, kw_only=True)
class TransferPass(MeasuredReward):
    """The rise of the share of public probe problems that the receiver solves greedily."""

    name: ClassVar[str] = "transfer_pass"
    measure: ClassVar[Measure] = "transfer_pass"
    rises: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class NewAnswers(Reward):
    """The share of a topic's transfer problems that the student can answer and could not before.

    Of each topic that the directive asks about: the problems to which a verified answer arrived and
    to which the student kept none before the round, over the topic's problems; summed over topics.
    Where several directives bring a student the same problem in one round, it counts for the first
    of them in the plan's order, so that the rewards of a plan sum to what its students gained. With
    one teacher a student and topic no two can, and an arm is worth the same in every plan.
    """

    name: ClassVar[str] = "new_answers"
    of_answers: ClassVar[bool] = True

    normalization: Normalization = "none"

    def worth(self, answers: Sequence[TopicAnswers], topics: TransferTopics) -> float:
        """Return the sum over the topics of new answers over problems (see ``Reward``)."""
        return math.fsum(each.new / topics.size(each.category) for each in answers)


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
