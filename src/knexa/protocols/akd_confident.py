"""``exchange=akd_confident``: AKD in which an answer weighs by its teacher's confidence. Ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from knexa.exchange.package import TextItem
from knexa.protocols.akd import AKD
from knexa.protocols.text import confidence_weights


@dataclass(frozen=True, kw_only=True)
class AKDConfident(AKD):
    """The confidence is the geometric mean of the probabilities of an answer's tokens.

    It is exp(mean log-probability); the weights of a package are scaled to a mean of 1.
    """

    name: ClassVar[str] = "akd_confident"

    def weights(self, items: Sequence[TextItem]) -> Sequence[float]:
        """Return how much each answer weighs beside the others of its package."""
        return confidence_weights(items)
