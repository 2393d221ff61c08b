"""Contexts: one feature vector per ordered pair of agents, from their profiles.

Axes: N agents, K ordered pairs, F profile features, H histogram bins, d context features; matrices
are ``[teacher, student]``.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.data.divergence import divergence, entropy_bits, normalised_bins
from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.ledger import Ledger
from knexa.profiles import layout


@dataclass(frozen=True, kw_only=True)
class TopicFactors:
    """Contexts of answers as products: x = missing[student, topic] offer[teacher, topic].

    Attributes:
        offers_NTd: What a teacher offers on a topic, ``[teacher, topic]``.
        missing_NT: How much of it the student lacks, ``[student, topic]``, at least 0.
    """

    offers_NTd: Array
    missing_NT: Array

    def rows(self, arms_Ka: Indices) -> Array:
        """Return contexts_Kd of arms; of those without a topic the sum over all topics."""
        teachers_K, students_K, *topics = arms_Ka.T
        if topics:
            missing_K1 = self.missing_NT[students_K, topics[0]][:, None]
            return np.asarray(missing_K1 * self.offers_NTd[teachers_K, topics[0]])
        missing_KT1 = self.missing_NT[students_K][:, :, None]
        return np.asarray((missing_KT1 * self.offers_NTd[teachers_K]).sum(axis=1))

    def all_rows(self) -> Array:
        """Return the contexts of all arms, contexts_NNTd ``[teacher, student, topic]``."""
        missing_1NT1 = self.missing_NT[None, :, :, None]
        return np.asarray(np.multiply(missing_1NT1, self.offers_NTd[:, None], order="C"))


class Context:
    """Makes one feature vector x_d per ordered pair from what the CPM knows.

    Base of every option of ``context=``: override ``num_features`` and ``rows``.

    Class attributes:
        by_topic: Whether it describes answers on topics (``topic_contexts.py``).
    """

    by_topic: ClassVar[bool] = False

    def num_features(self, num_profile_features: int) -> int:
        """Return d for profiles of that many features.

        Raises:
            ValueError: When the context needs features that such profiles do not have.
        """
        raise NotImplementedError

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd of the K ordered pairs.

        Args:
            profiles_NF: Profiles, one row an agent, features in about [0, 1].
            ledger: The CPM's record of past exchanges.
            teachers_K: Each pair's teacher, an index of an agent.
            students_K: Each pair's student.
        """
        raise NotImplementedError

    def arm_rows(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics, arms_Ka: Indices
    ) -> Array:
        """Return contexts_Kd of K arms, each a row (teacher, student) or (teacher, student, topic).

        ``topics`` are those of the transfer set; a topic is its place among them.
        """
        return self.rows(profiles_NF, ledger, arms_Ka[:, 0], arms_Ka[:, 1])

    def topic_factors(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics
    ) -> TopicFactors | None:
        """Return the factors of ``arm_rows`` where these are products; None where they are not.

        A context that has factors is not asked for the rows of all N^2 T arms.
        """
        return None

    def build(self, profiles_NF: Array, ledger: Ledger | None = None) -> Array:
        """Return contexts_NNd of all ordered pairs; the diagonal's content is unused."""
        num_agents = len(profiles_NF)
        teachers_n, students_n = np.divmod(np.arange(num_agents**2), num_agents)
        known = Ledger() if ledger is None else ledger
        rows_nd = self.rows(profiles_NF, known, teachers_n, students_n)
        return rows_nd.reshape(num_agents, num_agents, rows_nd.shape[1])


@dataclass(frozen=True, kw_only=True)
class Concat(Context):
    """The paper's context x = [p_student; p_teacher] (receiver first), in R^64 for its profiles.

    A linear score of it is additive, f(student) + g(teacher): it can tell who should teach, but
    not whom.
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


@dataclass(frozen=True, kw_only=True)
class Interaction(Context):
    """Interaction features, from which a linear model can learn who fits whom.

    In this order: a constant 1; mean, absolute difference and product of the two profiles (F each);
    the Jensen-Shannon divergence of the data histograms in bits; the pass@1 of teacher and student
    on their own validation data, and the teacher's lead in it, at least 0. Only these last three
    differ between the two roles of a pair.

    The three blocks of F are divided by sqrt(F), so that every feature is in about [0, 1], the
    squared norm is at most 8, and the ridge penalty shrinks the few other features least.

    Attributes:
        num_histogram: H, how many of the last profile features are the data histogram.
    """

    name: ClassVar[str] = "interaction"

    num_histogram: Annotated[int, Field(ge=1)] = layout.NUM_DATA

    def num_features(self, num_profile_features: int) -> int:
        """Return 3 F + 5."""
        needed = max(self.num_histogram, layout.PASS_AT_1 + 1)
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
        solves_N = profiles_NF[:, layout.PASS_AT_1]
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
