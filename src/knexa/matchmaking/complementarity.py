"""A context of nine features: what the teacher has that the student lacks.

A short run has enough observations for nine weights, not for the hundred of
``context=interaction``. Axes: N agents, K ordered pairs, F profile features, C categories, d
context features.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.contexts import Context
from knexa.matchmaking.ledger import Ledger
from knexa.profiles import layout

FEATURES: tuple[str, ...] = (
    "constant",
    "lead",  # mean over the categories of what the teacher solves beyond the student
    "largest_lead",  # in one category
    "wanted_lead",  # mean lead, weighted by the student's data, on which its own loss is measured
    "lag",  # mean over the categories of what the student solves beyond the teacher
    "distance",  # total variation distance of the data histograms
    "past_reward",  # tanh of the pair's mean reward over the root mean square of all; 0 at first
    "past_count",  # n / (n + 1) of the pair's n exchanges so far
    "trust",  # the teacher's
)
"""Names of the features, in order."""


@dataclass(frozen=True, kw_only=True)
class Complementarity(Context):
    """Nine features of an ordered pair, from ``profile=skills`` and the ledger; ours.

    What an agent solves are its pass rates by category on the public transfer set. All features but
    the past reward, which is in (-1, 1), are in [0, 1].
    """

    name: ClassVar[str] = "complementarity"

    def num_features(self, num_profile_features: int) -> int:
        """Return 9."""
        needed = len(layout.SKILLS_FEATURE_NAMES)
        if num_profile_features != needed:
            raise ValueError(
                f"context=complementarity reads the {needed} features of profile=skills, the "
                f"profile has {num_profile_features}; set profile=skills or context=interaction"
            )
        return len(FEATURES)

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        """Return contexts_Kd."""
        self.num_features(profiles_NF.shape[1])
        skills_NC = profiles_NF[:, layout.SKILLS]
        data_NC = profiles_NF[:, -layout.NUM_DATA :]
        gaps_KC = skills_NC[teachers_K] - skills_NC[students_K]
        leads_KC = np.maximum(gaps_KC, 0.0)
        differences_KC = np.abs(data_NC[teachers_K] - data_NC[students_K])
        means_K, counts_K = ledger.pair_means(teachers_K, students_K)
        # Without a reward other than 0 there is no scale, and all means are 0.
        scale = ledger.root_mean_square() or 1.0
        return np.stack(
            [
                np.ones(len(teachers_K)),
                leads_KC.mean(axis=1),
                leads_KC.max(axis=1),
                (leads_KC * data_NC[students_K]).sum(axis=1),
                np.maximum(-gaps_KC, 0.0).mean(axis=1),
                differences_KC.sum(axis=1) / 2.0,
                np.tanh(means_K / scale),
                counts_K / (counts_K + 1.0),
                profiles_NF[teachers_K, layout.TRUST],
            ],
            axis=1,
        )
