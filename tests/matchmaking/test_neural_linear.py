import numpy as np
import pytest
import torch

from knexa.matchmaking.neural_linear import BATCH_SIZE, NeuralLinear
from knexa.matchmaking.ridge import RidgeRegression
from tests.matchmaking.matchmaking_worlds import random_profiles, started, view_of


def trained(num_observations: int = 20, num_features: int = 5, **settings) -> NeuralLinear:
    policy = started(NeuralLinear(seed=0, **settings), num_features)
    rng = np.random.default_rng(0)
    policy.learn(rng.random((num_observations, num_features)), rng.normal(size=num_observations))
    return policy


def assert_same(left: NeuralLinear, right: NeuralLinear) -> None:
    ours, theirs = left.state_dict(), right.state_dict()
    assert ours["num_fits"] == theirs["num_fits"]
    for name in ("contexts", "rewards", "center", "scale"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    for mine, other in zip(ours["weights"], theirs["weights"], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_features_are_a_constant_and_bounded_units():
    features_nh = trained().network.features(np.random.default_rng(1).normal(size=(50, 5)) * 100)
    assert features_nh.shape == (50, 9)
    assert (features_nh[:, 0] == 1.0).all()
    assert ((features_nh**2).sum(axis=1) <= 2.0 + 1e-12).all()


def test_scores_are_linucb_s_on_the_last_hidden_layer():
    rng = np.random.default_rng(2)
    view = view_of(random_profiles(rng), rng)
    policy = trained(num_features=101, exploration=0.7, regularization=0.3)
    features_nh = policy.network.features(policy.state_dict()["contexts"])
    A_hh = 0.3 * np.eye(9) + features_nh.T @ features_nh
    theta_h = np.linalg.solve(A_hh, features_nh.T @ policy.state_dict()["rewards"])
    scores_NN = policy.scores(view)
    for pair in [(0, 1), (1, 0), (5, 2)]:
        phi_h = policy.network.features(view.contexts()[pair][None])[0]
        expected = theta_h @ phi_h + 0.7 * np.sqrt(phi_h @ np.linalg.solve(A_hh, phi_h))
        assert scores_NN[pair] == pytest.approx(expected, rel=1e-6)


def test_it_fits_what_no_linear_model_of_the_context_can():
    rng = np.random.default_rng(3)
    contexts_nd = rng.random((400, 4))
    rewards_n = np.sign((contexts_nd[:, 0] - 0.5) * (contexts_nd[:, 1] - 0.5))
    policy = started(NeuralLinear(seed=0), 4)
    for begin in range(0, 400, 40):
        policy.learn(contexts_nd[begin : begin + 40], rewards_n[begin : begin + 40])
    fresh_nd = rng.random((500, 4))
    fresh_n = np.sign((fresh_nd[:, 0] - 0.5) * (fresh_nd[:, 1] - 0.5))
    linear = RidgeRegression(5, 0.01)
    linear.update(np.hstack([contexts_nd, np.ones((400, 1))]), rewards_n)
    by_line_n = np.hstack([fresh_nd, np.ones((500, 1))]) @ linear.theta_d
    network = RidgeRegression(9, 0.01)
    network.update(policy.network.features(contexts_nd), rewards_n)
    by_network_n = policy.network.features(fresh_nd) @ network.theta_d
    assert np.mean((by_line_n - fresh_n) ** 2) > 0.9
    assert np.mean((by_network_n - fresh_n) ** 2) < 0.5


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_network_does_not_depend_on_the_rewards_unit(scale):
    rng = np.random.default_rng(4)
    contexts_nd, rewards_n = rng.random((30, 5)), rng.normal(size=30)
    plain, scaled = (started(NeuralLinear(seed=0), 5) for _ in range(2))
    plain.learn(contexts_nd, rewards_n)
    scaled.learn(contexts_nd, rewards_n * scale + 7.0)
    for ours, theirs in zip(plain.network.weights, scaled.network.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_equal_rewards_and_constant_features_are_no_trouble():
    policy = started(NeuralLinear(seed=0), 5)
    policy.learn(np.ones((3, 5)), np.zeros(3))
    assert np.isfinite(policy.network.features(np.ones((1, 5)))).all()


def test_only_the_newest_observations_are_kept():
    policy = trained(max_observations=12)
    policy.learn(np.full((2, 5), 0.5), np.array([8.0, 9.0]))
    state = policy.state_dict()
    assert state["contexts"].shape == (12, 5)
    np.testing.assert_array_equal(state["rewards"][-2:], [8.0, 9.0])


def test_the_same_seed_gives_the_same_network_and_another_another():
    large = 3 * BATCH_SIZE
    assert_same(trained(large), trained(large))
    other = started(NeuralLinear(seed=1), 5)
    assert not np.array_equal(
        other.network.weights[0], started(NeuralLinear(seed=0), 5).network.weights[0]
    )


def test_training_touches_neither_the_global_generator_nor_the_number_of_threads():
    before, num_threads = torch.get_rng_state(), torch.get_num_threads()
    trained(3 * BATCH_SIZE)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == num_threads


@pytest.mark.parametrize(
    ("contexts_Kd", "rewards_K"),
    [
        (np.full((1, 5), np.nan), np.zeros(1)),
        (np.ones((1, 5)), np.array([np.inf])),
        (np.ones((1, 4)), np.zeros(1)),
        (np.ones((2, 5)), np.zeros(1)),
    ],
)
def test_feedback_that_cannot_be_taken_changes_nothing(contexts_Kd, rewards_K):
    policy = trained()
    with pytest.raises(ValueError, match=r"finite|dimension|fit"):
        policy.learn(contexts_Kd, rewards_K)
    assert_same(policy, trained())


def test_a_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"matchmaker\.hidden"):
        started(NeuralLinear(seed=0, hidden=(4,)), 5).load_state_dict(trained().state_dict())


def test_scoring_before_start_is_refused():
    with pytest.raises(RuntimeError, match="start"):
        NeuralLinear(seed=0).scores(view_of(np.zeros((2, 32)), np.random.default_rng(0)))
