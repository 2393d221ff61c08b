import numpy as np
import pytest

from knexa.matchmaking.random import Random
from knexa.matchmaking.thompson import Thompson
from tests.matchmaking.matchmaking_worlds import earned, pairs_of, random_profiles, started, view_of


def trained(num_features: int = 4, **settings) -> Thompson:
    policy = started(Thompson(**settings), num_features)
    rng = np.random.default_rng(0)
    policy.learn(rng.normal(size=(6, num_features)), rng.normal(size=6))
    return policy


def test_a_sample_solves_the_cholesky_equation_of_its_draw():
    policy = trained(exploration=0.7, regularization=0.5)
    sample_d = policy.sample(np.random.default_rng(1))
    lower_dd = np.linalg.cholesky(policy.model.A_dd)
    draw_d = lower_dd.T @ (sample_d - policy.model.theta_d) / 0.7
    np.testing.assert_allclose(draw_d, np.random.default_rng(1).standard_normal(4), rtol=1e-9)


def test_samples_have_the_posterior_s_mean_and_covariance():
    policy = trained(exploration=2.0, regularization=0.5)
    rng = np.random.default_rng(2)
    samples_nd = np.array([policy.sample(rng) for _ in range(20_000)])
    covariance_dd = 4.0 * policy.model.inverse_dd
    deviations_d = np.sqrt(np.diag(covariance_dd))
    errors_d = (samples_nd.mean(axis=0) - policy.model.theta_d) / deviations_d
    assert np.abs(errors_d).max() < 4 / np.sqrt(20_000)
    found_dd = np.cov(samples_nd.T) / np.outer(deviations_d, deviations_d)
    expected_dd = covariance_dd / np.outer(deviations_d, deviations_d)
    np.testing.assert_allclose(found_dd, expected_dd, atol=0.04)


def test_without_exploration_it_is_greedy():
    rng = np.random.default_rng(3)
    view = view_of(random_profiles(rng), rng)
    policy = trained(101, exploration=0.0)
    expected_NN = view.estimates(policy.model.theta_d)
    np.testing.assert_allclose(policy.scores(view), expected_NN, rtol=1e-12, atol=1e-12)


def test_one_model_scores_all_pairs_of_a_round():
    rng = np.random.default_rng(4)
    profiles_NF = random_profiles(rng)
    profiles_NF[3] = profiles_NF[1]
    scores_NN = trained(101).scores(view_of(profiles_NF, rng))
    assert scores_NN[1, 5] == pytest.approx(scores_NN[3, 5], rel=1e-9)
    assert scores_NN[1, 5] != pytest.approx(scores_NN[2, 5], rel=1e-3)


def test_rounds_explore_differently_and_repeat_with_their_generator():
    profiles_NF = random_profiles(np.random.default_rng(5))
    policy = trained(101)
    plans = [
        pairs_of(policy.propose(view_of(profiles_NF, np.random.default_rng(seed))))
        for seed in (0, 0, 1, 2, 3)
    ]
    assert plans[0] == plans[1]
    assert len({tuple(plan) for plan in plans}) > 2


def test_thompson_earns_more_than_random_in_a_linear_world():
    for seed in range(3):
        learned, best = earned(Thompson(exploration=0.05), seed)
        by_chance, _ = earned(Random(), seed)
        assert best - learned < 0.5 * (best - by_chance)
