"""What every federation's settings hold, whatever its agents are made of."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync

if TYPE_CHECKING:
    from knexa.federation.settings import Settings
    from knexa.federation.setup import Stage


@dataclass(frozen=True, kw_only=True)
class Federation(ABC):
    """Base of every component of the config group ``federation``: the rounds, who may meet in one.

    Class attributes:
        lacks: Config groups that it has no use for.

    Attributes:
        num_rounds: Rounds of local update, matchmaking, exchange and feedback.
        num_pairs: K_p, pairs of a round at most; None means half the agents.
        mutual: Both agents of a pair teach each other, in two directives.
        trust_gate: The CPM lets an agent teach no more once its trust is surely below this share of
            the median agent's; None: everybody may. Ours, against agents that lie.
        sync: When a round ends. ``lockstep``: when everything that was begun in it has ended.
            ``async``: when enough feedback has come in or a timer has run out; agents still busy
            are not matched, and their feedback is used when it comes, with the context that the
            choice was made on. The last round waits for everything.
        quorum: Enough for ``async``, as a share of the directives under way.
        timer_s: The timer of ``async``, in seconds of virtual time.
        faults: What goes wrong, and what virtual time is computed from.
    """

    lacks: ClassVar[frozenset[str]] = frozenset()

    num_rounds: Annotated[int, Field(ge=1)]
    num_pairs: Annotated[int, Field(ge=0)] | None = None
    mutual: bool = False
    trust_gate: Annotated[float, Field(gt=0, le=1)] | None = None
    sync: Literal["lockstep", "async"] = "lockstep"
    quorum: Annotated[float, Field(gt=0, le=1)] = 0.5
    timer_s: Annotated[float, Field(gt=0)] = 60.0
    faults: Faults = Faults()  # noqa: RUF009 - frozen

    @abstractmethod
    def stage(self, settings: "Settings", stack: ExitStack) -> "Stage":
        """Set a run up; ``stack`` closes what it opens.

        Raises:
            UserError: Something that the settings ask for is not to be had here.
        """

    def pairs_of(self, num_agents: int) -> int:
        """Return K_p for that many agents."""
        most = num_agents // 2
        return most if self.num_pairs is None else min(self.num_pairs, most)

    def scheduler(self, seed: int, num_agents: int) -> EventScheduler:
        """Return the event scheduler of a run."""
        sync = Sync(mode=self.sync, quorum=self.quorum, timer_s=self.timer_s)
        return EventScheduler(faults=self.faults, sync=sync, seed=seed, num_agents=num_agents)
