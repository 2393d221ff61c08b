"""Measures how the agents' private data differ: sizes and category histograms.

Axes: N agents, 12 categories (``knexa.data.problem.CATEGORIES``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from knexa.data.divergence import jensen_shannon
from knexa.data.partition import AgentData, Split
from knexa.data.problem import CATEGORIES, Problem

Array = NDArray[np.float64]


def category_histogram(problems: Iterable[Problem]) -> Array:
    """Return the share of each of the 12 categories; all zero where there are no problems."""
    counts = np.bincount([problem.category for problem in problems], minlength=len(CATEGORIES))
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float64)


def own_weights(categories: Sequence[int], shares: Sequence[float]) -> Array:
    """Return weights_P that make P test problems resemble an agent's own data (Eq. 1).

    Each category of the problems weighs as much as its share of the agent's data, its problems
    alike. The weights sum to 1, or are all 0 where no category of the agent's is tested.

    Args:
        categories: Of each test problem.
        shares: Of each category in the agent's training problems.
    """
    categories_P = np.asarray(categories, dtype=np.int64)
    counts_C = np.bincount(categories_P, minlength=len(shares))
    weights_P = np.asarray(shares, dtype=np.float64)[categories_P] / counts_C[categories_P]
    total = weights_P.sum()
    return np.asarray(weights_P / total if total else weights_P)


@dataclass(frozen=True, kw_only=True)
class Skew:
    """The skew of a partition, over each agent's train and validation problems.

    Attributes:
        train_sizes: Training problems per agent.
        validation_sizes: Validation problems per agent.
        histograms_N12: Share of each category in an agent's problems.
        js_NN: Jensen-Shannon divergence (bits) of every pair of agents.
        mean_js: Mean over the pairs of different agents; 0 for one agent.
        num_draws: How many draws the partition took until every agent had enough.
    """

    train_sizes: tuple[int, ...]
    validation_sizes: tuple[int, ...]
    histograms_N12: Array
    js_NN: Array
    mean_js: float
    num_draws: int


def measure_skew(splits: Sequence[AgentData]) -> Skew:
    """Measure a partition; ``num_draws`` is known only where ``splits`` is a ``Split`` (else 1)."""
    histograms_N12 = np.stack(
        [category_histogram(agent.train + agent.validation) for agent in splits]
    )
    js_NN = jensen_shannon(histograms_N12)
    num_agents = len(splits)
    return Skew(
        train_sizes=tuple(len(agent.train) for agent in splits),
        validation_sizes=tuple(len(agent.validation) for agent in splits),
        histograms_N12=histograms_N12,
        js_NN=js_NN,
        mean_js=float(js_NN.sum() / max(1, num_agents * (num_agents - 1))),
        num_draws=splits.num_draws if isinstance(splits, Split) else 1,
    )
