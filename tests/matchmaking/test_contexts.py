import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matchmaking_worlds import random_profiles, view_of
from scipy.spatial.distance import jensenshannon

from knexa.agents import profile_layout
from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.pair_scores import linear_scores
from knexa.matchmaking.ridge import RidgeRegression


def test_profile_layout_is_eight_static_twelve_dynamic_and_twelve_data_features():
    sizes = profile_layout.NUM_STATIC, profile_layout.NUM_DYNAMIC, profile_layout.NUM_DATA
    assert sizes == (8, 12, 12)
    assert len(set(profile_layout.FEATURE_NAMES)) == profile_layout.NUM_FEATURES == 32
    assert (profile_layout.PASS_AT_1, profile_layout.CODEBLEU, profile_layout.PERPLEXITY) == (
        8,
        9,
        10,
    )


def test_concat_puts_the_student_first_and_the_teacher_second():
    profiles_NF = random_profiles(np.random.default_rng(0))
    contexts_NNd = Concat().build(profiles_NF)
    assert contexts_NNd.shape == (6, 6, Concat().num_features(32)) == (6, 6, 64)
    np.testing.assert_array_equal(contexts_NNd[2, 5, :32], profiles_NF[5])
    np.testing.assert_array_equal(contexts_NNd[2, 5, 32:], profiles_NF[2])


def test_interaction_holds_its_features_in_the_documented_order():
    profiles_NF = random_profiles(np.random.default_rng(1))
    contexts_NNd = Interaction().build(profiles_NF)
    assert contexts_NNd.shape == (6, 6, Interaction().num_features(32)) == (6, 6, 101)
    teacher, student = profiles_NF[4], profiles_NF[1]
    x_d = contexts_NNd[4, 1]
    root = np.sqrt(32)
    assert x_d[0] == 1.0
    np.testing.assert_allclose(x_d[1:33], (teacher + student) / 2 / root)
    np.testing.assert_allclose(x_d[33:65], np.abs(teacher - student) / root)
    np.testing.assert_allclose(x_d[65:97], teacher * student / root)
    assert x_d[97] == pytest.approx(jensenshannon(teacher[20:], student[20:], base=2) ** 2)
    lead = max(0.0, teacher[8] - student[8])
    np.testing.assert_allclose(x_d[98:], [teacher[8], student[8], lead])


def test_interaction_tells_the_roles_only_by_what_each_solves():
    contexts_NNd = Interaction().build(random_profiles(np.random.default_rng(2)))
    swapped_NNd = contexts_NNd.transpose(1, 0, 2)
    np.testing.assert_allclose(contexts_NNd[..., :98], swapped_NNd[..., :98], atol=1e-15)
    np.testing.assert_array_equal(contexts_NNd[..., 98], swapped_NNd[..., 99])
    assert np.abs(contexts_NNd[..., 98:] - swapped_NNd[..., 98:]).max() > 0.1


@given(seed=st.integers(0, 2**32 - 1), num_agents=st.integers(1, 9))
def test_squared_norm_of_an_interaction_is_between_one_and_eight(seed, num_agents):
    profiles_NF = np.random.default_rng(seed).random((num_agents, 32))
    squares_NN = (Interaction().build(profiles_NF) ** 2).sum(axis=2)
    assert (squares_NN >= 1.0).all()
    assert (squares_NN <= 8.0).all()


@pytest.mark.parametrize("context", [Concat(), Interaction()])
def test_permuting_the_agents_permutes_the_contexts(context):
    rng = np.random.default_rng(3)
    profiles_NF = random_profiles(rng)
    order = rng.permutation(6)
    np.testing.assert_array_equal(
        context.build(profiles_NF[order]), context.build(profiles_NF)[np.ix_(order, order)]
    )


def test_interaction_refuses_profiles_too_short_for_it():
    with pytest.raises(ValueError, match="context=concat"):
        Interaction().num_features(10)


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
    for expected_n, scores in [
        (linear_scores(rows_nd, theta_d), view.pair_scores(theta_d)),
        (
            linear_scores(rows_nd, theta_d, inverse_dd, 1.7),
            view.pair_scores(theta_d, inverse_dd, 1.7),
        ),
        (
            linear_scores(rows_nd, theta_d, inverse_dd, 0.0),
            view.pair_scores(theta_d, inverse_dd, 0.0),
        ),
    ]:
        expected_NN = expected_n.reshape(num_agents, num_agents)
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
    widths_NN = view.widths(trained_model(context, rng, 0).inverse_dd)
    np.testing.assert_allclose(widths_NN, np.linalg.norm(view.contexts(), axis=2) * 10, rtol=1e-12)


@pytest.mark.parametrize("context", [Concat(), Interaction()])
def test_factored_scores_of_a_well_explored_model_are_finite(context):
    rng = np.random.default_rng(7)
    profiles_NF = random_profiles(rng, 12)
    view = view_of(profiles_NF, rng, context=context)
    rows_nd = view.contexts().reshape(144, -1)
    model = RidgeRegression(rows_nd.shape[1], 1e-6)
    model.update(np.repeat(rows_nd, 2000, axis=0), np.zeros(288_000))
    widths_NN = view.widths(model.inverse_dd)
    assert np.isfinite(widths_NN).all()
    assert (widths_NN < 0.05).all()


def test_concat_scores_hold_little_beside_the_result():
    rng = np.random.default_rng(8)
    model = trained_model(Concat(), rng)
    view = view_of(random_profiles(rng, 1024), rng, context=Concat())
    tracemalloc.start()
    scores_NN = view.pair_scores(model.theta_d, model.inverse_dd, 1.0).dense()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * scores_NN.nbytes
