"""LinUCB over all arms (paper, Algorithm 1, step 2), and the base of all linear policies.

An arm is an ordered pair, or a teacher, a student and a topic. Axes: n arms, K observations, d
context features.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.large.propose import plans_in_blocks, propose_linear
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.ridge import RidgeRegression
from knexa.matchmaking.round_view import RoundView


@dataclass(kw_only=True)
class LinearMatchmaker(Matchmaker):
    """Base of policies that fit one ridge regression to the contexts of all arms.

    A policy overrides ``scoring``: which model scores the arms, and how much it explores.

    Attributes:
        regularization: lambda, the ridge penalty; smaller ones make the inverse inaccurate.
        abstain: Leave out arms whose score is not positive. For rewards without z-scores, where 0
            is what no exchange earns.
    """

    by_topic: ClassVar[bool] = True

    regularization: Annotated[float, Field(ge=1e-6)] = 0.01
    abstain: bool = False
    _ridge: RidgeRegression | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def model(self) -> RidgeRegression:
        """The regression; exists once ``start`` was called."""
        if self._ridge is None:
            name = type(self).__name__
            raise RuntimeError(f"{name}.start must be called before the first round")
        return self._ridge

    def start(self, num_features: int) -> None:
        """Begin with an empty model of ``num_features`` context features."""
        self._ridge = RidgeRegression(num_features, self.regularization)

    def scoring(self, view: RoundView) -> tuple[Array, float]:
        """Return (theta_d, beta) of this round's ``scores``: the model and the bonus's weight."""
        raise NotImplementedError

    def scores(self, view: RoundView) -> Array:
        """Return the scores theta^T x + beta sqrt(x^T A^-1 x) of all arms' contexts x."""
        theta_d, beta = self.scoring(view)
        x_nd = view.contexts().reshape(-1, len(theta_d))
        estimates_n = x_nd @ theta_d
        bonuses_n = beta * self.model.widths(x_nd)
        return np.asarray((estimates_n + bonuses_n).reshape(view.shape))

    def propose(self, view: RoundView) -> Plan:
        """Choose the arms by their scores."""
        if plans_in_blocks(view):  # the same without N^2 contexts in memory
            theta_d, beta = self.scoring(view)
            return propose_linear(view, theta_d, self.model.inverse_dd, beta, abstain=self.abstain)
        return view.match(self.scores(view), abstain=self.abstain)

    def learn(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Add K observations to the regression, in order."""
        self.model.update(contexts_Kd, rewards_K)

    def state_dict(self) -> dict[str, Any]:
        """Return the regression's state."""
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the regression, bit for bit; ``start`` comes first."""
        self.model.load_state_dict(state)


@dataclass(kw_only=True)
class LinUCB(LinearMatchmaker):
    """One linear model of reward shared by all arms, explored optimistically.

    Score of an arm with context x: u = theta^T x + beta sqrt(x^T A^-1 x), where
    theta = A^-1 b, A = lambda I + sum x x^T and b = sum r x. A context in a direction never tried
    has the bonus beta sqrt(x^T x / lambda).

    Attributes:
        exploration: beta0. 0 is greedy.
        schedule: ``constant``: beta = beta0. ``sqrt_decay``: beta0 / sqrt(round).
    """

    name: ClassVar[str] = "linucb"

    exploration: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    schedule: Literal["constant", "sqrt_decay"] = "constant"

    def beta(self, round: int) -> float:
        """Return the exploration weight of the 1-based ``round``."""
        if self.schedule == "constant":
            return self.exploration
        return self.exploration / float(np.sqrt(round))

    def scoring(self, view: RoundView) -> tuple[Array, float]:
        """Return the estimate and the round's beta."""
        return self.model.theta_d, self.beta(view.round)
