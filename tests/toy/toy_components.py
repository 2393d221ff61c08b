"""Components for the tests of the app: one of each kind of parameter, and nothing behind them."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from knexa.matchmaking.base import Matchmaker, Plan, RoundView


@dataclass(frozen=True, kw_only=True)
class Empty:
    """Stands for any group; as a profile and a context it fits itself."""

    feature_names: ClassVar[tuple[str, ...]] = ("bias",)

    def num_features(self, num_profile_features: int) -> int:
        return num_profile_features


class Idle(Matchmaker):
    def propose(self, view: RoundView) -> Plan:
        return ()


@dataclass(frozen=True, kw_only=True)
class Linear(Idle):
    alpha: Annotated[float, Field(gt=0)] = 1.0
    steps: Annotated[int, Field(ge=1, le=100)] = 5
    norm: Literal["zscore", "raw"] = "raw"
    protocol: ClassVar[str | None] = None


@dataclass(frozen=True, kw_only=True)
class Fragile(Matchmaker):
    """Its own code raises: in the constructor, or when it is asked."""

    late: bool = False

    def __post_init__(self) -> None:
        if not self.late:
            1 / 0  # noqa: B018

    def propose(self, view: RoundView) -> Plan:
        return (1 / 0,)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Central(Idle):
    protocol: ClassVar[str | None] = "ensemble"


@dataclass(frozen=True, kw_only=True)
class Split:
    alpha: Annotated[float, Field(gt=0)]
    sizes: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}: lower it")


@dataclass(frozen=True, kw_only=True)
class Lora:
    rank: Annotated[int, Field(ge=1)]
    dropout: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Backbone:
    source: str
    lora: Lora


@dataclass(frozen=True, kw_only=True)
class Roster:
    backbones: dict[str, Backbone]
    agents: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Files:
    path: str | None = None
    content: str = "same"

    def fingerprint(self) -> str:
        return self.content


@dataclass(frozen=True, kw_only=True)
class Holder:
    inner: Linear = field(default_factory=Linear)
    verbose: bool = False
