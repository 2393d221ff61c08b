"""Online ridge regression, the linear model of LinUCB.

Axes: n rows, K observations, d features.
"""

import logging
from typing import Any

import numpy as np

from knexa.matchmaking.arrays import Array

log = logging.getLogger(__name__)

REFRESH_EVERY = 64
"""Rank-one updates between two exact inversions."""

MAX_DRIFT = 1e-6
"""Largest correction by an exact inversion, relative to the largest entry, without a warning."""


def norms(contexts_nd: Array, inverse_dd: Array) -> Array:
    """Return sqrt(x^T A^-1 x) of every row x."""
    squares_n = np.einsum("nd,nd->n", contexts_nd @ inverse_dd, contexts_nd)
    # Rounding can push the square of a well-explored direction just below zero.
    return np.asarray(np.sqrt(np.maximum(squares_n, 0.0)))


class RidgeRegression:
    """Least squares with penalty ``regularization * |theta|^2``, updated one observation at a time.

    Keeps A = lambda I + sum x x^T, b = sum r x and A^-1. An observation costs O(d^2) by the
    Sherman-Morrison formula; every ``REFRESH_EVERY`` observations A^-1 is computed anew from A, so
    that rounding errors do not accumulate.
    """

    def __init__(self, num_features: int, regularization: float) -> None:
        self.A_dd: Array = np.eye(num_features) * regularization
        self._carry_dd: Array = np.zeros((num_features, num_features))
        self.b_d: Array = np.zeros(num_features)
        self.inverse_dd: Array = np.eye(num_features) / regularization
        self._since_refresh = 0
        self._has_warned = False

    @property
    def num_features(self) -> int:
        """Number of features, d."""
        return int(self.b_d.shape[0])

    @property
    def theta_d(self) -> Array:
        """The estimate A^-1 b."""
        return self.inverse_dd @ self.b_d

    def widths(self, contexts_nd: Array) -> Array:
        """Return sqrt(x^T A^-1 x) of every row; sqrt(x^T x / lambda) before any observation."""
        return norms(contexts_nd, self.inverse_dd)

    def log_det_ratio(self, regularization: float) -> float:
        """Return log(det A / det(lambda I)), which is 0 before any observation."""
        log_det = float(np.linalg.slogdet(self.A_dd)[1])
        return max(0.0, log_det - self.num_features * float(np.log(regularization)))

    def update(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Take K observations, one by one; all at once where they are a quarter of d or more.

        Raises:
            ValueError: When the shapes disagree or a value is not finite; nothing is taken then.
        """
        if contexts_Kd.shape != (len(rewards_K), self.num_features):
            raise ValueError(
                f"contexts of shape {contexts_Kd.shape} do not fit {len(rewards_K)} rewards and "
                f"{self.num_features} features"
            )
        if not (np.isfinite(contexts_Kd).all() and np.isfinite(rewards_K).all()):
            raise ValueError("contexts and rewards must be finite; leave out failed exchanges")
        if 4 * len(rewards_K) >= self.num_features:
            # So many rank-one updates cost more than one inversion, and are less exact.
            self._accumulate(contexts_Kd.T @ contexts_Kd)
            self.b_d += rewards_K @ contexts_Kd
            self.inverse_dd = self._exact_inverse()
            self._since_refresh = 0
            return
        for x_d, reward in zip(contexts_Kd, rewards_K, strict=True):
            self._accumulate(np.outer(x_d, x_d))
            self.b_d += reward * x_d
            v_d = self.inverse_dd @ x_d
            self.inverse_dd -= np.outer(v_d, v_d) / (1.0 + x_d @ v_d)
            self._since_refresh += 1
            if self._since_refresh == REFRESH_EVERY:
                self._refresh()

    def _accumulate(self, outer_dd: Array) -> None:
        """Add to A by Kahan's summation.

        The inverse magnifies rounding errors of A by the condition number, easily 1e6; plain sums
        of 10,000 terms would cost it a digit or two.
        """
        term_dd = outer_dd - self._carry_dd
        sum_dd = self.A_dd + term_dd
        self._carry_dd = (sum_dd - self.A_dd) - term_dd
        self.A_dd = sum_dd

    def _exact_inverse(self) -> Array:
        exact_dd = np.linalg.inv(self.A_dd)
        # The computed inverse is only nearly symmetric, and later updates rely on symmetry.
        return np.asarray((exact_dd + exact_dd.T) / 2.0)

    def _refresh(self) -> None:
        exact_dd = self._exact_inverse()
        drift = np.abs(exact_dd - self.inverse_dd).max() / np.abs(exact_dd).max()
        if not (drift < MAX_DRIFT or self._has_warned):
            log.warning(
                "rank-one updates drifted by %.1e before the inverse was computed anew; a larger "
                "matchmaker.regularization keeps them closer",
                drift,
            )
            self._has_warned = True
        self.inverse_dd = exact_dd
        self._since_refresh = 0

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that the next update depends on."""
        return {
            "A": self.A_dd.copy(),
            "carry": self._carry_dd.copy(),
            "b": self.b_d.copy(),
            "inverse": self.inverse_dd.copy(),
            "since_refresh": self._since_refresh,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the model then continues bit for bit.

        Raises:
            ValueError: When the state is of another number of features.
        """
        if np.shape(state["b"]) != self.b_d.shape:
            raise ValueError(
                f"the saved model has {np.size(state['b'])} features, this one "
                f"{self.num_features}; resume with the context it was trained on"
            )
        self.A_dd = np.array(state["A"], dtype=np.float64)
        self._carry_dd = np.array(state["carry"], dtype=np.float64)
        self.b_d = np.array(state["b"], dtype=np.float64)
        self.inverse_dd = np.array(state["inverse"], dtype=np.float64)
        self._since_refresh = int(state["since_refresh"])
