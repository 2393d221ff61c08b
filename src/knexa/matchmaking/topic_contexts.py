"""Contexts of answers: what a student lacks, and what a teacher is known to give.

Axes: N agents, C categories, T topics, K arms, d context features.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.data.divergence import normalised_bins
from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.contexts import Context, TopicFactors
from knexa.matchmaking.ledger import Ledger
from knexa.profiles import layout

RIGHT = -2
"""The place of ``right`` among what teachers offer (``TopicPast.offers``)."""


@dataclass(frozen=True, kw_only=True)
class RecommendedPolicy:
    """Parameters of a linear policy that suit a context; ``matchmaker=linucb`` interpolates them.

    Attributes:
        regularization: lambda.
        exploration: beta0.
    """

    regularization: Annotated[float, Field(ge=1e-6)]
    exploration: Annotated[float, Field(ge=0, le=1_000_000)]


@dataclass(frozen=True, kw_only=True)
class TopicPast(Context):
    """What everybody saw: x = missing [1, right, asked].

    ``missing`` is the share of the topic's transfer problems to which the student has been brought
    no verified answer; ``right`` the share of the teacher's answers on the topic so far that were,
    over all students, 0 where it was never asked; ``asked`` whether it ever was. All in [0, 1]. A
    linear model of x says what share of what is missing a teacher brings: it is 0 where nothing is.
    An arm without a topic is about all of them, and its x is the sum of theirs, as its reward is.

    Attributes:
        recommended: For the policies that learn from it.
    """

    name: ClassVar[str] = "topic_past"
    by_topic: ClassVar[bool] = True

    recommended: RecommendedPolicy = RecommendedPolicy(regularization=0.1, exploration=0.3)

    def num_features(self, num_profile_features: int) -> int:
        """Return 3."""
        return 3

    def arm_rows(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics, arms_Ka: Indices
    ) -> Array:
        """Return contexts_Kd of K arms, with or without a topic (see ``Context``)."""
        return self.factors(profiles_NF, ledger, topics).rows(arms_Ka)

    def topic_factors(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics
    ) -> TopicFactors | None:
        """Return ``factors``: the rows are their products (see ``Context``)."""
        return self.factors(profiles_NF, ledger, topics)

    def factors(self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics) -> TopicFactors:
        """Return ``missing`` and the features that it is multiplied with."""
        new_NT = ledger.new_answers(len(profiles_NF))[:, topics.categories_T]
        counts_NC = ledger.answered(len(profiles_NF))
        asked_NT, right_NT = (counts[:, topics.categories_T] for counts in counts_NC)
        features = self.offers(asked_NT, right_NT, self.claims(profiles_NF, topics), topics)
        # Answers that the student's store had no room for can be new twice.
        missing_NT = np.maximum(1.0 - new_NT / topics.sizes_T, 0.0)
        return TopicFactors(offers_NTd=np.stack(features, axis=-1), missing_NT=missing_NT)

    def offers(
        self,
        asked_NT: Array,
        right_NT: Array,
        claims: tuple[Array, ...],
        topics: TransferTopics,
    ) -> list[Array]:
        """Return the features_NT that ``missing`` is multiplied with."""
        return [
            np.ones(asked_NT.shape),
            *claims,
            right_NT / np.maximum(asked_NT, 1.0),
            (asked_NT > 0.0).astype(np.float64),
        ]

    def claims(self, profiles_NF: Array, topics: TransferTopics) -> tuple[Array, ...]:
        """Return the features_NT of what teachers say of themselves: none."""
        return ()


@dataclass(frozen=True, kw_only=True)
class TopicPublic(TopicPast):
    """The same with what the teacher says it can: x = missing [1, skill, right, asked].

    ``skill`` is its pass rate on the topic's problems of the public probe set, by
    ``profile=skills``: nothing that its private data would be needed for.
    """

    name: ClassVar[str] = "topic_public"

    def num_features(self, num_profile_features: int) -> int:
        """Return 4."""
        if num_profile_features < len(layout.SKILLS_FEATURE_NAMES):
            raise ValueError(
                f"context={self.name} reads pass rates by category, which the profile has not; set "
                "profile=skills"
            )
        return 4

    def claims(self, profiles_NF: Array, topics: TransferTopics) -> tuple[Array, ...]:
        """Return the teacher's pass rate in the category."""
        return (profiles_NF[:, layout.SKILLS][:, topics.categories_T],)


@dataclass(frozen=True, kw_only=True)
class Topic(TopicPast):
    """The same with the teacher's data share of the topic: x = missing [1, share, right, asked].

    The share is from the profile's data histogram, its last features.
    """

    name: ClassVar[str] = "topic"

    def num_features(self, num_profile_features: int) -> int:
        """Return 4."""
        if num_profile_features < layout.NUM_DATA:
            raise ValueError(
                f"context={self.name} reads the profile's histogram of {layout.NUM_DATA} "
                f"categories, the profile has {num_profile_features} features; use "
                "context=topic_public"
            )
        return 4

    def claims(self, profiles_NF: Array, topics: TransferTopics) -> tuple[Array, ...]:
        """Return the teacher's share of the category."""
        shares_CN = normalised_bins(profiles_NF[:, -layout.NUM_DATA :])
        return (shares_CN[topics.categories_T].T,)


@dataclass(frozen=True, kw_only=True)
class TopicHistory(Topic):
    """The same and how often the two met: x = missing [1, share, right, asked, again, again right].

    ``again`` is k / (1 + k) where this student has asked this teacher k times about the topic. What
    it lacks after that is what the teacher failed at, so the teacher's share of right answers says
    less of what it would bring. Ours. The features differ by student, so teachers cannot be ranked
    once for all students: every arm has a row of its own.
    """

    name: ClassVar[str] = "topic_history"

    def num_features(self, num_profile_features: int) -> int:
        """Return 6."""
        return super().num_features(num_profile_features) + 2

    def topic_factors(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics
    ) -> TopicFactors | None:
        """Return None (see ``Context``)."""
        return None

    def arm_rows(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics, arms_Ka: Indices
    ) -> Array:
        """Return contexts_Kd of K arms, with or without a topic (see ``Context``)."""
        factors = self.factors(profiles_NF, ledger, topics)
        times_NNT = ledger.times_asked(len(profiles_NF))[:, :, topics.categories_T]
        teachers_K1, students_K1, *asked = (column_K[:, None] for column_K in arms_Ka.T)
        places_Kt = asked[0] if asked else np.arange(len(topics.categories))[None]
        offers_Ktd = factors.offers_NTd[teachers_K1, places_Kt]
        times_Kt = times_NNT[teachers_K1, students_K1, places_Kt]
        again_Kt = times_Kt / (1.0 + times_Kt)
        history_Kt2 = np.stack([again_Kt, again_Kt * offers_Ktd[..., RIGHT]], axis=-1)
        missing_Kt1 = factors.missing_NT[students_K1, places_Kt][..., None]
        x_Ktd = missing_Kt1 * np.concatenate([offers_Ktd, history_Kt2], axis=-1)
        return np.asarray(x_Ktd.sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class TopicReputation(Topic):
    """Claims count as much as their author's answers were right: x = missing [p, p share, right].

    p is the teacher's reputation: the share of right ones among all its answers so far, on any
    topic, with as many more as a mean topic has assumed to be right as often as everybody's; 1
    before anybody answered. A teacher that was asked about the topic is known by ``right`` there,
    and its claim, ``share``, counts no more (is 0). Ours, against Byzantine agents: one whose text
    is false is doubted on all topics once it was asked about some. All features are in [0, 1].
    """

    name: ClassVar[str] = "topic_reputation"

    def num_features(self, num_profile_features: int) -> int:
        """Return 3."""
        return super().num_features(num_profile_features) - 1

    def offers(
        self,
        asked_NT: Array,
        right_NT: Array,
        claims: tuple[Array, ...],
        topics: TransferTopics,
    ) -> list[Array]:
        """Return the features_NT that ``missing`` is multiplied with."""
        (claims_NT,) = claims
        reputations_NT = reputations(asked_NT, right_NT, topics)[:, None] * np.ones(asked_NT.shape)
        return [
            reputations_NT,
            reputations_NT * np.where(asked_NT > 0.0, 0.0, claims_NT),
            right_NT / np.maximum(asked_NT, 1.0),
        ]


def reputations(asked_NT: Array, right_NT: Array, topics: TransferTopics) -> Array:
    """Return every teacher's reputation (see ``TopicReputation``) from counts of its answers."""
    if not asked_NT.any():
        return np.ones(len(asked_NT))
    everybodys = right_NT.sum() / asked_NT.sum()
    assumed = topics.sizes_T.mean()
    return np.asarray(
        (right_NT.sum(axis=1) + assumed * everybodys) / (asked_NT.sum(axis=1) + assumed)
    )
