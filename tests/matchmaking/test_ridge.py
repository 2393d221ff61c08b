import numpy as np
import pytest

from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.cpm import MAX_FEATURE
from knexa.matchmaking.ridge import REFRESH_EVERY, RidgeRegression
from tests.matchmaking.matchmaking_worlds import random_profiles

LAMBDA = 0.01


def observed_contexts(context, num_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Context rows of real-looking profiles: collinear, all positive, badly conditioned."""
    off_diagonal = ~np.eye(6, dtype=bool)
    rows = [context.build(random_profiles(rng))[off_diagonal] for _ in range(num_rows // 30 + 1)]
    return np.concatenate(rows)[:num_rows]


@pytest.mark.parametrize("kind", ["interaction", "concat", "gaussian"])
def test_ten_thousand_rank_one_updates_equal_the_batch_ridge_solution(kind):
    rng = np.random.default_rng(0)
    # Off a refresh by 16, so that rank-one updates are what is compared.
    num_rows = 10_000
    assert num_rows % REFRESH_EVERY
    if kind == "gaussian":
        contexts_Kd = rng.normal(size=(num_rows, 64))
    else:
        contexts_Kd = observed_contexts(
            Interaction() if kind == "interaction" else Concat(), num_rows, rng
        )
    rewards_K = rng.normal(size=num_rows)
    num_features = contexts_Kd.shape[1]
    model = RidgeRegression(num_features, LAMBDA)
    for start in range(0, num_rows, 3):
        model.update(contexts_Kd[start : start + 3], rewards_K[start : start + 3])

    batch_dd = LAMBDA * np.eye(num_features) + contexts_Kd.T @ contexts_Kd
    inverse_dd = np.linalg.inv(batch_dd)
    theta_d = np.linalg.solve(batch_dd, contexts_Kd.T @ rewards_K)
    error = np.linalg.norm(model.inverse_dd - inverse_dd) / np.linalg.norm(inverse_dd)
    assert error < 1e-10
    assert np.linalg.norm(model.theta_d - theta_d) / np.linalg.norm(theta_d) < 1e-8


def test_width_of_a_direction_never_tried_is_inverse_to_the_root_of_lambda():
    rng = np.random.default_rng(1)
    contexts_nd = rng.normal(size=(5, 7))
    for regularization in (1e-3, 0.01, 1.0, 50.0):
        widths_n = RidgeRegression(7, regularization).widths(contexts_nd)
        expected_n = np.linalg.norm(contexts_nd, axis=1) / np.sqrt(regularization)
        np.testing.assert_allclose(widths_n, expected_n, rtol=1e-12)


def test_width_stays_the_untried_one_in_directions_orthogonal_to_what_was_tried():
    model = RidgeRegression(3, LAMBDA)
    model.update(np.tile([1.0, 0.0, 0.0], (100, 1)), np.ones(100))
    widths_n = model.widths(np.eye(3))
    np.testing.assert_allclose(widths_n[0], 1 / np.sqrt(LAMBDA + 100), rtol=1e-12)
    np.testing.assert_allclose(widths_n[1:], 1 / np.sqrt(LAMBDA), rtol=1e-12)


def test_smallest_allowed_lambda_does_not_trip_the_drift_check():
    rng = np.random.default_rng(2)
    contexts_Kd = observed_contexts(Interaction(), 2_000, rng)
    model = RidgeRegression(contexts_Kd.shape[1], 1e-6)
    for x_d in contexts_Kd:
        model.update(x_d[None], rng.normal(size=1))
    assert (model.widths(contexts_Kd) > 0).all()


def test_drift_of_the_inverse_is_mended_at_the_refresh_and_told_once(caplog):
    model = RidgeRegression(8, LAMBDA)
    for _ in range(2):
        model.inverse_dd[0, 1] += 1.0
        for index in range(REFRESH_EVERY):
            model.update(np.eye(8)[[index % 8]], np.zeros(1))
        np.testing.assert_allclose(model.inverse_dd, np.linalg.inv(model.A_dd), rtol=1e-12)
    assert caplog.text.count("drifted") == 1


def test_settings_that_the_config_allows_never_end_a_run():
    rng, context = np.random.default_rng(1), Interaction()
    model = RidgeRegression(context.num_features(32), 1e-6)
    for _ in range(10 * REFRESH_EVERY):
        profiles_NF = rng.uniform(-MAX_FEATURE, MAX_FEATURE, (6, 32))
        model.update(context.build(profiles_NF)[0, 1][None], np.zeros(1))
    np.testing.assert_array_equal(model.inverse_dd, model._exact_inverse())


def test_log_determinant_ratio_matches_its_definition():
    rng = np.random.default_rng(3)
    contexts_Kd = rng.normal(size=(10, 4))
    model = RidgeRegression(4, LAMBDA)
    assert model.log_det_ratio(LAMBDA) == pytest.approx(0.0, abs=1e-12)
    model.update(contexts_Kd, np.zeros(10))
    ratio = np.linalg.det(LAMBDA * np.eye(4) + contexts_Kd.T @ contexts_Kd) / LAMBDA**4
    assert model.log_det_ratio(LAMBDA) == pytest.approx(np.log(ratio), rel=1e-10)


@pytest.mark.parametrize(
    ("contexts_Kd", "rewards_K"),
    [
        (np.ones((2, 3)), np.ones(1)),
        (np.ones((1, 2)), np.ones(1)),
        (np.ones((2, 3)), np.array([1.0, np.nan])),
        (np.full((1, 3), np.inf), np.ones(1)),
    ],
)
def test_observations_that_do_not_fit_are_refused_and_leave_the_model_alone(contexts_Kd, rewards_K):
    model = RidgeRegression(3, LAMBDA)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"fit|finite"):
        model.update(contexts_Kd, rewards_K)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_state_of_another_context_is_refused():
    with pytest.raises(ValueError, match="resume with the context"):
        RidgeRegression(3, LAMBDA).load_state_dict(RidgeRegression(4, LAMBDA).state_dict())


def test_many_observations_at_once_equal_one_after_another():
    rng = np.random.default_rng(4)
    contexts_Kd, rewards_K = observed_contexts(Concat(), 90, rng), rng.normal(size=90)
    at_once, one_by_one = RidgeRegression(64, LAMBDA), RidgeRegression(64, LAMBDA)
    at_once.update(contexts_Kd[:10], rewards_K[:10])  # few enough for rank-one updates
    at_once.update(contexts_Kd[10:], rewards_K[10:])
    for x_d, reward in zip(contexts_Kd, rewards_K, strict=True):
        one_by_one.update(x_d[None], np.array([reward]))
    np.testing.assert_allclose(at_once.inverse_dd, one_by_one.inverse_dd, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(at_once.theta_d, one_by_one.theta_d, rtol=1e-8, atol=1e-8)
    # The next refresh is due as many updates later as after any other.
    assert at_once.state_dict()["since_refresh"] == 0
