"""Scores as integer weights, which matchings compare, with ties broken at random.

Scores count as equal when they differ by less than 2^-36 of the largest magnitude: well above
rounding errors, well below differences that matter. Sums of integers are exact in any order, and
the blossom algorithm needs them.
"""

import numpy as np
from numpy.typing import NDArray

from knexa.matchmaking.arrays import Array, Mask

Weights = NDArray[np.int64]

INADMISSIBLE = np.iinfo(np.int64).min
"""Weight of a pair that must not be matched."""

_SCALE_BITS = 60  # scores become integers of at most 60 bits, more than a double's mantissa holds
_TIE_BITS = 24  # and the lowest 24 of them are where ties are broken


class ScoresError(ValueError):
    """Scores that no matching can go by."""


def check_square(scores_NN: Array) -> None:
    """Raise ``ScoresError`` where scores are not a square matrix."""
    if scores_NN.ndim != 2 or scores_NN.shape[0] != scores_NN.shape[1]:
        raise ScoresError(f"scores must be a square matrix, not of shape {scores_NN.shape}")


def largest_magnitude(scores_TS: Array, allowed_TS: Mask) -> float:
    """Return the largest magnitude of an allowed score; 0 where there is none.

    Raises:
        ScoresError: When an allowed score is NaN or +inf.
    """
    largest = float(np.abs(np.where(allowed_TS, scores_TS, 0.0)).max(initial=0.0))
    if not np.isfinite(largest):
        raise ScoresError("scores must be finite, or -inf where a pair is inadmissible")
    return largest


def integer_weights(
    scores_TS: Array, allowed_TS: Mask, largest: float, rng: np.random.Generator | None
) -> Weights:
    """Return the scores as integers in the same order, ``INADMISSIBLE`` where not allowed.

    Args:
        scores_TS: Scores.
        allowed_TS: Which of them count.
        largest: The scale: the largest magnitude of a score that counts.
        rng: Adds noise below 2^-36 of the scale, so that equal scores come in random order; None
            adds nothing.
    """
    values_TS = np.where(allowed_TS, scores_TS, 0.0)
    if largest > 0.0:
        values_TS /= largest  # first, so that the product is finite for every finite score
        values_TS *= 2.0**_SCALE_BITS
        np.rint(values_TS, out=values_TS)
    weights_TS = values_TS.astype(np.int64)
    if rng is not None:
        weights_TS += rng.integers(0, 2**_TIE_BITS, size=weights_TS.shape)
    return np.where(allowed_TS, weights_TS, INADMISSIBLE)


def square_weights(scores_NN: Array, rng: np.random.Generator | None) -> Weights:
    """Return the weights_NN of all ordered pairs; an agent with itself is inadmissible.

    Raises:
        ScoresError: When the scores are not a square matrix, or one off the diagonal is NaN or
            +inf.
    """
    check_square(scores_NN)
    allowed_NN = (scores_NN != -np.inf) & ~np.eye(len(scores_NN), dtype=bool)
    return integer_weights(scores_NN, allowed_NN, largest_magnitude(scores_NN, allowed_NN), rng)
