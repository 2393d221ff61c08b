"""The world that theory is about: what the learned matchmakers must achieve there."""

import numpy as np
import pytest

from knexa.matchmaking.c2ucb import C2UCB
from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.random import Random
from tests.federation.synthetic.formula_runs import cumulative_regret, linear_world, log_slope

# Eight agents, noise 0.1 and the policies' settings were chosen on seeds 0 to 4.
REPORTED_SEEDS = range(100, 120)
NUM_ROUNDS, FIRST_ROUND = 200, 20


def mean_regret(make_policy, context=None, seeds=REPORTED_SEEDS):
    curves = [
        cumulative_regret(linear_world(seed, noise=0.1), make_policy(), NUM_ROUNDS, context)
        for seed in seeds
    ]
    return np.mean(curves, axis=0)


def test_true_rewards_are_exactly_linear_in_the_interaction_context():
    world = linear_world(1)
    world.begin_round(3)
    contexts_NNd = Interaction().build(world.profiles())
    off_diagonal = ~np.eye(world.num_agents, dtype=bool)
    np.testing.assert_allclose(
        world.probe(3).rewards[off_diagonal], (contexts_NNd @ world.theta_d)[off_diagonal]
    )
    assert world.probe(3).rewards[0, 1] != world.probe(3).rewards[1, 0]


def test_contexts_move_from_round_to_round_and_the_model_does_not():
    world = linear_world(2)
    theta_d = world.theta_d.copy()
    world.begin_round(1)
    first = world.profiles()
    world.begin_round(2)
    assert np.abs(first - world.profiles()).max() > 0.1
    np.testing.assert_array_equal(theta_d, world.theta_d)


@pytest.mark.slow
def test_linucb_and_c2ucb_have_sublinear_regret_where_random_has_not():
    linucb = mean_regret(lambda: LinUCB(exploration=0.1, regularization=0.1))
    c2ucb = mean_regret(lambda: C2UCB(noise=0.1, regularization=0.1))
    random = mean_regret(Random)
    assert log_slope(linucb, FIRST_ROUND) < 0.7
    assert log_slope(c2ucb, FIRST_ROUND) < 0.7
    assert log_slope(random, FIRST_ROUND) > 0.95
    assert linucb[-1] < c2ucb[-1] < random[-1] / 5


@pytest.mark.slow
def test_where_rewards_depend_on_the_fit_interactions_have_less_regret_than_concat():
    def policy():
        return LinUCB(exploration=0.1, regularization=0.1)

    seeds = REPORTED_SEEDS[:5]
    interaction = mean_regret(policy, seeds=seeds)
    concat = mean_regret(policy, Concat(), seeds=seeds)
    assert interaction[-1] < concat[-1] / 2
    assert log_slope(concat, FIRST_ROUND) > 0.8  # it never finds out who fits whom
