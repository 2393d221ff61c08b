"""The (epsilon, delta) cost of a number of noisy releases, by Opacus' accountant.

The mechanism is the (Poisson-subsampled) Gaussian one; a noise multiplier is the noise's standard
deviation over the sensitivity. Costs are Renyi-DP bounds (Mironov 2017; Mironov et al. 2019), so
adaptive releases compose by addition.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from knexa.errors import UserError

# Fewer fractions than Opacus' own orders (they take nine tenths of the time), and higher ones:
# without those a small epsilon is overstated by half.
_ORDERS = (1.1, *(1 + x / 4 for x in range(1, 16)), *range(5, 64), 80, 128, 256, 512, 1024)


class Budget(NamedTuple):
    """A differential-privacy budget: ``epsilon`` holds but for a chance of ``delta``."""

    epsilon: float
    delta: float


def require_opacus() -> None:
    """Raise ``UserError`` unless Opacus is installed."""
    try:
        import opacus  # noqa: F401
    except ImportError as error:
        raise UserError(
            "privacy accounting and training=dp need Opacus: pip install 'knexa[privacy]'"
        ) from error


@lru_cache(maxsize=256)
def calibrated_noise(
    *, epsilon: float, delta: float, num_releases: int, sample_rate: float = 1.0
) -> float:
    """Return the least noise multiplier (to 0.1 % of epsilon) that keeps within the budget.

    Args:
        epsilon: Budget of all releases together.
        delta: Chance that epsilon does not hold.
        num_releases: The most releases there will be.
        sample_rate: Probability with which a record takes part in one release.

    Raises:
        UserError: Opacus is missing, or no noise up to a million sensitivities is enough.
    """
    require_opacus()
    from opacus.accountants.utils import get_noise_multiplier

    try:
        with _any_order_is_a_bound():
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon,
                    target_delta=delta,
                    sample_rate=sample_rate,
                    steps=num_releases,
                    epsilon_tolerance=epsilon * 1e-3,
                    alphas=list(_ORDERS),
                )
            )
    except ValueError as error:
        raise UserError(
            f"epsilon={epsilon:g} and delta={delta:g} are too little for {num_releases} releases: "
            "raise epsilon or delta, or lower federation.num_rounds"
        ) from error


@lru_cache(maxsize=256)
def epsilon_spent(
    *, noise_multiplier: float, delta: float, num_releases: int, sample_rate: float = 1.0
) -> float:
    """Return the epsilon at ``delta`` of ``num_releases`` releases; 0 for none."""
    if num_releases == 0:
        return 0.0
    require_opacus()
    from opacus.accountants import RDPAccountant

    accountant: Any = RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, num_releases)]
    with _any_order_is_a_bound():
        return float(accountant.get_epsilon(delta=delta, alphas=list(_ORDERS)))


@contextmanager
def _any_order_is_a_bound() -> Iterator[None]:
    """Silence Opacus' advice to try more orders: every order gives a valid bound."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Optimal order is")
        yield
