import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knexa.data.partition import AgentData, Split
from knexa.data.problem import Problem
from knexa.data.skew import (
    category_histogram,
    jensen_shannon,
    measure_skew,
    pairwise_jensen_shannon,
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


def test_divergence_is_one_bit_for_disjoint_and_zero_for_equal_distributions() -> None:
    assert jensen_shannon([1, 0], [0, 1]) == 1.0
    assert jensen_shannon([0.3, 0.7], [0.3, 0.7]) == 0.0


def test_divergence_of_a_hand_computed_pair() -> None:
    # m = (3/4, 1/4); H(m) - (H(1/2, 1/2) + H(1, 0)) / 2
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert jensen_shannon([0.5, 0.5], [1, 0]) == pytest.approx(entropy - 0.5, abs=1e-12)


@given(
    st.lists(
        st.lists(st.floats(0, 1), min_size=12, max_size=12).filter(lambda row: sum(row) > 0.01),
        min_size=1,
        max_size=6,
    )
)
def test_pairwise_matrix_is_symmetric_bounded_and_equals_the_single_form(
    rows: list[list[float]],
) -> None:
    histograms = np.array([np.array(row) / sum(row) for row in rows])
    js_NN = pairwise_jensen_shannon(histograms)
    assert np.array_equal(js_NN, js_NN.T)
    assert np.all((js_NN >= 0) & (js_NN <= 1))
    assert np.all(np.diag(js_NN) == 0)
    if len(rows) > 1:
        assert js_NN[0, 1] == jensen_shannon(histograms[0], histograms[1])


def test_histogram_is_normalised_and_zero_for_nobody() -> None:
    histogram = category_histogram([problem(0, 3), problem(1, 3), problem(2, 11)])
    assert histogram.shape == (12,)
    assert histogram[3] == pytest.approx(2 / 3)
    assert histogram.sum() == pytest.approx(1)
    assert category_histogram([]).tolist() == [0.0] * 12


def test_skew_reports_sizes_and_mean_over_pairs_and_is_json() -> None:
    first = AgentData(train=(problem(0, 0), problem(1, 0)), validation=(problem(2, 0),))
    second = AgentData(train=(problem(3, 5),), validation=(problem(4, 5),))
    skew = measure_skew(Split([first, second], num_draws=4))
    assert skew.train_sizes == (2, 1)
    assert skew.validation_sizes == (1, 1)
    assert skew.mean_js == 1.0
    written = json.loads(json.dumps(skew.to_dict()))
    assert written["num_draws"] == 4
    assert written["jensen_shannon"] == [[0.0, 1.0], [1.0, 0.0]]


def test_one_agent_has_no_skew() -> None:
    assert measure_skew([AgentData(train=(problem(0, 0),), validation=())]).mean_js == 0.0
