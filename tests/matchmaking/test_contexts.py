import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from knexa.matchmaking.contexts import Concat, Interaction
from knexa.profiles import layout
from tests.matchmaking.matchmaking_worlds import random_profiles


def test_profile_layout_is_eight_static_twelve_dynamic_and_twelve_data_features():
    sizes = layout.NUM_STATIC, layout.NUM_DYNAMIC, layout.NUM_DATA
    assert sizes == (8, 12, 12)
    assert len(set(layout.FEATURE_NAMES)) == layout.NUM_FEATURES == 32
    assert (layout.PASS_AT_1, layout.CODEBLEU, layout.PERPLEXITY) == (
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
