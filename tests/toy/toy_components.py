"""Components for the tests of the app: one of each kind of parameter, and nothing behind them."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from knexa.agents.training import Training
from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.partition import AgentData, Partition
from knexa.data.problem import Problem
from knexa.engine.local import Local
from knexa.evaluation.settings import Evaluation
from knexa.federation.settings import Federation, Settings
from knexa.federation.setup import Setup
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.regret import Regret
from knexa.matchmaking.round_view import RoundView
from knexa.tracking.loggers import Logger


@dataclass(frozen=True, kw_only=True)
class Empty:
    """Of no kind."""


@dataclass(frozen=True, kw_only=True)
class Toys(Federation):
    num_rounds: int = 1

    def set_up(self, settings: Settings, stack: ExitStack) -> Setup:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Never(Regret):
    every: int = 0


@dataclass(frozen=True, kw_only=True)
class Trained(Training):
    local_learning_rate: float = 1.0
    kd_learning_rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Laptop(Local):
    alpha: float = 1.0


@dataclass(kw_only=True)
class Diary(Logger):
    alpha: float = 1.0


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
class Split(Partition):
    alpha: Annotated[float, Field(gt=0)]
    sizes: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}: lower it")

    def split(
        self, problems: Sequence[Problem], num_agents: int, rng: np.random.Generator
    ) -> list[AgentData]:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Files(Dataset):
    path: str | None = None
    content: str = "same"

    def fingerprint(self) -> str:
        return self.content

    def load(self) -> Benchmark:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Holder(Evaluation):
    inner: Linear = field(default_factory=Linear)
    verbose: bool = False
