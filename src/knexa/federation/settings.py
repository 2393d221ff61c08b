"""The typed settings of a run: the federation's own, one component a config group, root values."""

import hashlib
import json
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from knexa.agents.exchange_protocol import ExchangeProtocol
from knexa.agents.training import Training
from knexa.backbones.roster import Roster
from knexa.data.benchmark import Dataset
from knexa.data.partition import Partition
from knexa.data.topics import Topics
from knexa.engine.local import Engine
from knexa.evaluation.settings import Evaluation
from knexa.exchange.guardrail.filter import Guardrail
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.contexts import Context
from knexa.matchmaking.plans import Selection
from knexa.matchmaking.regret import Regret
from knexa.matchmaking.rewards import Reward
from knexa.profiles.build import Profile
from knexa.profiles.privacy import Privacy
from knexa.recipe import NAME, AddedLater
from knexa.tracking.loggers import Logger

if TYPE_CHECKING:
    from knexa.federation.setup import Setup


@dataclass(frozen=True, kw_only=True)
class Federation(ABC):
    """Base of every component of the config group ``federation``: how rounds go.

    Class attributes:
        lacks: Config groups that it has no use for.

    Attributes:
        num_rounds: Rounds of local update, matchmaking, exchange and feedback.
        num_pairs: K_p, the most pairs of a round; None means half the agents.
        mutual: Both agents of a pair teach each other, in two directives.
        trust_gate: The CPM excludes an agent from teaching once its trust is surely below this
            share of the median agent's; None: never. Ours, against Byzantine agents.
        compare_reports: The CPM compares what students of one teacher report of its answers on a
            topic, and learns from no report that it proves forged, as long as fewer than half of
            the agents forge (``matchmaking.reports``). For rewards of answers.
        sync: When a round ends. ``lockstep``: when all its directives have ended. ``async``: when
            enough feedback has come in or a timer has run out; busy agents are not matched, and
            late feedback is used with the context of its choice. The last round waits for all.
        quorum: Feedback that ends an ``async`` round, as a share of the directives in flight.
        timer_s: The timer of ``async``, in seconds of virtual time.
        faults: The simulated faults, and the speeds that virtual time is computed from.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()

    num_rounds: Annotated[int, Field(ge=1)]
    num_pairs: Annotated[int, Field(ge=0)] | None = None
    mutual: bool = False
    trust_gate: Annotated[float, Field(gt=0, le=1)] | None = None
    compare_reports: Annotated[bool, AddedLater(False)] = False
    sync: Literal["lockstep", "async"] = "lockstep"
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    timer_s: Annotated[float, Field(gt=0)] = 60.0
    faults: Faults = Faults()  # noqa: RUF009 - frozen

    @abstractmethod
    def set_up(self, settings: "Settings", stack: ExitStack) -> "Setup":
        """Set a run up; ``stack`` closes what it opens.

        Raises:
            UserError: Something that the settings ask for is not available here.
        """

    def pairs_of(self, num_agents: int) -> int:
        """Return K_p for ``num_agents`` agents."""
        most = num_agents // 2
        return most if self.num_pairs is None else min(self.num_pairs, most)

    def most_liars(self, num_agents: int) -> int | None:
        """Return how many agents may forge reports; None where reports are not compared."""
        return (num_agents - 1) // 2 if self.compare_reports else None

    def scheduler(self, seed: int, num_agents: int) -> EventScheduler:
        """Return the event scheduler of a run."""
        sync = Sync(mode=self.sync, quorum=self.quorum, timer_s=self.timer_s)
        return EventScheduler(faults=self.faults, sync=sync, seed=seed, num_agents=num_agents)


@dataclass(frozen=True, kw_only=True)
class Components:
    """One component a config group; None where the federation has no use for it (``lacks``)."""

    matchmaker: Matchmaker
    federation: Federation
    roster: Roster | None
    data: Dataset | None
    topics: Annotated[Topics, AddedLater({NAME: "categories"})]
    partition: Partition | None
    profile: Profile
    context: Context
    matching: Selection
    reward: Reward
    exchange: ExchangeProtocol | None
    guardrail: Guardrail | None
    privacy: Privacy
    training: Training | None
    evaluation: Evaluation | None
    regret: Regret
    engine: Engine
    logger: Logger


@dataclass(frozen=True, kw_only=True)
class Settings(Components):
    """One run's components, and the values they do not own.

    Attributes:
        seed: Root of every random draw.
        name: First folder under ``outputs/``.
        matchmaker_name: The chosen option of the ``matchmaker`` group, e.g. ``linucb``.
        choices: The chosen option of every config group.
        config: What determines the results, as plain values: the recipe, and of each component its
            name (``_name_``) and its parameters. ``config.yaml`` holds it, equal byte for byte when
            the same config runs again.
        session: The rest of the resolved config (name, rerun, dry_run, trusted_modules, engine,
            logger), which may differ between equal runs and belongs into ``environment.json``;
            digests stand for secrets here as in ``config``.
        dry_run: Build everything and train nothing.
        command: What the user typed, with digests in place of secrets.
        beside_others: Other runs print to the same terminal: say little.
    """

    seed: int
    name: str
    matchmaker_name: str
    choices: dict[str, str]
    config: dict[str, Any]
    session: dict[str, Any]
    dry_run: bool
    command: str = ""
    beside_others: bool = False

    @cached_property
    def config_hash(self) -> str:
        """SHA-256 (hex) of what identifies the run; 8 digits of it name the directory.

        The digest of the data (``Dataset.fingerprint``) replaces ``data.path``, so that moving the
        files does not change it and editing them does.

        Raises:
            UserError: The data files are missing.
        """
        identity = dict(self.config)
        fingerprint = None if self.data is None else self.data.fingerprint()
        if fingerprint is not None:
            node = {key: value for key, value in identity["data"].items() if key != "path"}
            identity["data"] = node | {"fingerprint": fingerprint}
        document = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()

    @property
    def run_path(self) -> Path:
        """outputs/<name>/<matchmaker>-s<seed>-<hash8> under the current folder."""
        folder = f"{self.matchmaker_name}-s{self.seed}-{self.config_hash[:8]}"
        return Path("outputs") / self.name / folder


@dataclass(frozen=True, kw_only=True)
class LLMSettings(Settings):
    """The settings of a federation that uses every config group."""

    roster: Roster
    data: Dataset
    partition: Partition
    exchange: ExchangeProtocol
    guardrail: Guardrail
    training: Training
    evaluation: Evaluation
