"""What a student does with a teacher's text: the exchange protocols.

Adaptive Knowledge Distillation (AKD, Eq. 2 of the paper) mixes the student's private loss with the
cross-entropy on text that the teacher decoded on the public transfer set and the student re-encodes
with its own tokenizer, so that any architectures and tokenizers can pair.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0)]


def linear(start: float, end: float, round_number: int, num_rounds: int) -> float:
    """Return the value of a linear schedule in a 1-based round; ``start`` in round 1."""
    if num_rounds <= 1:
        return start
    return start + (end - start) * (round_number - 1) / (num_rounds - 1)


@dataclass(frozen=True, kw_only=True)
class AKD:
    """AKD as in the paper: the student learns from all the text that it received this round.

    Attributes:
        alpha_start: Weight of the teacher term in Eq. 2 in the first round.
        alpha_end: The same in the last round; linear between.
        temperature_start: The teacher's sampling temperature in the first round (0 is greedy).
        temperature_end: The same in the last round.
        num_steps: Optimizer steps of one exchange, whatever the package holds, so that every
            teacher (and the no-teacher arm of the probes) is given the same training.
        num_problems: Transfer problems that a teacher answers in a round, drawn anew each round;
            None means all.
    """

    name: ClassVar[str] = "akd"
    verified: ClassVar[bool] = False
    rehearses: ClassVar[bool] = False

    alpha_start: Fraction = 0.2
    alpha_end: Fraction = 0.5
    temperature_start: Temperature = 1.5
    temperature_end: Temperature = 2.5
    num_steps: Annotated[int, Field(ge=1)] = 4
    num_problems: Annotated[int, Field(ge=1)] | None = None

    def alpha(self, round_number: int, num_rounds: int) -> float:
        """Return the weight of the teacher term in that round."""
        return linear(self.alpha_start, self.alpha_end, round_number, num_rounds)

    def temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the teacher's sampling temperature in that round."""
        return linear(self.temperature_start, self.temperature_end, round_number, num_rounds)


@dataclass(frozen=True, kw_only=True)
class AKDVerified(AKD):
    """AKD on answers that work: a completion is kept if it passes the problem's public tests.

    Kept text goes into a replay store that the student rehearses in later exchanges and local
    updates, so that what one teacher taught is not forgotten while another teaches. Ours, not the
    paper's.

    Attributes:
        replay_size: Completions that an agent keeps at most; the oldest go first.
    """

    name: ClassVar[str] = "akd_verified"
    verified: ClassVar[bool] = True
    rehearses: ClassVar[bool] = True

    replay_size: Annotated[int, Field(ge=1)] = 512
