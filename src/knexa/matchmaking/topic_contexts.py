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


@dataclass(frozen=True, kw_only=True)
class RecommendedPolicy:
    """Parameters of a linear policy that suit a context; ``matchmaker=linucb`` interpolates them.

    Attributes:
        regularization: lambda.
        exploration: beta0.
    """

    regularization: Annotated[float, Field(ge=1e-6)]
    exploration: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class TopicPublic(Context):
    """What everybody may know: x = missing [1, right, asked].

    ``missing`` is the share of the topic's transfer problems to which the student has been brought
    no verified answer; ``right`` the share of the teacher's answers on the topic so far that were,
    over all students, 0 where it was never asked; ``asked`` whether it ever was. All in [0, 1]. A
    linear model of x says what share of what is missing a teacher brings: it is 0 where nothing is.
    An arm without a topic is about all of them, and its x is the sum of theirs, as its reward is.

    Attributes:
        recommended: For the policies that learn from it.
    """

    name: ClassVar[str] = "topic_public"
    by_topic: ClassVar[bool] = True

    recommended: RecommendedPolicy = RecommendedPolicy(regularization=0.1, exploration=0.3)

    def num_features(self, num_profile_features: int) -> int:
        """Return 3."""
        return 3

    def arm_rows(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics, arms_Ka: Indices
    ) -> Array:
        """Return contexts_Kd of K arms, with or without a topic (see ``Context``)."""
        return self.topic_factors(profiles_NF, ledger, topics).rows(arms_Ka)

    def topic_factors(
        self, profiles_NF: Array, ledger: Ledger, topics: TransferTopics
    ) -> TopicFactors:
        """Return ``missing`` and the features that it is multiplied with (see ``Context``)."""
        new_NT = ledger.new_answers(len(profiles_NF))[:, topics.categories_T]
        counts_NC = ledger.answered(len(profiles_NF))
        asked_NT, right_NT = (counts[:, topics.categories_T] for counts in counts_NC)
        features = [
            np.ones(asked_NT.shape),
            *self.private(profiles_NF, topics),
            right_NT / np.maximum(asked_NT, 1.0),
            (asked_NT > 0.0).astype(np.float64),
        ]
        # Answers that the student's store had no room for can be new twice.
        missing_NT = np.maximum(1.0 - new_NT / topics.sizes_T, 0.0)
        return TopicFactors(offers_NTd=np.stack(features, axis=-1), missing_NT=missing_NT)

    def private(self, profiles_NF: Array, topics: TransferTopics) -> tuple[Array, ...]:
        """Return the features_NT of what teachers show of their private data: none."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Topic(TopicPublic):
    """The same with the teacher's data share of the topic: x = missing [1, share, right, asked].

    The share is from the profile's data histogram, its last features.
    """

    name: ClassVar[str] = "topic"

    def num_features(self, num_profile_features: int) -> int:
        """Return 4."""
        if num_profile_features < layout.NUM_DATA:
            raise ValueError(
                f"context=topic reads the profile's histogram of {layout.NUM_DATA} categories, the "
                f"profile has {num_profile_features} features; use context=topic_public"
            )
        return 4

    def private(self, profiles_NF: Array, topics: TransferTopics) -> tuple[Array, ...]:
        """Return the teacher's share of the category."""
        shares_CN = normalised_bins(profiles_NF[:, -layout.NUM_DATA :])
        return (shares_CN[topics.categories_T].T,)
