"""Privacy of profiles: clipping, Gaussian noise and k-anonymous families.

Numbers have local differential privacy: an agent protects its profile before the CPM sees it. Two
runs are neighbours if one agent's numeric profile differs in any way, so one release has L2
sensitivity 2C once the profile, measured from its neutral value, is clipped to norm C. Each round
of matchmaking is one release; their costs compose (``knexa.agents.accounting``).

Families, the one categorical part, are shown only where at least k distinct agents have them; other
agents show ``other``. This is decided with the roster, so it protects against peers and readers of
the profiles, not against the roster's author.

Not covered: packages, rewards, package sizes, sender names; attackers who know the run's seed,
which the noise comes from (a deployment draws it from the agent's own entropy); attacks on
floating-point Gaussians (Mironov 2012). Axes: N agents, F features, K numeric features.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from knexa.agents.accounting import Budget, calibrated_noise, epsilon_spent
from knexa.backbones.roster import FAMILIES
from knexa.data.problem import CATEGORIES
from knexa.errors import UserError
from knexa.seeding import derive_rng
from knexa.tracking.rows import ProfilePrivacy

Array = NDArray[np.float64]

_NOT_THE_AGENTS = "trust"
"""A constant until the CPM fills it in, so it needs no protection."""


class Mechanism(Protocol):
    """Protects profiles on their way to the CPM."""

    def release(self, profiles_NF: Array, round_number: int) -> Array:
        """Return the round's profiles as the CPM sees them."""

    def spent(self, num_releases: int) -> ProfilePrivacy | None:
        """Return every agent's privacy cost of ``num_releases`` rounds; None: no guarantee."""


class Privacy(ABC):
    """Base of every component of the config group ``privacy``."""

    @property
    def budget(self) -> Budget | None:
        """Privacy budget of an agent's profiles over the run; None: no guarantee."""
        return None

    @abstractmethod
    def mechanism(
        self, *, families: Sequence[str], feature_names: Sequence[str], seed: int, num_rounds: int
    ) -> Mechanism:
        """Return the mechanism of one run.

        Raises:
            UserError: It cannot give the guarantee that it is asked for.
        """


@dataclass(frozen=True, kw_only=True)
class NoPrivacy(Privacy):
    """Profiles leave unchanged; also its own mechanism."""

    name: ClassVar[str] = "none"

    def mechanism(
        self, *, families: Sequence[str], feature_names: Sequence[str], seed: int, num_rounds: int
    ) -> "NoPrivacy":
        """Return itself."""
        return self

    def release(self, profiles_NF: Array, round_number: int) -> Array:
        """Return the profiles."""
        return profiles_NF

    def spent(self, num_releases: int) -> None:
        """Return None: there is no guarantee."""


@dataclass(frozen=True, kw_only=True)
class Gaussian(Privacy):
    """Clipping, noise calibrated to a budget for the whole run, and k-anonymous families.

    Attributes:
        epsilon: Budget of all the run's rounds together.
        delta: Chance that epsilon does not hold.
        clip: C, the largest L2 norm of a profile measured from its neutral value.
        min_family: k, the fewest distinct agents that may show a family.
    """

    name: ClassVar[str] = "gaussian"

    epsilon: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 1.0
    min_family: Annotated[int, Field(ge=1)] = 2

    @property
    def budget(self) -> Budget:
        """Privacy budget of an agent's profiles over the run."""
        return Budget(self.epsilon, self.delta)

    def mechanism(
        self, *, families: Sequence[str], feature_names: Sequence[str], seed: int, num_rounds: int
    ) -> "GaussianMechanism":
        """Calibrate the noise to ``num_rounds`` releases and choose each agent's shown family.

        Raises:
            UserError: Opacus is missing, the budget is too small, or a family cannot be hidden
                among ``min_family`` agents.
        """
        return GaussianMechanism(
            settings=self,
            feature_names=tuple(feature_names),
            families=shown_families(enumerate(families), self.min_family),
            noise_multiplier=calibrated_noise(
                epsilon=self.epsilon, delta=self.delta, num_releases=num_rounds
            ),
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class GaussianMechanism:
    """The Gaussian mechanism of one run.

    Attributes:
        settings: The budget and the clip.
        feature_names: The profile's features.
        families: The family that each agent shows, by index.
        noise_multiplier: Standard deviation of the noise over the sensitivity 2C.
        seed: The run's.
    """

    settings: Gaussian
    feature_names: tuple[str, ...]
    families: dict[int, str]
    noise_multiplier: float
    seed: int

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in each numeric feature."""
        return self.noise_multiplier * 2.0 * self.settings.clip

    def release(self, profiles_NF: Array, round_number: int) -> Array:
        """Return the noisy profiles, brought back into the features' ranges.

        Ranges are public, so this has no privacy cost: every number is in [0, 1] and the data
        histogram sums to 1.
        """
        shown_NF = profiles_NF.copy()
        for agent in range(len(shown_NF)):
            shown_NF[agent, self._numeric] = self.noisy(profiles_NF[agent], agent, round_number)
            family = [float(name == self.families[agent]) for name in FAMILIES]
            shown_NF[agent, self._columns(FAMILIES)] = family
        shown_NF[:, self._numeric] = shown_NF[:, self._numeric].clip(0.0, 1.0)
        histogram = self._columns(CATEGORIES)
        mass_N1 = shown_NF[:, histogram].sum(axis=1, keepdims=True)
        even = 1.0 / len(CATEGORIES)
        shown_NF[:, histogram] = np.where(
            mass_N1 > 0.0, shown_NF[:, histogram] / np.where(mass_N1 > 0.0, mass_N1, 1.0), even
        )
        return shown_NF

    def noisy(self, profile_F: Array, agent: int, round_number: int) -> Array:
        """Return an agent's clipped numbers with noise, numbers_K: the Gaussian mechanism."""
        offset_K = profile_F[self._numeric] - self._neutral
        norm = float(np.linalg.norm(offset_K))
        offset_K = offset_K * min(1.0, self.settings.clip / max(norm, 1e-300))
        rng = derive_rng(self.seed, "profile-noise", round_number, agent)
        return np.asarray(
            self._neutral + offset_K + rng.normal(0.0, self.sigma, len(offset_K)),
            dtype=np.float64,
        )

    def spent(self, num_releases: int) -> ProfilePrivacy:
        """Return the privacy cost of ``num_releases`` rounds, the same for every agent."""
        return ProfilePrivacy(
            epsilon=epsilon_spent(
                noise_multiplier=self.noise_multiplier,
                delta=self.settings.delta,
                num_releases=num_releases,
            ),
            delta=self.settings.delta,
            noise_multiplier=self.noise_multiplier,
            sigma=self.sigma,
            clip=self.settings.clip,
            releases=num_releases,
            unit="an agent's whole numeric profile replaced",
            min_family=self.settings.min_family,
            families=tuple(self.families[agent] for agent in sorted(self.families)),
        )

    @property
    def _numeric(self) -> list[int]:
        categorical = {*FAMILIES, _NOT_THE_AGENTS}
        return [i for i, name in enumerate(self.feature_names) if name not in categorical]

    @property
    def _neutral(self) -> Array:
        """A profile without information: an even histogram, and 1/2 for every other number."""
        even, names = 1.0 / len(CATEGORIES), self.feature_names
        return np.array([even if names[i] in CATEGORIES else 0.5 for i in self._numeric])

    def _columns(self, names: Sequence[str]) -> list[int]:
        return [self.feature_names.index(name) for name in names]


def shown_families(members: Iterable[tuple[int, str]], k: int) -> dict[int, str]:
    """Return the family that each agent shows: its own where k agents have it, else ``other``.

    ``members`` are (agent, family) pairs; an agent that is repeated counts once.

    Raises:
        UserError: Fewer than k agents would show ``other``.
    """
    family_of = dict(members)
    holders: dict[str, set[int]] = defaultdict(set)
    for agent, family in family_of.items():
        holders[family].add(agent)
    shown = {
        agent: family if len(holders[family]) >= k else "other"
        for agent, family in family_of.items()
    }
    hidden = sum(family == "other" for family in shown.values())
    if 0 < hidden < k:
        alone = sorted({family for agent, family in family_of.items() if shown[agent] == "other"})
        raise UserError(
            f"privacy.min_family={k}: the famil{'y' if len(alone) == 1 else 'ies'} "
            f"{', '.join(alone)} can be hidden among {hidden} of {len(family_of)} distinct agents "
            "only; lower privacy.min_family, or use a roster with more agents of each family"
        )
    return shown
