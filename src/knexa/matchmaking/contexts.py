"""Contexts: one feature vector per ordered pair of agents, from their profiles.

Axes: N agents, K ordered pairs, T teachers, S students, F profile features, H histogram bins, d
context features, g columns of factors; matrices are ``[teacher, student]``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.agents import profile_layout
from knexa.data.divergence import divergence, entropy_bits, normalised_bins
from knexa.matchmaking.interaction_scorer import InteractionScorer
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.pair_scores import Array, Context, Indices, Scorer, Span


@dataclass(frozen=True, kw_only=True)
class Concat(Context):
    """The paper's context x = [p_student; p_teacher] (receiver first), in R^64 for its profiles.

    A linear score of it is additive, f(student) + g(teacher): over matchings that pair everybody
    it can learn who should teach, but not who should teach whom.
    """

    name: ClassVar[str] = "concat"

    def num_features(self, num_profile_features: int) -> int:
        """Return 2 F."""
        return 2 * num_profile_features

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd."""
        return np.concatenate([profiles_NF[students_K], profiles_NF[teachers_K]], axis=1)

    def scorer(
        self,
        profiles_NF: Array,
        ledger: Ledger,
        theta_d: Array,
        inverse_dd: Array | None = None,
        beta: float = 0.0,
    ) -> Scorer:
        """Return the scorer of blocks (see ``Context.scorer``): one matrix product each.

        With A^-1 = [[P, Q], [Q^T, R]], x^T A^-1 x = s^T P s + t^T R t + 2 t^T Q^T s; the two
        squares are appended to the factors of the last term.
        """
        num_features = profiles_NF.shape[1]
        student_N, teacher_N = (profiles_NF @ half for half in np.split(theta_d, 2))

        def add_estimates(teachers: Span, students: Span, out_TS: Array) -> None:
            out_TS += student_N[students]
            out_TS += teacher_N[teachers][:, None]

        if inverse_dd is None:

            def fill_estimates(teachers: Span, students: Span, out_TS: Array) -> None:
                out_TS[:] = 0.0
                add_estimates(teachers, students, out_TS)

            return fill_estimates

        # beta sqrt(y) = sqrt(beta^2 y) for beta >= 0, and needs no pass of its own.
        metric_dd = beta**2 * inverse_dd
        p_FF, q_FF = (
            metric_dd[:num_features, :num_features],
            metric_dd[:num_features, num_features:],
        )
        r_FF = metric_dd[num_features:, num_features:]
        ones_N = np.ones(len(profiles_NF))
        squares_N = np.einsum("nf,nf->n", profiles_NF @ p_FF, profiles_NF)
        students_gN = np.vstack([profiles_NF.T, ones_N, squares_N])
        squares_N = np.einsum("nf,nf->n", profiles_NF @ r_FF, profiles_NF)
        teachers_Ng = np.column_stack([2.0 * profiles_NF @ q_FF.T, squares_N, ones_N])

        def fill(teachers: Span, students: Span, out_TS: Array) -> None:
            np.matmul(teachers_Ng[teachers], students_gN[:, students], out=out_TS)
            # Rounding can push the square of a well-explored direction just below zero.
            np.maximum(out_TS, 0.0, out=out_TS)
            np.sqrt(out_TS, out=out_TS)
            add_estimates(teachers, students, out_TS)

        return fill


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

    name: ClassVar[str] = "interaction"

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
        shares_HN = normalised_bins(profiles_NF[:, -self.num_histogram :])
        entropies_N = entropy_bits(shares_HN)
        divergence_K = divergence(
            shares_HN[:, teachers_K],
            shares_HN[:, students_K],
            entropies_N[teachers_K],
            entropies_N[students_K],
        )
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

    def scorer(
        self,
        profiles_NF: Array,
        ledger: Ledger,
        theta_d: Array,
        inverse_dd: Array | None = None,
        beta: float = 0.0,
    ) -> Scorer:
        """Return the scorer of blocks (see ``Context.scorer``), with what factors as products."""
        self.num_features(profiles_NF.shape[1])
        # beta sqrt(y) = sqrt(beta^2 y) for beta >= 0.
        metric_dd = None if inverse_dd is None else beta**2 * inverse_dd
        return InteractionScorer(profiles_NF, self.num_histogram, theta_d, metric_dd)
