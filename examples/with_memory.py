# python -m knexa -cd . profile=with_memory roster=duo debug=smoke 'trusted_modules=[with_memory]'
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.state import AgentState
from knexa.data.problem import Problem
from knexa.profiles.build import Paper32, Profile
from knexa.profiles.layout import FEATURE_NAMES, NUM_DATA


@dataclass(frozen=True, kw_only=True)
class WithMemory(Profile):
    """The paper's 32 features, and how much of others' text the agent keeps: n / (n + 50)."""

    feature_names: ClassVar = (*FEATURE_NAMES[:-NUM_DATA], "memory", *FEATURE_NAMES[-NUM_DATA:])

    def build(
        self, state: AgentState, *, family: str, train: tuple[Problem, ...]
    ) -> NDArray[np.float64]:
        features = Paper32().build(state, family=family, train=train)
        num_kept = len(state.replay)
        return np.insert(features, -NUM_DATA, num_kept / (num_kept + 50))
