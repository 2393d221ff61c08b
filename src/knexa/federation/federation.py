"""What every federation's settings hold, whatever its agents are made of."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Federation:
    """How many rounds there are and who may meet in one.

    Attributes:
        num_rounds: Rounds of local update, matchmaking, exchange and feedback.
        num_pairs: K_p, pairs of a round at most; None means half the agents.
        mutual: Both agents of a pair teach each other, in two directives.
    """

    num_rounds: Annotated[int, Field(ge=1)]
    num_pairs: Annotated[int, Field(ge=0)] | None = None
    mutual: bool = False

    def pairs_of(self, num_agents: int) -> int:
        """Return K_p for that many agents."""
        most = num_agents // 2
        return most if self.num_pairs is None else min(self.num_pairs, most)
