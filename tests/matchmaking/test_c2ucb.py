import numpy as np
import pytest

from knexa.matchmaking.c2ucb import C2UCB
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.random import Random
from tests.matchmaking.matchmaking_worlds import earned, random_profiles, started, view_of


def test_the_radius_is_oful_s():
    policy = started(
        C2UCB(regularization=0.04, noise=0.3, failure_probability=0.01, model_norm=2.5), 5
    )
    contexts_Kd = np.random.default_rng(0).normal(size=(20, 5))
    policy.learn(contexts_Kd, np.zeros(20))
    A_dd = 0.04 * np.eye(5) + contexts_Kd.T @ contexts_Kd
    log_det = np.log(np.linalg.det(A_dd) / 0.04**5)
    expected = 0.3 * np.sqrt(2 * np.log(100) + log_det) + 0.2 * 2.5
    assert policy.beta() == pytest.approx(expected, rel=1e-10)


def test_the_radius_begins_at_its_prior_and_grows_with_the_evidence():
    policy = started(C2UCB(noise=0.5), 6)
    radii = [policy.beta()]
    assert radii[0] == pytest.approx(0.5 * np.sqrt(2 * np.log(20)) + 0.1, rel=1e-12)
    for x_d in np.random.default_rng(1).normal(size=(20, 6)):
        policy.learn(x_d[None], np.zeros(1))
        radii.append(policy.beta())
    assert (np.diff(radii) > 0).all()


def test_scores_are_linucb_s_with_its_own_radius():
    rng = np.random.default_rng(2)
    view = view_of(random_profiles(rng), rng, round=7)
    policy = started(C2UCB(), 101)
    policy.learn(view.contexts()[0, 1:4], rng.normal(size=3))
    twin = started(LinUCB(exploration=policy.beta()), 101)
    twin.load_state_dict(policy.state_dict())
    np.testing.assert_array_equal(policy.scores(view), twin.scores(view))


def test_without_noise_and_norm_it_is_greedy():
    rng = np.random.default_rng(3)
    view = view_of(random_profiles(rng), rng)
    policy = started(C2UCB(noise=0.0, model_norm=0.0), 101)
    policy.learn(view.contexts()[0, 1:4], rng.normal(size=3))
    expected_NN = view.estimates(policy.model.theta_d)
    np.testing.assert_allclose(policy.scores(view), expected_NN, rtol=1e-12, atol=1e-12)


def test_c2ucb_earns_more_than_random_in_a_linear_world():
    for seed in range(3):
        learned, best = earned(C2UCB(noise=0.05), seed)
        by_chance, _ = earned(Random(), seed)
        assert best - learned < 0.5 * (best - by_chance)
