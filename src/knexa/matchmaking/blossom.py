"""Maximum-weight matchings of a weighted graph, exactly.

rustworkx runs Edmonds' blossom algorithm on integers. Its time grows with the number of edges, so
``best_perfect_matching`` first excludes edges that cannot be in a best matching. Axes: N agents, V
nodes (agents and dummies), E edges.
"""

import numpy as np
from numpy.typing import NDArray

from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.weights import Weights

_Edges = NDArray[np.int64]

_FIRST_DEGREE = 4
"""Edges of each node in the first sparse graph."""

_ROUNDING = 2.0**-44
"""Bound of rounding errors, relative to the largest weight (2^-53 for each operation)."""


def best_matching(weights_NN: Weights, usable_NN: Mask, num_pairs: int) -> list[tuple[int, int]]:
    """Return a best matching of ``num_pairs`` usable edges, or of as many as there can be.

    N - 2 K dummy nodes, joined to every agent at weight 0, fix the size: a perfect matching of the
    larger graph has exactly K pairs of agents.
    """
    num_agents = len(weights_NN)
    edges_E2 = np.argwhere(np.triu(usable_NN, 1))
    feasible = len(_blossom(num_agents, edges_E2, np.ones(len(edges_E2), dtype=np.int64)))
    nodes_VV, usable_VV = _with_dummies(weights_NN, usable_NN, min(num_pairs, feasible))
    edges_E2 = np.argwhere(np.triu(usable_VV, 1))
    matched = _blossom(len(nodes_VV), edges_E2, nodes_VV[tuple(edges_E2.T)])
    return [edge for edge in matched if max(edge) < num_agents]


def best_perfect_matching(weights_NN: Weights, num_pairs: int) -> list[tuple[int, int]]:
    """Return the best matching of exactly ``num_pairs`` edges of the complete graph.

    Given potentials y with y_i + y_j >= w_ij, a perfect matching weighs sum y minus the slacks
    y_i + y_j - w_ij of its edges. So an edge whose slack exceeds sum y - w(M), for a known matching
    M, is in no better one. The blossom algorithm is run on few edges, and again with those that
    this bound cannot exclude, until none is missing. The potentials are the dual solution of the
    assignment problem on the same weights (a relaxation), which SciPy solves quickly.
    """
    num_agents = len(weights_NN)
    weights_VV, usable_VV = _with_dummies(weights_NN, ~np.eye(num_agents, dtype=bool), num_pairs)
    if not len(weights_VV):
        return []
    values_VV = np.where(usable_VV, weights_VV, -np.inf)
    potentials_V = _potentials(values_VV)
    slacks_VV = potentials_V[:, None] + potentials_V - values_VV
    largest = float(np.abs(weights_VV).max())
    # A slack that rounding has made negative loosens the bound by as much for every edge.
    margin = len(slacks_VV) * (_ROUNDING * largest + max(0.0, -float(slacks_VV.min())))
    degree, kept_VV = _FIRST_DEGREE, np.zeros_like(usable_VV)
    while True:
        degree = min(degree, len(slacks_VV) - 1)
        cut_V1 = np.partition(slacks_VV, degree - 1, axis=1)[:, [degree - 1]]
        kept_VV |= slacks_VV <= np.maximum(cut_V1, cut_V1.T)
        kept_VV &= usable_VV
        edges_E2 = np.argwhere(np.triu(kept_VV, 1))
        matched = _blossom(len(weights_VV), edges_E2, weights_VV[tuple(edges_E2.T)])
        if 2 * len(matched) == len(weights_VV):
            total = float(sum(int(weights_VV[edge]) for edge in matched))
            needed_VV = usable_VV & (slacks_VV <= potentials_V.sum() - total + margin)
            if not (needed_VV & ~kept_VV).any():
                return [edge for edge in matched if max(edge) < num_agents]
            kept_VV |= needed_VV
        degree *= 2


def _with_dummies(weights_NN: Weights, usable_NN: Mask, num_pairs: int) -> tuple[Weights, Mask]:
    """Return weights and usable edges with the N - 2 K dummies that fix the matching's size."""
    num_agents = len(weights_NN)
    num_nodes = 2 * (num_agents - num_pairs)
    weights_VV = np.zeros((num_nodes, num_nodes), dtype=np.int64)
    usable_VV = np.zeros((num_nodes, num_nodes), dtype=bool)
    usable_VV[:num_agents, num_agents:] = usable_VV[num_agents:, :num_agents] = True
    usable_VV[:num_agents, :num_agents] = usable_NN
    weights_VV[:num_agents, :num_agents] = np.where(usable_NN, weights_NN, 0)
    return weights_VV, usable_VV


def _potentials(values_VV: Array) -> Array:
    """Return y_V of least sum with y_i + y_j >= w_ij, up to rounding.

    The best assignment has duals u_i + v_j >= w_ij, with equality where it assigns: longest paths,
    found by the Bellman-Ford algorithm. w is symmetric, so y = (u + v) / 2.
    """
    from scipy.optimize import linear_sum_assignment

    _, assigned_V = linear_sum_assignment(values_VV, maximize=True)
    own_V = values_VV[np.arange(len(values_VV)), assigned_V]
    # gains_VV[i, k]: what k would gain over i's own pair in i's place.
    gains_VV = values_VV[:, assigned_V].T - own_V[:, None]
    u_V = np.zeros(len(values_VV))
    for _ in range(len(values_VV)):
        longer_V = np.maximum(u_V, (u_V[:, None] + gains_VV).max(axis=0))
        if np.array_equal(longer_V, u_V):
            break
        u_V = longer_V
    v_V = np.empty_like(u_V)
    v_V[assigned_V] = own_V - u_V
    return np.asarray((u_V + v_V) / 2.0)


def _blossom(num_nodes: int, edges_E2: _Edges, weights_E: Weights) -> list[tuple[int, int]]:
    """Return a maximum-weight matching among those of the largest size."""
    import rustworkx as rx

    graph = rx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(num_nodes))
    first, second = edges_E2.T.tolist()
    graph.extend_from_weighted_edge_list(list(zip(first, second, weights_E.tolist(), strict=True)))
    matched = rx.max_weight_matching(graph, max_cardinality=True, weight_fn=int)
    return [(min(edge), max(edge)) for edge in matched]
