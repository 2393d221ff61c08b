"""C2UCB: contextual combinatorial bandits with the proven confidence width."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.linucb import LinearMatchmaker
from knexa.matchmaking.round_view import RoundView


@dataclass(kw_only=True)
class C2UCB(LinearMatchmaker):
    """Optimistic scores of pairs, matched exactly, learned from every chosen pair's own reward.

    Qin, Chen and Zhu (2014): u = theta^T x + beta sqrt(x^T A^-1 x) for each arm, then the best
    super arm by the sum of u. Here an arm is an ordered pair and a super arm a matching, so it is
    meant with ``matching=exact`` and, since a linear score must tell who fits whom,
    ``context=interaction`` (both defaults). The width is OFUL's (Abbasi-Yadkori et al. 2011,
    Theorem 2): beta = R sqrt(2 log(1/delta) + log(det A / det lambda I)) + sqrt(lambda) S.

    The regret bound O~(d sqrt(kT) + dk) of this estimator holds where super arms are the bases of a
    partition matroid. Matchings in a general graph are not; Takemura et al. (2021) reach the rate
    there with a modified estimator, which this is not.

    Attributes:
        noise: R, the scale of the (sub-Gaussian) noise in a reward as the policy gets it.
        failure_probability: delta, the chance that the true model ever leaves the confidence set.
        model_norm: S, the assumed bound on the norm of the true model.
    """

    name: ClassVar[str] = "c2ucb"

    noise: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    failure_probability: Annotated[float, Field(gt=0, lt=1)] = 0.05
    model_norm: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0

    def beta(self) -> float:
        """Return the confidence set's radius after the observations so far."""
        log_det = self.model.log_det_ratio(self.regularization)
        radius = float(np.sqrt(2.0 * np.log(1.0 / self.failure_probability) + log_det))
        return self.noise * radius + float(np.sqrt(self.regularization)) * self.model_norm

    def scoring(self, view: RoundView) -> tuple[Array, float]:
        """Return the estimate and the radius."""
        return self.model.theta_d, self.beta()
