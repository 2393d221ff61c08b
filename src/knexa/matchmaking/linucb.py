"""LinUCB over ordered pairs (paper, Algorithm 1, step 2): the learned matchmaker."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from knexa.matchmaking.base import Array, Matchmaker, Plan, RoundView
from knexa.matchmaking.ridge import RidgeRegression

FAILURE_PROBABILITY = 0.05
"""OFUL's delta: the bound on the chance that the true model ever leaves the confidence set."""

THETA_NORM = 1.0
"""OFUL's S: the assumed bound on the norm of the true model."""


@dataclass(kw_only=True)
class LinUCB(Matchmaker):
    """One linear model of reward shared by all ordered pairs, explored optimistically.

    Score of an ordered pair with context x: u = theta^T x + beta sqrt(x^T A^-1 x), where
    theta = A^-1 b, A = lambda I + sum x x^T and b = sum r x. A pair in a direction never tried has
    the bonus beta sqrt(x^T x / lambda).

    Attributes:
        regularization: lambda, the ridge penalty; below 1e-6 doubles lose the inverse.
        exploration: beta0. 0 is greedy.
        schedule: ``constant``: beta = beta0. ``sqrt_decay``: beta0 / sqrt(round). ``oful``: the
            width of Abbasi-Yadkori et al. (2011, Theorem 2) with noise scale R = beta0, delta =
            0.05 and S = 1: R sqrt(2 log(1/delta) + log(det A / det lambda I)) + sqrt(lambda) S,
            which grows as evidence accumulates.
        abstain: Leave out the pairs whose score, their upper bound, is not positive. Meant for
            rewards that are not z-scored: there 0 is what no exchange earns.
    """

    regularization: Annotated[float, Field(ge=1e-6)] = 0.01
    exploration: Annotated[float, Field(ge=0)] = 1.0
    schedule: Literal["constant", "sqrt_decay", "oful"] = "constant"
    abstain: bool = False
    _ridge: RidgeRegression | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def model(self) -> RidgeRegression:
        """The regression; exists once ``start`` was called."""
        if self._ridge is None:
            raise RuntimeError("LinUCB.start must be called before the first round")
        return self._ridge

    def start(self, num_features: int) -> None:
        """Begin with an empty model of ``num_features`` context features."""
        self._ridge = RidgeRegression(num_features, self.regularization)

    def beta(self, round: int) -> float:
        """Return the exploration weight of the 1-based ``round``."""
        if self.schedule == "constant":
            return self.exploration
        if self.schedule == "sqrt_decay":
            return self.exploration / float(np.sqrt(round))
        log_det = self.model.log_det_ratio(self.regularization)
        radius = float(np.sqrt(2.0 * np.log(1.0 / FAILURE_PROBABILITY) + log_det))
        return self.exploration * radius + float(np.sqrt(self.regularization)) * THETA_NORM

    def scores(self, view: RoundView) -> Array:
        """Return the optimistic scores_NN of all ordered pairs."""
        model = self.model
        bonuses_NN = self.beta(view.round) * view.widths(model.inverse_dd)
        return view.estimates(model.theta_d) + bonuses_NN

    def propose(self, view: RoundView) -> Plan:
        """Match by the optimistic scores."""
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
