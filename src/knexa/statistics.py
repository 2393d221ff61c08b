"""Intervals of means: imports nothing of the package.

Values are one per independent unit (a problem, a seed), so that repeated measurements of one unit
must be averaged first. Over many units, such as problems, they are bootstrapped. Over the few seeds
of a study they are Student's: a percentile bootstrap of five seeds covers the mean in 85 % of cases
where 95 % are meant, of ten in 90 % (2,000 normal samples each).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return ``{"mean", "low", "high"}``, as summaries store it."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def bootstrap_mean(
    values: ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = 10_000,
    rng: np.random.Generator,
) -> Interval:
    """Return the mean with its percentile bootstrap interval (Efron 1979).

    Args:
        values: One finite number per unit, at least one.
        confidence: Coverage aimed at, in (0, 1).
        num_resamples: Resamples with replacement; 10,000 settle the bounds to about 1 % of the
            standard error.
        rng: The only source of randomness.

    Raises:
        ValueError: No values, values that are not finite, or a confidence outside (0, 1).
    """
    values_U = np.asarray(values, dtype=np.float64)
    if values_U.ndim != 1 or values_U.size == 0:
        raise ValueError("bootstrap_mean needs a one-dimensional array of at least one value")
    if not np.isfinite(values_U).all():
        raise ValueError("bootstrap_mean needs finite values; leave undefined units out")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    means_R = _resampled_means(values_U, num_resamples, rng)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means_R, [tail, 1 - tail])
    return Interval(float(values_U.mean()), float(low), float(high))


def _resampled_means(
    values_U: NDArray[np.float64], num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    # Drawing in rows of bounded number keeps memory flat for many units.
    rows = max(1, _CHUNK // values_U.size)
    means = []
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), values_U.size)
        means.append(values_U[rng.integers(values_U.size, size=shape)].mean(axis=1))
    return np.concatenate(means)


def student_mean(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the mean with its interval by Student's t; a point for a single value.

    Args:
        values: One finite number per unit, at least one.
        confidence: Coverage aimed at, in (0, 1); held where values are about normal.

    Raises:
        ValueError: As ``student_curve`` says.
    """
    mean_T, low_T, high_T = student_curve(np.asarray(values)[:, None], confidence=confidence)
    return Interval(float(mean_T[0]), float(low_T[0]), float(high_T[0]))


def paired_difference(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the mean of ``a - b`` over units measured under both, with its ``student_mean``.

    Raises:
        ValueError: ``a`` and ``b`` differ in length, or as ``student_curve`` says.
    """
    a_U, b_U = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a_U.shape != b_U.shape:
        raise ValueError(f"paired values must match: {a_U.shape} against {b_U.shape}")
    return student_mean(a_U - b_U, confidence=confidence)


def student_curve(
    values_UT: ArrayLike, *, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (mean_T, low_T, high_T): at each point the mean over units and its interval.

    mean -+ t_{n-1}(1 - (1 - confidence) / 2) s / sqrt(n) over n units of standard deviation s
    (n - 1); the mean itself for one unit. The intervals are pointwise.

    Args:
        values_UT: One curve per unit, at least one, all finite.
        confidence: Coverage aimed at at each point, in (0, 1).

    Raises:
        ValueError: No curves, values that are not finite, or a confidence outside (0, 1).
    """
    from scipy.stats import t

    curves_UT = np.asarray(values_UT, dtype=np.float64)
    if curves_UT.ndim != 2 or len(curves_UT) == 0 or not np.isfinite(curves_UT).all():
        raise ValueError("an interval needs finite values of at least one unit")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence} must lie between 0 and 1")
    mean_T, num_units = curves_UT.mean(axis=0), len(curves_UT)
    if num_units == 1:
        return mean_T, mean_T.copy(), mean_T.copy()
    error_T = curves_UT.std(axis=0, ddof=1) / np.sqrt(num_units)
    half_T = t.ppf(1 - (1 - confidence) / 2, num_units - 1) * error_T
    return mean_T, mean_T - half_T, mean_T + half_T


def resampled_curves(
    curves_UT: NDArray[np.float64], num_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return means_RT, the mean curve of each resample of units with replacement."""
    num_units = len(curves_UT)
    weights_RU = rng.multinomial(num_units, np.full(num_units, 1 / num_units), num_resamples)
    return np.asarray(weights_RU @ curves_UT / num_units, dtype=np.float64)


def minimum_detectable_difference(
    differences: ArrayLike, *, power: float = 0.8, confidence: float = 0.95
) -> float:
    """Return the smallest true mean difference that so many paired units would likely have shown.

    (t_{n-1}(1 - (1 - confidence) / 2) + t_{n-1}(power)) s / sqrt(n), where n is the number of
    differences, s their standard deviation (n - 1) and t_{n-1}(p) the p-quantile of Student's t:
    the difference that a two-sided paired t test finds with that power (the usual approximation to
    the noncentral t; it is a little too small below about five units).

    Raises:
        ValueError: Fewer than two differences, or values that are not finite.
    """
    from scipy.stats import t

    differences_U = np.asarray(differences, dtype=np.float64)
    if differences_U.ndim != 1 or differences_U.size < 2:
        raise ValueError("a spread needs at least two differences")
    if not np.isfinite(differences_U).all():
        raise ValueError("differences must be finite; leave undefined units out")
    freedom = differences_U.size - 1
    quantiles = t.ppf(1 - (1 - confidence) / 2, freedom) + t.ppf(power, freedom)
    return float(quantiles * differences_U.std(ddof=1) / np.sqrt(differences_U.size))
