import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knexa.matchmaking.rewards import LocalLoss, TransferPass

rewards = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


def test_reward_is_the_fall_of_the_loss_less_the_price_of_the_package():
    reward = LocalLoss(gamma=2.0, delta=0.01)
    assert reward.reward(before=1.5, after=1.2, kilobytes=10.0) == pytest.approx(0.5)
    assert reward.reward(before=1.0, after=1.5, kilobytes=0.0) == pytest.approx(-1.0)


@pytest.mark.parametrize("kind", [LocalLoss, TransferPass])
def test_rewards_of_many_exchanges_at_once_are_those_of_each(kind):
    reward = kind(gamma=2.0, delta=0.01)
    many = {"before": [1.5, 0.2], "after": [1.2, 0.7], "kilobytes": [10.0, 0.0]}
    at_once_K = reward.reward(**{name: np.array(values) for name, values in many.items()})
    each = [dict(zip(many, values, strict=True)) for values in zip(*many.values(), strict=True)]
    assert at_once_K.tolist() == [reward.reward(**one) for one in each]


@given(values=rewards)
def test_zscore_is_that_of_all_rewards_so_far_the_new_one_included(values):
    normalizer = LocalLoss().normalizer()
    for count, value in enumerate(values, start=1):
        (normalized,) = normalizer.normalize(np.array([value]))
        seen = np.array(values[:count])
        expected = (value - seen.mean()) / (seen.std() + 1e-6)
        # A deviation near 1e-6 magnifies the rounding of the mean; the tolerance follows it.
        tolerance = 1e-6 + 1e-12 * np.abs(seen).max() / (seen.std() + 1e-6)
        assert normalized == pytest.approx(expected, abs=tolerance, rel=1e-6)
        assert abs(normalized) <= np.sqrt(max(count - 1, 0)) + tolerance


def test_first_reward_is_zero_whatever_its_size():
    assert LocalLoss().normalizer().normalize(np.array([123.0])).tolist() == [0.0]


def test_order_within_a_batch_does_not_matter():
    values = np.array([0.3, -1.0, 0.7, 0.1])
    forward = LocalLoss().normalizer().normalize(values)
    backward = LocalLoss().normalizer().normalize(values[::-1])
    np.testing.assert_allclose(forward, backward[::-1], rtol=1e-12)
    assert forward.mean() == pytest.approx(0.0, abs=1e-12)


def test_a_large_common_offset_does_not_cancel_the_deviation():
    normalizer = LocalLoss().normalizer()
    normalizer.normalize(1e8 + np.array([-1.0, 1.0] * 50))
    assert normalizer.deviation == pytest.approx(1.0, rel=1e-6)


def test_without_normalization_rewards_pass_unchanged():
    normalizer = LocalLoss(normalization="none").normalizer()
    assert normalizer.normalize(np.array([3.0, -2.0])).tolist() == [3.0, -2.0]


def test_reloaded_statistics_continue_bit_for_bit():
    rng = np.random.default_rng(0)
    original = LocalLoss().normalizer()
    original.normalize(rng.normal(size=17))
    restored = LocalLoss().normalizer()
    restored.load_state_dict(original.state_dict())
    more = rng.normal(size=5)
    np.testing.assert_array_equal(original.normalize(more), restored.normalize(more))
