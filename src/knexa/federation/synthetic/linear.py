"""``federation=synthetic/linear``: rewards exactly linear in the interaction context, plus noise.

This is the setting of the theory of linear bandits (Abbasi-Yadkori et al. 2011), which shows
whether a policy is implemented correctly, not whether it learns elsewhere.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.data.problem import CATEGORIES
from knexa.federation.settings import Federation, Settings
from knexa.federation.synthetic.formulas import CONCENTRATIONS, LACKS, NUM_FAMILIES, FormulaWorld
from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.ledger import Ledger
from knexa.profiles.layout import DYNAMIC_FEATURES, SKILL_FEATURES
from knexa.seeding import derive_rng

if TYPE_CHECKING:
    from knexa.federation.synthetic.setup import FormulaSetup

_CONCENTRATION = CONCENTRATIONS[FormulaWorld.heterogeneity]


@dataclass(frozen=True, kw_only=True)
class SyntheticLinear(Federation):
    """The settings of the linear world.

    Attributes:
        num_agents: N.
        noise: Standard deviation of a reward around its mean.
    """

    name: ClassVar[str] = "synthetic/linear"
    lacks: ClassVar[frozenset[str]] = LACKS

    num_agents: Annotated[int, Field(ge=2, le=8192)] = 8
    noise: Annotated[float, Field(ge=0)] = 0.1

    def set_up(self, settings: Settings, stack: ExitStack) -> "FormulaSetup":
        """Set the run up."""
        from knexa.federation.synthetic.setup import FormulaSetup

        return FormulaSetup(settings, LinearWorld(self, settings))


class LinearWorld(FormulaWorld):
    """Fixed families and histograms, dynamic features drawn anew each round, one hidden model.

    The true mean of a pair is theta^T x with x its interaction context, whatever context the run
    configures; theta is drawn once and scaled so that rewards of a round deviate by about 0.3.
    """

    def __init__(self, federation: SyntheticLinear, settings: Settings) -> None:
        super().__init__(settings, federation.num_agents, federation.noise)
        rng = derive_rng(settings.seed, "linear-agents")
        num_agents = federation.num_agents
        self.families_N = rng.integers(0, NUM_FAMILIES, num_agents)
        self.shares_NC = rng.dirichlet(np.full(len(CATEGORIES), _CONCENTRATION), num_agents)
        self._truth = Interaction(num_histogram=len(CATEGORIES))
        profiles_NF = self.true_profiles()
        theta_d = rng.normal(size=self._truth.num_features(profiles_NF.shape[1]))
        rewards_NN = self._truth.build(profiles_NF) @ theta_d
        spread = float(rewards_NN[~np.eye(num_agents, dtype=bool)].std()) if num_agents > 1 else 0.0
        self.theta_d = theta_d * (0.3 / max(spread, 1e-12))

    def features(self) -> dict[str, Array]:
        """Return families, histograms and this round's dynamic features and skills."""
        rng = derive_rng(self.seed, "linear-profile", self.round)
        measured = (*DYNAMIC_FEATURES, *SKILL_FEATURES)
        values = {name: rng.random(self.num_agents) for name in measured}
        return self.families_and_shares() | values

    def _past(self) -> dict[str, Array]:
        return {}  # past rewards must not enter the features of the linear model

    def mean_rewards(self, teachers_K: Indices, students_K: Indices) -> Array:
        """Return theta^T x."""
        rows_Kd = self._truth.rows(self.true_profiles(), Ledger(), teachers_K, students_K)
        return np.asarray(rows_Kd @ self.theta_d)
