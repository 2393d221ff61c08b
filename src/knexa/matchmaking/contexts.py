"""Contexts: one feature vector per ordered pair of agents, from their profiles.

Axes: N agents, K ordered pairs, F profile features, H histogram bins, d context features;
matrices are ``[teacher, student]``.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from knexa.agents import profile_layout
from knexa.matchmaking.base import Array, Context, Indices
from knexa.matchmaking.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Concat(Context):
    """The paper's context x = [p_student; p_teacher] (receiver first), in R^64 for its profiles.

    A linear score of it is additive, f(student) + g(teacher): over matchings that pair everybody
    it can learn who should teach, but not who should teach whom.
    """

    def num_features(self, num_profile_features: int) -> int:
        """Return 2 F."""
        return 2 * num_profile_features

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd."""
        return np.concatenate([profiles_NF[students_K], profiles_NF[teachers_K]], axis=1)


@dataclass(frozen=True, kw_only=True)
class Interaction(Context):
    """Compatibility as features, so that a linear model can learn who fits whom.

    In this order: a constant 1; mean, absolute difference and product of the two profiles (F each);
    the Jensen-Shannon divergence of the data histograms in bits; what the teacher solves, what the
    student solves (recent pass@1 on their own validation data) and how much more the teacher does,
    or 0. All but the two single pass@1 and the lead are symmetric, so these alone tell the roles.

    The three blocks of F are divided by sqrt(F). Every feature is then in about [0, 1] and the
    squared norm at most 8; under one ridge penalty the few features that say most are shrunk
    least.

    Attributes:
        num_histogram: H, how many of the last profile features are the data histogram.
    """

    num_histogram: Annotated[int, Field(ge=1)] = profile_layout.NUM_DATA

    def num_features(self, num_profile_features: int) -> int:
        """Return 3 F + 5.

        Raises:
            ValueError: When the profile is too short to hold a pass@1 and the histogram.
        """
        needed = max(self.num_histogram, profile_layout.PASS_AT_1 + 1)
        if num_profile_features < needed:
            raise ValueError(
                f"context=interaction reads {needed} profile features, the profile has "
                f"{num_profile_features}; lower context.num_histogram or use context=concat"
            )
        return 3 * num_profile_features + 5

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd."""
        num_profile_features = profiles_NF.shape[1]
        self.num_features(num_profile_features)
        teachers_KF, students_KF = profiles_NF[teachers_K], profiles_NF[students_K]
        scale = 1.0 / np.sqrt(num_profile_features)
        divergence_NN = jensen_shannon(profiles_NF[:, -self.num_histogram :])
        divergence_K = divergence_NN[teachers_K, students_K]
        solves_N = profiles_NF[:, profile_layout.PASS_AT_1]
        teacher_solves_K, student_solves_K = solves_N[teachers_K], solves_N[students_K]
        lead_K = np.maximum(teacher_solves_K - student_solves_K, 0.0)
        return np.concatenate(
            [
                np.ones((len(teachers_K), 1)),
                (teachers_KF + students_KF) * (scale / 2.0),
                np.abs(teachers_KF - students_KF) * scale,
                teachers_KF * students_KF * scale,
                np.stack([divergence_K, teacher_solves_K, student_solves_K, lead_K], axis=1),
            ],
            axis=1,
        )


def jensen_shannon(histograms_NH: Array) -> Array:
    """Return the Jensen-Shannon divergence of every pair of rows, in bits, hence in [0, 1].

    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2. Rows are normalised first, negative entries
    count as 0; two rows without mass are at 0, one such row and any other at 1/2.
    """
    mass_NH = np.maximum(histograms_NH, 0.0)
    totals_N1 = mass_NH.sum(axis=1, keepdims=True)
    shares_NH = mass_NH / np.where(totals_N1 > 0.0, totals_N1, 1.0)
    entropies_N = _entropy_bits(shares_NH)
    mixtures_NNH = (shares_NH[:, None, :] + shares_NH[None, :, :]) / 2.0
    divergence_NN = _entropy_bits(mixtures_NNH) - (entropies_N[:, None] + entropies_N[None, :]) / 2
    return np.asarray(np.clip(divergence_NN, 0.0, 1.0))


def _entropy_bits(shares: Array) -> Array:
    """Return -sum p log2 p over the last axis, with 0 log 0 = 0."""
    logs = np.log2(shares, out=np.zeros_like(shares), where=shares > 0.0)
    return np.asarray(-(shares * logs).sum(axis=-1))
