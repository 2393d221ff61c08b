# python -m knexa -cd . context=who_leads federation=synthetic 'trusted_modules=[who_leads]'
from dataclasses import dataclass

import numpy as np

from knexa.matchmaking import Array, Context, Indices, Ledger
from knexa.profiles.layout import PASS_AT_1


@dataclass(frozen=True, kw_only=True)
class WhoLeads(Context):
    """Three features of a pair: a constant, the teacher's lead in pass@1, the student's lead."""

    def num_features(self, num_profile_features: int) -> int:
        return 3

    def rows(
        self, profiles_NF: Array, ledger: Ledger, teachers_K: Indices, students_K: Indices
    ) -> Array:
        solves_N = profiles_NF[:, PASS_AT_1]
        lead_K = solves_N[teachers_K] - solves_N[students_K]
        features = [np.ones_like(lead_K), np.maximum(lead_K, 0), np.maximum(-lead_K, 0)]
        return np.stack(features, axis=1)
