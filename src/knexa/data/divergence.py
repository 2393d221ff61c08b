"""Jensen-Shannon divergence of data histograms, for all pairs or single ones.

Axes: N agents, H histogram bins; bins come first where pairs are broadcast against each other.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BLOCK = 1 << 20
"""Largest number of entries of a block of mixtures: 8 MB."""

_TINY = np.finfo(np.float64).tiny


def jensen_shannon(histograms_NH: Array) -> Array:
    """Return the Jensen-Shannon divergence of every pair of rows, in bits, hence in [0, 1].

    JS(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2. Rows are normalised first, negative entries
    count as 0; two rows without mass are at 0, one such row and any other at 1/2. Computed in
    blocks, so that no array exceeds the result's size.
    """
    shares_HN = normalised_bins(histograms_NH)
    entropies_N = entropy_bits(shares_HN)
    num_agents = len(histograms_NH)
    divergence_NN = np.empty((num_agents, num_agents))
    size = max(1, _BLOCK // max(1, shares_HN.size))
    for begin in range(0, num_agents, size):
        block = slice(begin, begin + size)
        divergence_NN[block] = divergence(
            shares_HN[:, block, None], shares_HN[:, None, :], entropies_N[block, None], entropies_N
        )
    np.fill_diagonal(divergence_NN, 0.0)
    return divergence_NN


def normalised_bins(histograms_NH: Array) -> Array:
    """Return shares_HN, each histogram's positive part divided by its sum; 0 where that is 0."""
    mass_NH = np.maximum(histograms_NH, 0.0)
    totals_N1 = mass_NH.sum(axis=1, keepdims=True)
    return np.ascontiguousarray((mass_NH / np.where(totals_N1 > 0.0, totals_N1, 1.0)).T)


def divergence(p: Array, q: Array, entropy_p: Array, entropy_q: Array) -> Array:
    """Return JS(p, q) in bits over the first axis, which holds the bins; the rest broadcasts."""
    mixtures = p + q
    mixtures /= 2.0
    divergences = entropy_bits(mixtures)
    divergences -= (entropy_p + entropy_q) / 2.0
    return np.clip(divergences, 0.0, 1.0, out=divergences)


def entropy_bits(shares: Array) -> Array:
    """Return -sum p log2 p over the first axis, with 0 log 0 = 0."""
    logs = np.maximum(shares, _TINY)
    np.log2(logs, out=logs)
    return np.asarray(-np.einsum("h...,h...->...", shares, logs))
