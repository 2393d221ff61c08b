"""Linear Thompson sampling: explore by drawing a model from its posterior."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.linucb import LinearMatchmaker
from knexa.matchmaking.round_view import RoundView


@dataclass(kw_only=True)
class Thompson(LinearMatchmaker):
    """One model is drawn a round, theta ~ N(A^-1 b, v^2 A^-1), and its scores are matched.

    Agrawal and Goyal (2013), with one draw for the whole matching. With A = L L^T (Cholesky) and z
    standard normal, theta = A^-1 b + v L^-T z; eigenvectors would depend on the library's choice of
    signs.

    Attributes:
        exploration: v. 0 is greedy.
    """

    name: ClassVar[str] = "thompson"

    exploration: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0

    def sample(self, rng: np.random.Generator) -> Array:
        """Return one draw theta_d from the posterior."""
        model = self.model
        lower_dd = np.linalg.cholesky(model.A_dd)
        noise_d = np.linalg.solve(lower_dd.T, rng.standard_normal(model.num_features))
        return np.asarray(model.theta_d + self.exploration * noise_d)

    def scoring(self, view: RoundView) -> tuple[Array, float]:
        """Return one sampled model, and no bonus: chance explores."""
        return self.sample(view.rng), 0.0
