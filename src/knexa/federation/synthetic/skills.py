"""``federation=synthetic``: agents that are skills per category, and exchanges that are formulas.

After the paper's synthetic study (8 to 64 clients, low to high heterogeneity). All methods see the
same, and the effect of an exchange depends on the two agents alone. Axes: N agents, K exchanges, C
categories; matrices are ``[teacher, student]``.
"""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from knexa.agents.byzantine import TEXT_ATTACKS, ByzantineAgents
from knexa.backbones.roster import Byzantine
from knexa.data.problem import CATEGORIES
from knexa.federation.settings import Federation, Settings
from knexa.federation.synthetic.formulas import CONCENTRATIONS, LACKS, NUM_FAMILIES, FormulaWorld
from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.plans import Directive
from knexa.profiles.layout import SKILL_FEATURES
from knexa.seeding import derive_rng

if TYPE_CHECKING:
    from knexa.federation.synthetic.setup import FormulaSetup

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Synthetic(Federation):
    """The settings of a federation of formulas.

    Attributes:
        num_agents: N.
        heterogeneity: How unequal the agents' category shares are.
        learning: Share of a skill gap that one exchange closes at full compatibility and bandwidth.
        harm: Negative transfer: the loss from a less skilled teacher, as a share of the gain from
            an equally more skilled one.
        practice: Share of the gap to what its own data can teach that an agent closes in a round.
        forgetting: Share of what is beyond its own data that an agent loses in a round.
        noise: Standard deviation of an observed reward around its true mean.
        byzantine: The Byzantine agents, and their attacks.
    """

    name: ClassVar[str] = "synthetic"
    lacks: ClassVar[frozenset[str]] = LACKS

    num_agents: Annotated[int, Field(ge=2, le=8192)] = 8
    heterogeneity: Literal["low", "medium", "high"] = "high"
    learning: Share = 0.15
    harm: Share = 0.3
    practice: Share = 0.1
    forgetting: Share = 0.02
    noise: Annotated[float, Field(ge=0)] = 0.01
    byzantine: Byzantine = field(default_factory=Byzantine)

    def __post_init__(self) -> None:
        """Check that the Byzantine agents are among the agents."""
        self.byzantine.check(self.num_agents)

    def set_up(self, settings: Settings, stack: ExitStack) -> "FormulaSetup":
        """Set the run up."""
        from knexa.federation.synthetic.setup import FormulaSetup

        return FormulaSetup(settings, SkillWorld(self, settings))


class SkillWorld(FormulaWorld):
    """Agents with a data share, a skill and a ceiling per category, and four traits.

    Traits: the family (pairs of families differ in compatibility), the size (a larger agent can
    become better), the reliability (the share of a skill gap that its answers convey; visible to
    the CPM only through rewards) and the bandwidth.
    """

    def __init__(self, federation: Synthetic, settings: Settings) -> None:
        super().__init__(settings, federation.num_agents, federation.noise)
        self.federation = federation
        num_agents, num_categories = federation.num_agents, len(CATEGORIES)
        rng = derive_rng(settings.seed, "synthetic-agents")
        self.heterogeneity = federation.heterogeneity
        concentration = CONCENTRATIONS[federation.heterogeneity]
        self.shares_NC = rng.dirichlet(np.full(num_categories, concentration), num_agents)
        self.families_N = rng.integers(0, NUM_FAMILIES, num_agents)
        self.sizes_N = rng.uniform(0.5, 1.0, num_agents)
        self.reliability_N = rng.beta(8.0, 2.0, num_agents)
        self.bandwidths_N = rng.uniform(0.3, 1.0, num_agents)
        fit_FF = np.triu(rng.uniform(0.3, 0.9, (NUM_FAMILIES, NUM_FAMILIES)), 1)
        self.fit_FF = fit_FF + fit_FF.T + np.eye(NUM_FAMILIES)
        # What its own data can teach: half of the agent's ceiling at half an even share.
        even = 1.0 / num_categories
        self.own_NC = self.sizes_N[:, None] * self.shares_NC / (self.shares_NC + even / 2)
        self.skills_NC = self.own_NC / 2
        # Validation is half the agent's own mix, half the public one.
        self.weights_NC = (self.shares_NC + even) / 2
        self.kilobytes_N = 10.0 + 10.0 * self.sizes_N
        self.byzantine = ByzantineAgents.of(federation.byzantine, settings.seed, num_agents)
        self._start_NC = self.skills_NC

    def practise(self, active_N: Mask) -> None:
        """Close part of the gap to what an agent's data can teach; lose some of what is beyond."""
        gap_NC = self.own_NC - self.skills_NC
        rate_NC = np.where(gap_NC > 0.0, self.federation.practice, self.federation.forgetting)
        practised_NC = self.skills_NC + rate_NC * gap_NC
        self.skills_NC = np.where(active_N[:, None], practised_NC, self.skills_NC)

    def skills_after(self, teachers_K: Indices, students_K: Indices) -> Array:
        """Return the students' skills after these exchanges, skills_KC, each from the snapshot."""
        taught_NC, harm_N = self._taught()
        gap_KC = taught_NC[teachers_K] - self.skills_NC[students_K]
        fit_K = self.fit_FF[self.families_N[teachers_K], self.families_N[students_K]]
        reach_K = np.minimum(self.bandwidths_N[teachers_K], self.bandwidths_N[students_K])
        rate_KC = (self.federation.learning * fit_K * reach_K)[:, None]
        worth_KC = np.where(
            gap_KC > 0.0,
            gap_KC * self.reliability_N[teachers_K, None],
            gap_KC * harm_N[teachers_K, None],
        )
        skills_KC = self.skills_NC[students_K] + rate_KC * worth_KC
        return np.asarray(np.clip(skills_KC, 0.0, self.sizes_N[students_K, None]))

    def _taught(self) -> tuple[Array, Array]:
        """Return the skills that packages show, taught_NC, and the harm of a negative gap, harm_N.

        Byzantine agents show others than they have.
        """
        taught_NC, harm_N = self.skills_NC, np.full(self.num_agents, self.federation.harm)
        attacks = [attack for attack in TEXT_ATTACKS if attack in self.byzantine.attacks]
        members = list(self.byzantine.members)
        if not members:
            return taught_NC, harm_N
        taught_NC = taught_NC.copy()
        if attacks:  # each attack forges an equal part of a package
            num = len(attacks)
            taught_NC[members] = self._start_NC[members] * (attacks.count("copied") / num)
            harm_N[members] += (1.0 - self.federation.harm) * (attacks.count("wrong") / num)
        speakers = [self.byzantine.speaker(agent) for agent in range(self.num_agents)]
        return taught_NC[speakers], harm_N

    def mean_rewards(self, teachers_K: Indices, students_K: Indices) -> Array:
        """Return the true mean rewards: the fall of the student's validation error (Eq. 3)."""
        weights_KC = self.weights_NC[students_K]
        before_K = 1.0 - (weights_KC * self.skills_NC[students_K]).sum(axis=1)
        after_K = 1.0 - (weights_KC * self.skills_after(teachers_K, students_K)).sum(axis=1)
        kilobytes_K = self.kilobytes_N[teachers_K]
        return np.asarray(self.reward.reward(before=before_K, after=after_K, kilobytes=kilobytes_K))

    def teach(self, teachers_K: Indices, students_K: Indices) -> None:
        """Let the exchanges take effect; several exchanges of one student add up."""
        before_KC = self.skills_NC[students_K]
        change_KC = self.skills_after(teachers_K, students_K) - before_KC
        skills_NC = self.skills_NC.copy()
        np.add.at(skills_NC, students_K, change_KC)
        self.skills_NC = np.clip(skills_NC, 0.0, self.sizes_N[:, None])

    def kilobytes(self, directive: Directive) -> float:
        """Return the size of the teacher's package."""
        return float(self.kilobytes_N[directive.teachers[0]])

    def pass_at_1(self) -> Array:
        """Return the expected Pass@1 on the public test set, even over categories, pass_N."""
        return np.asarray(self.skills_NC.mean(axis=1))

    def features(self) -> dict[str, Array]:
        """Return what the agents measure of themselves, with a little noise, by feature name."""
        rng = derive_rng(self.seed, "synthetic-profile", self.round)
        num_agents, num_categories = self.skills_NC.shape
        on_own_N = (self.weights_NC * self.skills_NC).sum(axis=1)
        measured_NC = self.skills_NC + rng.normal(0.0, 0.05, (num_agents, num_categories))
        values = {
            "pass_at_1": on_own_N + rng.normal(0.0, 0.02, num_agents),
            "data_size": self.sizes_N,
            "teach_yield": self.bandwidths_N,
        }
        for category, skill in enumerate(SKILL_FEATURES):
            values[skill] = np.clip(measured_NC[:, category], 0.0, 1.0)
        return self.families_and_shares() | values

    def state(self) -> dict[str, Any]:
        """Return what changes from round to round."""
        return {"skills": self.skills_NC}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.skills_NC = np.array(state["skills"], dtype=np.float64)
