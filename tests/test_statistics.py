import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.statistics import (
    Interval,
    bootstrap_mean,
    holm,
    interquartile_mean,
    minimum_detectable_difference,
    paired_difference,
    paired_p_value,
    probability_of_improvement,
    student_curve,
    student_mean,
)


def test_interval_depends_only_on_the_generator() -> None:
    values = np.arange(30.0)
    first = bootstrap_mean(values, rng=np.random.default_rng(3))
    assert first == bootstrap_mean(values, rng=np.random.default_rng(3))
    assert first != bootstrap_mean(values, rng=np.random.default_rng(4))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20))
def test_interval_holds_the_mean_and_stays_within_the_values(values: list[float]) -> None:
    interval = bootstrap_mean(values, num_resamples=500, rng=np.random.default_rng(0))
    assert interval.mean == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(300):
        interval = bootstrap_mean(rng.normal(2.0, 1.0, 60), num_resamples=400, rng=rng)
        covered += interval.low <= 2.0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_lower_confidence_gives_a_narrower_interval() -> None:
    values = np.random.default_rng(0).random(50)
    wide = bootstrap_mean(values, confidence=0.99, rng=np.random.default_rng(0))
    narrow = bootstrap_mean(values, confidence=0.5, rng=np.random.default_rng(0))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_many_units_are_resampled_in_bounded_memory() -> None:
    values = np.random.default_rng(0).random(3_000_000)
    interval = bootstrap_mean(values, num_resamples=4, rng=np.random.default_rng(0))
    assert interval.low == pytest.approx(0.5, abs=0.01)


def test_pairing_removes_what_units_have_in_common() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 10, 80)
    a, b = difficulty + 1 + rng.normal(0, 0.1, 80), difficulty
    interval = paired_difference(a, b)
    assert interval.mean == pytest.approx(1.0, abs=0.05)
    assert interval.high - interval.low < 0.2


def test_undefined_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    for values in ([], [[1.0]], [float("nan")]):
        with pytest.raises(ValueError, match="bootstrap_mean needs"):
            bootstrap_mean(values, rng=rng)
    with pytest.raises(ValueError, match="finite"):
        student_mean([1.0, float("nan")])
    with pytest.raises(ValueError, match="at least one"):
        student_mean([])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_mean([1.0], confidence=1.0, rng=rng)
    with pytest.raises(ValueError, match="must match"):
        paired_difference([1.0], [1.0, 2.0])


def test_interval_is_stored_by_name() -> None:
    assert Interval(0.5, 0.25, 0.75).as_dict() == {"mean": 0.5, "low": 0.25, "high": 0.75}


@pytest.mark.parametrize("num_units", [3, 5, 10])
def test_a_few_units_are_covered_as_often_as_it_says(num_units: int) -> None:
    samples = np.random.default_rng(num_units).normal(2.0, 1.0, size=(2000, num_units))
    intervals = [student_mean(values) for values in samples]
    covered = np.mean([interval.low <= 2.0 <= interval.high for interval in intervals])
    assert 0.935 <= covered <= 0.965


def test_many_units_agree_with_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=400)
    resampled = bootstrap_mean(values, rng=np.random.default_rng(2))
    interval = student_mean(values)
    assert interval.low == pytest.approx(resampled.low, abs=0.01)
    assert interval.high == pytest.approx(resampled.high, abs=0.01)


def test_curve_bands_are_the_intervals_of_their_points_and_a_line_for_one_unit() -> None:
    curves = np.random.default_rng(0).normal(size=(8, 5)).cumsum(axis=1)
    mean, low, high = student_curve(curves)
    for point in range(5):
        interval = student_mean(curves[:, point])
        expected = (interval.mean, interval.low, interval.high)
        assert (mean[point], low[point], high[point]) == pytest.approx(expected)
    mean, low, high = student_curve(curves[:1])
    assert (low == mean).all()
    assert (high == mean).all()


def test_detectable_difference_is_found_with_its_power_and_no_more() -> None:
    # 10 units, spread 1: (2.262 + 0.883) / sqrt(10); a simulated t test must find it in about 80 %.
    rng = np.random.default_rng(0)
    spread = np.array([1.0, -1.0] * 5) * np.sqrt(9 / 10)
    smallest = minimum_detectable_difference(spread)
    assert smallest == pytest.approx((2.2622 + 0.8834) / np.sqrt(10), abs=1e-3)
    samples = rng.normal(smallest, 1.0, size=(4000, 10))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * np.sqrt(10)
    assert 0.77 < float((np.abs(t) > 2.2622).mean()) < 0.84


def test_detectable_difference_needs_a_spread() -> None:
    with pytest.raises(ValueError, match="at least two"):
        minimum_detectable_difference([1.0])


def test_paired_p_value_is_that_of_the_t_test() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 7))
    assert paired_p_value(a, b) == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue)
    assert paired_p_value([1, 2, 3], [0, 1, 2]) == 0
    assert paired_p_value([1, 2], [1, 2]) == 1
    with pytest.raises(ValueError, match="two pairs"):
        paired_p_value([1.0], [2.0])


def test_holm_multiplies_step_by_step_and_keeps_the_order() -> None:
    # By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 may not fall below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([1.5])


def test_holm_errs_in_a_twentieth_of_families_where_nothing_differs() -> None:
    p_values = np.random.default_rng(0).uniform(size=(4000, 7))
    assert 0.04 < np.mean([holm(row).min() < 0.05 for row in p_values]) < 0.06


def test_interquartile_mean_is_of_the_middle_half_of_all_tasks() -> None:
    rng = np.random.default_rng(0)
    found = interquartile_mean([[0, 1, 2, 3], [4, 5, 6, 1000]], rng=rng)
    assert found.mean == 3.5  # of 2, 3, 4 and 5
    assert found.low < 3.5 < found.high
    scores = rng.normal(size=(3, 7))
    expected = scipy.stats.trim_mean(scores, 0.25, axis=None)
    assert interquartile_mean(list(scores), rng=rng).mean == pytest.approx(expected)


def test_interquartile_mean_resamples_within_tasks() -> None:
    # Drawn over both tasks together, zeros and ones would be of varying number.
    found = interquartile_mean([[0.0] * 4, [1.0] * 4], rng=np.random.default_rng(0))
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_probability_of_improvement_counts_pairs_and_averages_tasks() -> None:
    rng = np.random.default_rng(0)
    # 3 beats 2 and 1, 1 loses to 2 and ties with 1; in the other task all pairs win.
    found = probability_of_improvement([[3, 1], [9, 8]], [[2, 1], [1, 2, 3]], rng=rng)
    assert found.mean == pytest.approx((2.5 / 4 + 1) / 2)
    same = probability_of_improvement([[1, 2, 3]], [[1, 2, 3]], rng=rng)
    assert same.mean == pytest.approx(0.5)
    assert same.low < 0.5 < same.high


def test_intervals_of_improvement_hold_the_true_probability() -> None:
    rng = np.random.default_rng(0)
    true = scipy.stats.norm.cdf(0.5 / np.sqrt(2))
    covered = 0
    for _ in range(400):
        a, b = rng.normal(0.5, 1, size=(2, 15)), rng.normal(0, 1, size=(2, 15))
        found = probability_of_improvement(list(a), list(b), num_resamples=400, rng=rng)
        covered += found.low <= true <= found.high
    assert 0.91 < covered / 400 < 0.98


def test_tasks_without_scores_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least one"):
        interquartile_mean([[1.0], []], rng=rng)
    with pytest.raises(ValueError, match="argument 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]], rng=rng)
