"""What students were asked for and got: counts of answers to public transfer problems, by topic.

A topic is a category of transfer problems. The counts are public facts: everybody knows the
problems, and whether an answer passes their tests.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from knexa.matchmaking.arrays import Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferTopics:
    """The topics of a transfer set, T of them; none where there is no transfer set.

    Attributes:
        categories: The categories that have transfer problems, ascending.
        sizes: How many problems each of them has.
    """

    categories: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()

    @classmethod
    def of(cls, categories: Iterable[int]) -> "TransferTopics":
        """Return the topics of problems of these categories."""
        counted = sorted(Counter(categories).items())
        return cls(
            categories=tuple(category for category, _ in counted),
            sizes=tuple(size for _, size in counted),
        )

    @property
    def categories_T(self) -> Indices:  # noqa: N802 - an axis legend
        """The categories as an array."""
        return np.array(self.categories, dtype=np.int64)

    @property
    def sizes_T(self) -> Indices:  # noqa: N802 - an axis legend
        """The sizes as an array."""
        return np.array(self.sizes, dtype=np.int64)

    def size(self, category: int) -> int:
        """Return how many transfer problems a category has."""
        return dict(zip(self.categories, self.sizes, strict=True)).get(category, 0)


NO_TOPICS = TransferTopics()
"""Of a federation without a transfer set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicAnswers:
    """What one directive brought on one topic.

    Attributes:
        category: The topic.
        asked: Problems that the teacher was asked.
        right: Problems of them to which a verified answer arrived.
        new: Problems of these to which the student had none before the round, and to which no
            earlier directive of the plan brought it one.
    """

    category: int
    asked: int
    right: int
    new: int
