import pytest

from knexa.data.partition import AgentData, Split
from knexa.data.problem import Problem
from knexa.data.skew import (
    category_histogram,
    measure_skew,
)


def problem(index: int, category: int) -> Problem:
    return Problem(
        task_id=f"p/{index}",
        prompt=f"def f{index}():\n",
        entry_point=f"f{index}",
        canonical_solution="    return 1\n",
        test_code="assert candidate() == 1\n",
        category=category,
        source="test",
    )


def test_histogram_is_normalised_and_zero_for_nobody() -> None:
    histogram = category_histogram([problem(0, 3), problem(1, 3), problem(2, 11)])
    assert histogram.shape == (12,)
    assert histogram[3] == pytest.approx(2 / 3)
    assert histogram.sum() == pytest.approx(1)
    assert category_histogram([]).tolist() == [0.0] * 12


def test_skew_reports_sizes_and_mean_over_pairs() -> None:
    first = AgentData(train=(problem(0, 0), problem(1, 0)), validation=(problem(2, 0),))
    second = AgentData(train=(problem(3, 5),), validation=(problem(4, 5),))
    skew = measure_skew(Split([first, second], num_draws=4))
    assert skew.train_sizes == (2, 1)
    assert skew.validation_sizes == (1, 1)
    assert skew.mean_js == 1.0
    assert skew.num_draws == 4
    assert skew.js_NN.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_one_agent_has_no_skew() -> None:
    assert measure_skew([AgentData(train=(problem(0, 0),), validation=())]).mean_js == 0.0
