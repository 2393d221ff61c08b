"""Linear scores theta^T x + beta sqrt(x^T A^-1 x) of ordered pairs, without N^2 contexts in memory.

Contexts whose terms factor into a teacher's and a student's part are scored by matrix products, all
others a block of rows at a time. Axes: N agents, K ordered pairs, T teachers, S students, n rows of
a block, F profile features, d context features, g columns of factors; matrices are
``[teacher, student]``.
"""

from collections.abc import Callable

import numpy as np

from knexa.matchmaking.arrays import Array, Indices
from knexa.matchmaking.contexts import Concat, Context, Interaction
from knexa.matchmaking.large.interaction_scorer import InteractionScorer
from knexa.matchmaking.large.pair_scores import PairScores, Scorer, Span
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.ridge import norms

_BLOCK = 1 << 22
"""Numbers that a block of contexts holds at most: 32 MB."""


def linear_pair_scores(
    context: Context,
    profiles_NF: Array,
    ledger: Ledger,
    theta_d: Array,
    inverse_dd: Array | None = None,
    beta: float = 0.0,
) -> PairScores:
    """Return theta^T x + beta sqrt(x^T A^-1 x) of all ordered pairs, to be computed on demand.

    Args:
        context: Says what x is.
        profiles_NF: Profiles.
        ledger: The CPM's record of past exchanges.
        theta_d: The estimate.
        inverse_dd: A^-1; None leaves out the second term.
        beta: Weight of the second term, at least 0.
    """
    # beta sqrt(y) = sqrt(beta^2 y), and needs no pass of its own.
    metric_dd = None if inverse_dd is None or beta == 0.0 else beta**2 * inverse_dd

    def of(teachers_K: Indices, students_K: Indices) -> Array:
        rows_Kd = context.rows(profiles_NF, ledger, teachers_K, students_K)
        scores_K = np.asarray(rows_Kd @ theta_d)
        return scores_K if inverse_dd is None else scores_K + beta * norms(rows_Kd, inverse_dd)

    factored = _FACTORED.get(type(context))
    if factored is not None:
        fill = factored(context, profiles_NF, theta_d, metric_dd)
    else:
        fill = _by_rows(of, len(profiles_NF), len(theta_d))
    return PairScores(num_agents=len(profiles_NF), fill=fill, of=of)


def _by_rows(of: Callable[[Indices, Indices], Array], num_agents: int, num_features: int) -> Scorer:
    """Return a scorer that makes a context for every pair of a block."""
    agents_N = np.arange(num_agents)

    def fill(teachers: Span, students: Span, out_TS: Array) -> None:
        teachers_T, students_S = agents_N[teachers], agents_N[students]
        size = max(1, _BLOCK // max(1, len(students_S) * num_features))
        for begin in range(0, len(teachers_T), size):
            teachers_b = teachers_T[begin : begin + size]
            scores_n = of(
                np.repeat(teachers_b, len(students_S)), np.tile(students_S, len(teachers_b))
            )
            out_TS[begin : begin + size] = scores_n.reshape(-1, len(students_S))

    return fill


def _concat_scorer(
    context: Context, profiles_NF: Array, theta_d: Array, metric_dd: Array | None
) -> Scorer:
    """Return the scorer of ``Concat``: one matrix product a block.

    With the metric M = [[P, Q], [Q^T, R]], x^T M x = s^T P s + t^T R t + 2 t^T Q^T s; the two
    squares are appended to the factors of the last term.
    """
    num_features = profiles_NF.shape[1]
    student_N, teacher_N = (profiles_NF @ half for half in np.split(theta_d, 2))
    widens = metric_dd is not None
    if metric_dd is None:
        metric_dd = np.zeros((2 * num_features, 2 * num_features))
    p_FF, q_FF = metric_dd[:num_features, :num_features], metric_dd[:num_features, num_features:]
    r_FF = metric_dd[num_features:, num_features:]
    ones_N = np.ones(len(profiles_NF))
    squares_N = np.einsum("nf,nf->n", profiles_NF @ p_FF, profiles_NF)
    students_gN = np.vstack([profiles_NF.T, ones_N, squares_N])
    squares_N = np.einsum("nf,nf->n", profiles_NF @ r_FF, profiles_NF)
    teachers_Ng = np.column_stack([2.0 * profiles_NF @ q_FF.T, squares_N, ones_N])

    def fill(teachers: Span, students: Span, out_TS: Array) -> None:
        out_TS[:] = 0.0
        if widens:
            np.matmul(teachers_Ng[teachers], students_gN[:, students], out=out_TS)
            # Rounding can push the square of a well-explored direction just below zero.
            np.maximum(out_TS, 0.0, out=out_TS)
            np.sqrt(out_TS, out=out_TS)
        out_TS += student_N[students]
        out_TS += teacher_N[teachers][:, None]

    return fill


def _interaction_scorer(
    context: Context, profiles_NF: Array, theta_d: Array, metric_dd: Array | None
) -> Scorer:
    """Return the scorer of ``Interaction``, with what factors as matrix products."""
    assert isinstance(context, Interaction)
    context.num_features(profiles_NF.shape[1])
    return InteractionScorer(profiles_NF, context.num_histogram, theta_d, metric_dd)


_FACTORED: dict[type[Context], Callable[[Context, Array, Array, Array | None], Scorer]] = {
    Concat: _concat_scorer,
    Interaction: _interaction_scorer,
}
"""The scorers of contexts that factor, given context, profiles_NF, theta_d and beta^2 A^-1.

By the exact class: a class derived from one of these may define other features."""
