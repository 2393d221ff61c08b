"""Measures of how well scores separate M members from K others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOW_FPR = 0.05
"""False positive rate of ``Power.tpr``: 1 % of the tiny world's 72 non-members would be none."""


@dataclass(frozen=True, slots=True)
class Power:
    """An attack's power on one run.

    Attributes:
        auc: Probability that a member scores above a non-member, ties counting half.
        tpr: Share of members above all but ``LOW_FPR`` of the non-members.
        advantage: True minus false positive rate at the threshold that is best on the other half of
            the candidates, so that guessing gives 0 on average.
    """

    auc: float
    tpr: float
    advantage: float


def power(members_M: Sequence[float], others_K: Sequence[float], rng: np.random.Generator) -> Power:
    """Return the power of an attack's scores, of at least two members and two others."""
    ins, outs = np.asarray(members_M, dtype=np.float64), np.asarray(others_K, dtype=np.float64)
    if min(len(ins), len(outs)) < 2:
        raise ValueError("an attack needs at least two members and two non-members")
    allowed = int(LOW_FPR * len(outs))
    threshold = np.sort(outs)[::-1][allowed]
    return Power(
        auc=auc(ins, outs),
        tpr=float((ins > threshold).mean()),
        advantage=_advantage(ins, outs, rng),
    )


def auc(members_M: Array, others_K: Array) -> float:
    """Return the area under the ROC curve (Mann-Whitney's U over M K), ties counting half."""
    sorted_K = np.sort(others_K)
    below = np.searchsorted(sorted_K, members_M, side="left")
    not_above = np.searchsorted(sorted_K, members_M, side="right")
    return float((below + not_above).mean() / (2 * len(others_K)))


def _advantage(members_M: Array, others_K: Array, rng: np.random.Generator) -> float:
    halves = [np.array_split(rng.permutation(scores), 2) for scores in (members_M, others_K)]
    values = []
    for fitted, tested in ((0, 1), (1, 0)):
        ins, outs = halves[0][fitted], halves[1][fitted]
        thresholds = np.unique(np.concatenate([ins, outs]))
        gains = [float((ins >= t).mean() - (outs >= t).mean()) for t in thresholds]
        best = thresholds[int(np.argmax(gains))]
        ins, outs = halves[0][tested], halves[1][tested]
        values.append(float((ins >= best).mean() - (outs >= best).mean()))
    return float(np.mean(values))
