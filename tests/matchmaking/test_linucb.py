import numpy as np
import pytest

from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.random import Random
from knexa.matchmaking.regret import arms_total
from tests.matchmaking.matchmaking_worlds import earned, random_profiles, view_of


def started(num_features: int, **settings) -> LinUCB:
    policy = LinUCB(**settings)
    policy.start(num_features)
    return policy


@pytest.mark.parametrize("regularization", [0.01, 0.5, 4.0])
def test_unpulled_arm_bonus_scales_with_inverse_sqrt_lambda(regularization):
    view = view_of(random_profiles(np.random.default_rng(0)), np.random.default_rng(0))
    contexts_NNd = view.contexts()
    policy = started(contexts_NNd.shape[2], regularization=regularization, exploration=2.0)
    expected_NN = 2.0 * np.linalg.norm(contexts_NNd, axis=2) / np.sqrt(regularization)
    np.testing.assert_allclose(policy.scores(view), expected_NN, rtol=1e-12)


def test_scores_of_all_pairs_equal_the_formula_pair_by_pair():
    rng = np.random.default_rng(1)
    view = view_of(random_profiles(rng), rng)
    contexts_NNd = view.contexts()
    policy = started(contexts_NNd.shape[2], exploration=0.7)
    policy.learn(contexts_NNd[0, 1:4], rng.normal(size=3))
    scores_NN = policy.scores(view)
    A_dd = 0.01 * np.eye(contexts_NNd.shape[2])
    A_dd += sum(np.outer(x, x) for x in contexts_NNd[0, 1:4])
    theta_d = np.linalg.solve(A_dd, policy.model.b_d)
    for teacher, student in [(0, 1), (1, 0), (5, 2), (3, 4)]:
        x_d = contexts_NNd[teacher, student]
        expected = theta_d @ x_d + 0.7 * np.sqrt(x_d @ np.linalg.solve(A_dd, x_d))
        assert scores_NN[teacher, student] == pytest.approx(expected, rel=1e-9)


def test_a_batch_of_feedback_equals_the_same_feedback_one_by_one():
    rng = np.random.default_rng(2)
    contexts_Kd, rewards_K = rng.normal(size=(5, 8)), rng.normal(size=5)
    batch, single = started(8), started(8)
    batch.learn(contexts_Kd, rewards_K)
    for row in range(5):
        single.learn(contexts_Kd[row : row + 1], rewards_K[row : row + 1])
    np.testing.assert_allclose(batch.model.theta_d, single.model.theta_d, rtol=1e-10)


def test_schedules_give_the_documented_widths():
    constant = started(6, exploration=0.5)
    decaying = started(6, exploration=0.5, schedule="sqrt_decay")
    assert [constant.beta(t) for t in (1, 4, 100)] == [0.5, 0.5, 0.5]
    assert [decaying.beta(t) for t in (1, 4, 100)] == [0.5, 0.25, 0.05]


@pytest.mark.parametrize("num_updates", [0, 7, 130])
def test_reloaded_state_continues_bit_for_bit(num_updates):
    rng = np.random.default_rng(4)
    contexts_Kd, rewards_K = rng.normal(size=(num_updates, 9)), rng.normal(size=num_updates)
    original = started(9)
    original.learn(contexts_Kd, rewards_K)
    restored = started(9)
    restored.load_state_dict(original.state_dict())
    # 100 more pass the next exact refresh, so its counter is part of what is compared.
    more_Kd, more_K = rng.normal(size=(100, 9)), rng.normal(size=100)
    original.learn(more_Kd, more_K)
    restored.learn(more_Kd, more_K)
    for name, value in original.state_dict().items():
        np.testing.assert_array_equal(value, restored.state_dict()[name])


def test_saved_state_does_not_change_with_the_policy():
    policy = started(3)
    state = policy.state_dict()
    policy.learn(np.ones((1, 3)), np.ones(1))
    np.testing.assert_array_equal(state["A"], 0.01 * np.eye(3))


def test_permuting_the_agents_permutes_the_plan():
    rng = np.random.default_rng(5)
    profiles_NF = random_profiles(rng, 7)
    policy = started(Interaction().num_features(32))
    training_NNd = Interaction().build(random_profiles(rng, 7))
    policy.learn(training_NNd.reshape(49, -1)[1:30], rng.normal(size=29))
    plan = policy.propose(view_of(profiles_NF, np.random.default_rng(6)))
    order = rng.permutation(7)
    permuted = policy.propose(view_of(profiles_NF[order], np.random.default_rng(7)))
    assert {(order[t], order[s]) for t, s in (d.pair for d in permuted)} == {d.pair for d in plan}


def test_with_concat_the_total_of_a_full_matching_depends_on_the_roles_only():
    rng = np.random.default_rng(8)
    profiles_NF = random_profiles(rng, 6)
    policy = started(64, exploration=0.0)
    policy.learn(rng.normal(size=(200, 64)), rng.normal(size=200))
    concat_NN = policy.scores(view_of(profiles_NF, rng, context=Concat()))
    teachers = (0, 1, 2)
    totals = [
        arms_total(concat_NN, list(zip(teachers, students, strict=True)))
        for students in [(3, 4, 5), (4, 5, 3), (5, 3, 4), (3, 5, 4)]
    ]
    np.testing.assert_allclose(totals, totals[0], rtol=1e-10)
    other_roles = arms_total(concat_NN, [(3, 0), (1, 4), (2, 5)])
    assert abs(other_roles - totals[0]) > 1e-3

    # The same model on interactions tells the four apart.
    policy = started(101, exploration=0.0)
    policy.learn(rng.normal(size=(200, 101)), rng.normal(size=200))
    interaction_NN = policy.scores(view_of(profiles_NF, rng))
    assert abs(
        arms_total(interaction_NN, [(0, 3), (1, 4), (2, 5)])
        - arms_total(interaction_NN, [(0, 4), (1, 5), (2, 3)])
    ) > 1e-3  # fmt: skip


def test_linucb_earns_more_than_random_in_a_linear_world():
    for seed in range(3):
        learned, best = earned(LinUCB(exploration=0.1), seed)
        by_chance, _ = earned(Random(), seed)
        assert best - learned < 0.5 * (best - by_chance)


def test_scoring_before_start_is_refused():
    with pytest.raises(RuntimeError, match="start"):
        LinUCB().scores(view_of(np.zeros((2, 32)), np.random.default_rng(0)))
