"""Scores in blocks and by factors are the plain formula's but for rounding."""

import tracemalloc

import numpy as np
import pytest

from knexa.matchmaking.c2ucb import C2UCB
from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.large.pair_scores import PairScores
from knexa.matchmaking.large.propose import plans_in_blocks, propose_linear
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact, Greedy
from knexa.matchmaking.ridge import RidgeRegression
from knexa.matchmaking.thompson import Thompson
from tests.matchmaking.matchmaking_worlds import random_profiles, started, view_of


class Doubled(Interaction):
    """A context derived from one that factors, with features of its own."""

    def rows(self, profiles_NF, ledger, teachers_K, students_K):
        return 2.0 * super().rows(profiles_NF, ledger, teachers_K, students_K)


def pair_scores(view, theta_d, inverse_dd, beta) -> PairScores:
    known = (view.context, view.profiles_NF, view.ledger)
    return linear_pair_scores(*known, theta_d, inverse_dd, beta)


def widths(view, model):
    return pair_scores(view, np.zeros_like(model.b_d), model.inverse_dd, 1.0).dense()


def trained_model(context, rng, num_observations: int = 300) -> RidgeRegression:
    """A regression that has seen pairs of profiles like the ones it will score."""
    num_features = context.num_features(32)
    model = RidgeRegression(num_features, 0.01)
    if num_observations:
        rows_nd = context.build(random_profiles(rng, 20)).reshape(-1, num_features)
        seen_Kd = rows_nd[rng.choice(len(rows_nd), num_observations)]
        model.update(seen_Kd, rng.normal(size=num_observations))
    return model


@pytest.mark.parametrize("context", [Concat(), Interaction()])
@pytest.mark.parametrize("num_observations", [0, 5, 300])
@pytest.mark.parametrize("num_agents", [1, 6, 50])
def test_factored_scores_equal_those_of_the_rows(context, num_observations, num_agents):
    rng = np.random.default_rng(5)
    model = trained_model(context, rng, num_observations)
    theta_d, inverse_dd = model.theta_d, model.inverse_dd
    view = view_of(random_profiles(rng, num_agents), rng, context=context)
    rows_NNd = view.contexts()
    rows_nd = rows_NNd.reshape(-1, rows_NNd.shape[2])
    for beta in (0.0, 1.7):
        expected_n = rows_nd @ theta_d + beta * model.widths(rows_nd)
        expected_NN = expected_n.reshape(num_agents, num_agents)
        scores = pair_scores(view, theta_d, inverse_dd, beta)
        np.testing.assert_allclose(scores.dense(), expected_NN, rtol=1e-9, atol=1e-9)
        teachers_T, students_S = rng.permutation(num_agents)[:7], rng.permutation(num_agents)[:4]
        block_TS = scores.block(teachers_T, students_S)
        np.testing.assert_allclose(
            block_TS, expected_NN[np.ix_(teachers_T, students_S)], rtol=1e-9, atol=1e-9
        )
        np.testing.assert_allclose(
            scores.of(teachers_T[:1], students_S[:1]), block_TS[0, :1], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("context", [Concat(), Interaction()])
def test_factored_width_of_the_first_round_is_the_norm_over_root_lambda(context):
    rng = np.random.default_rng(6)
    view = view_of(random_profiles(rng, 9), rng, context=context)
    widths_NN = widths(view, trained_model(context, rng, 0))
    np.testing.assert_allclose(widths_NN, np.linalg.norm(view.contexts(), axis=2) * 10, rtol=1e-12)


@pytest.mark.parametrize("context", [Concat(), Interaction()])
def test_factored_scores_of_a_well_explored_model_are_finite(context):
    rng = np.random.default_rng(7)
    profiles_NF = random_profiles(rng, 12)
    view = view_of(profiles_NF, rng, context=context)
    rows_nd = view.contexts().reshape(144, -1)
    model = RidgeRegression(rows_nd.shape[1], 1e-6)
    model.update(np.repeat(rows_nd, 2000, axis=0), np.zeros(288_000))
    widths_NN = widths(view, model)
    assert np.isfinite(widths_NN).all()
    assert (widths_NN < 0.05).all()


def test_concat_scores_hold_little_beside_the_result():
    rng = np.random.default_rng(8)
    model = trained_model(Concat(), rng)
    view = view_of(random_profiles(rng, 1024), rng, context=Concat())
    tracemalloc.start()
    scores_NN = pair_scores(view, model.theta_d, model.inverse_dd, 1.0).dense()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * scores_NN.nbytes


def test_a_derived_context_is_scored_by_its_own_rows():
    rng = np.random.default_rng(9)
    model = trained_model(Doubled(), rng, 0)
    views = [view_of(random_profiles(rng, 9), rng, context=c) for c in (Doubled(), Interaction())]
    views[1] = view_of(views[0].profiles_NF, rng, context=Interaction())
    doubled_NN, single_NN = (widths(view, model) for view in views)
    np.testing.assert_allclose(doubled_NN, 2.0 * single_NN, rtol=1e-9)


@pytest.mark.parametrize("matching", [Exact(), Greedy()])
@pytest.mark.parametrize("context", [Concat(), Interaction(), Doubled()])
@pytest.mark.parametrize("policy", [LinUCB(exploration=0.3), C2UCB(), Thompson()])
@pytest.mark.parametrize("option", [{}, {"abstain": True}, {"mutual": True}])
def test_plans_in_blocks_are_the_plain_ones(policy, context, matching, option):
    """The definition of a linear policy's plan is ``view.match(policy.scores(view))``."""
    started(policy, context.num_features(32))
    rng = np.random.default_rng(10)
    profiles_NF = random_profiles(rng, 12)
    rows_nd = context.build(profiles_NF).reshape(144, -1)
    policy.learn(rows_nd[rng.choice(144, 40)], rng.normal(size=40) - 1.0)
    mutual, abstain = option.get("mutual", False), option.get("abstain", False)
    plain, blocks = (
        view_of(
            profiles_NF,
            np.random.default_rng(11),
            context=context,
            matching=matching,
            mutual=mutual,
        )
        for _ in range(2)
    )
    expected = plain.match(policy.scores(plain), abstain=abstain)
    theta_d, beta = policy.scoring(blocks)
    plan = propose_linear(blocks, theta_d, policy.model.inverse_dd, beta, abstain=abstain)
    assert [d.pair for d in plan] == [d.pair for d in expected]
    assert [d.score for d in plan] == pytest.approx([d.score for d in expected], rel=1e-9)


def test_a_small_federation_with_rows_of_its_own_is_planned_plainly():
    rng = np.random.default_rng(12)
    small, large = (
        view_of(np.zeros((num_agents, 32)), rng, context=Doubled()) for num_agents in (512, 513)
    )
    assert not plans_in_blocks(small)
    assert plans_in_blocks(large)
