"""``federation=synthetic`` and ``federation=synthetic/linear``: the settings of formula worlds."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from knexa.backbones.roster import Byzantine
from knexa.federation.federation import Federation

if TYPE_CHECKING:
    from knexa.federation.settings import Settings
    from knexa.federation.synthetic.setup import FormulaStage

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class Synthetic(Federation):
    """The settings of a federation of formulas.

    Attributes:
        num_agents: N.
        heterogeneity: How unequal the agents' category shares are.
        learning: Share of a skill gap that one lesson closes at full compatibility and bandwidth.
        harm: Cost of a gap in the wrong direction, as a share of what it would earn in the right
            one: negative transfer.
        practice: Share of the gap to what its own data can teach that an agent closes in a round.
        forgetting: Share of what is beyond its own data that an agent loses in a round.
        noise: Standard deviation of an observed reward around its true mean.
        byzantine: Who of the agents lies, and how.
    """

    name: ClassVar[str] = "synthetic"
    lacks: ClassVar[frozenset[str]] = frozenset(
        {"roster", "data", "partition", "exchange", "guardrail", "training", "evaluation"}
    )

    num_agents: Annotated[int, Field(ge=1)] = 8
    heterogeneity: Literal["low", "medium", "high"] = "high"
    learning: Share = 0.15
    harm: Share = 0.3
    practice: Share = 0.1
    forgetting: Share = 0.02
    noise: Annotated[float, Field(ge=0)] = 0.01
    byzantine: Byzantine = field(default_factory=Byzantine)

    def __post_init__(self) -> None:
        """Check that the liars are among the agents.

        Raises:
            ValueError: They are not.
        """
        self.byzantine.check(self.num_agents)

    def stage(self, settings: "Settings", stack: ExitStack) -> "FormulaStage":
        """Set the run up."""
        from knexa.federation.synthetic.setup import FormulaStage
        from knexa.federation.synthetic.skills import SkillWorld

        return FormulaStage(settings, SkillWorld(self, settings))


@dataclass(frozen=True, kw_only=True)
class SyntheticLinear(Federation):
    """The settings of the linear world.

    Attributes:
        num_agents: N.
        noise: Standard deviation of a reward around its mean.
    """

    name: ClassVar[str] = "synthetic/linear"
    lacks: ClassVar[frozenset[str]] = Synthetic.lacks

    num_agents: Annotated[int, Field(ge=1)] = 8
    noise: Annotated[float, Field(ge=0)] = 0.1

    def stage(self, settings: "Settings", stack: ExitStack) -> "FormulaStage":
        """Set the run up."""
        from knexa.federation.synthetic.linear import LinearWorld
        from knexa.federation.synthetic.setup import FormulaStage

        return FormulaStage(settings, LinearWorld(self, settings))
