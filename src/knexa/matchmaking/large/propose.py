"""A linear policy's plan of a large federation.

Axes: N agents, K pairs, T teachers, S students, d context features; matrices are ``[teacher,
student]``.
"""

from dataclasses import replace

import numpy as np

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.large import LARGE
from knexa.matchmaking.large.pair_scores import PairScores, Scorer, Span
from knexa.matchmaking.large.prefilter import LazyMatching
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.ridge import norms
from knexa.matchmaking.round_view import RoundView, matchable


def plans_in_blocks(view: RoundView) -> bool:
    """Return whether ``propose_linear`` makes this round's plan of a linear policy."""
    if view.context.by_topic:
        return view.ranks_teachers and view.topic_factors is not None
    return view.num_agents > LARGE or view.matching.is_lazy


def propose_linear(
    view: RoundView, theta_d: Array, inverse_dd: Array, beta: float, *, abstain: bool
) -> Plan:
    """Return the plan by theta^T x + beta sqrt(x^T A^-1 x), as ``LinearMatchmaker.propose`` does.

    With a lazy matching only the scores that it needs are computed, and of arms with topics those
    of teachers: a score is what the student lacks times it.
    """
    if view.matching.by_topic:
        assert view.topic_factors is not None
        offers_NTd, missing_NT = view.topic_factors.offers_NTd, view.topic_factors.missing_NT
        offers_nd = offers_NTd.reshape(-1, len(theta_d))
        worths_n = offers_nd @ theta_d + beta * norms(offers_nd, inverse_dd)
        worths_NT = worths_n.reshape(missing_NT.shape)
        return view.match_ranked(worths_NT, missing_NT, abstain=abstain)
    scores = linear_pair_scores(
        view.context, view.profiles_NF, view.ledger, theta_d, inverse_dd, beta
    )
    if not isinstance(view.matching, LazyMatching):
        return view.match(scores.dense(), abstain=abstain)
    weights = PairScores(
        num_agents=view.num_agents, fill=_weigher(view, scores, abstain), of=scores.of
    )
    plan = view.plan(view.matching.match_lazily(weights, view.num_pairs, view.rng))
    teachers_K, students_K = np.array([d.pair for d in plan], dtype=np.int64).reshape(-1, 2).T
    values_K = scores.of(teachers_K, students_K).tolist()
    return tuple(
        replace(directive, score=value) for directive, value in zip(plan, values_K, strict=True)
    )


def _weigher(view: RoundView, scores: PairScores, abstain: bool) -> Scorer:
    """Return the scorer of the weights that pairs are matched by (see ``RoundView.match``)."""

    def fill(teachers: Span, students: Span, out_TS: Array) -> None:
        scores.fill(teachers, students, out_TS)
        if view.mutual:
            swapped_ST = np.empty(out_TS.shape[::-1])
            scores.fill(students, teachers, swapped_ST)
            out_TS += swapped_ST.T
        mask_NN = view.admissible_NN
        mask_TS = None if mask_NN is None else mask_NN[teachers][:, students]
        out_TS[:] = matchable(out_TS, mask_TS, abstain=abstain)

    return fill
