"""``exchange=adapter``: a student's adapter moves towards its teacher's."""

from dataclasses import dataclass
from typing import ClassVar

from knexa.protocols.adapters import AdapterExchange
from knexa.protocols.distillation import Fraction


@dataclass(frozen=True, kw_only=True)
class Adapter(AdapterExchange):
    """The student's adapter becomes (1 - alpha) its own + alpha the teacher's.

    Attributes:
        alpha: The teacher's share.
    """

    name: ClassVar[str] = "adapter"

    alpha: Fraction = 0.5

    @property
    def share(self) -> float:
        """How far a student's adapter moves towards the received one, 0 to 1."""
        return self.alpha
