"""``exchange=akd_confident``: AKD with answers weighted by the teacher's confidence. Ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from knexa.exchange.package import TextItem
from knexa.protocols.akd import AKD
from knexa.protocols.text import confidence_weights


@dataclass(frozen=True, kw_only=True)
class AKDConfident(AKD):
    """AKD with answers weighted by confidence, scaled to a mean of 1 over a package.

    The confidence is the geometric mean of the probabilities of an answer's tokens.
    """

    name: ClassVar[str] = "akd_confident"

    def weights(self, items: Sequence[TextItem]) -> Sequence[float]:
        """Return the answers' confidences, scaled to a mean of 1."""
        return confidence_weights(items)
