import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from knexa.data.divergence import jensen_shannon


def test_divergence_of_a_hand_computed_pair():
    # m = (3/4, 1/4); H(m) - (H(1/2, 1/2) + H(1, 0)) / 2
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    divergence_NN = jensen_shannon(np.array([[0.5, 0.5], [1.0, 0.0]]))
    assert divergence_NN[0, 1] == pytest.approx(entropy - 0.5, abs=1e-12)


@given(
    st.lists(
        st.lists(st.floats(0, 1), min_size=12, max_size=12).filter(lambda row: sum(row) > 0.01),
        min_size=1,
        max_size=6,
    )
)
def test_divergence_is_symmetric_bounded_and_zero_on_the_diagonal(rows):
    divergence_NN = jensen_shannon(np.array(rows))
    assert np.array_equal(divergence_NN, divergence_NN.T)
    assert np.all((divergence_NN >= 0) & (divergence_NN <= 1))
    assert np.all(np.diag(divergence_NN) == 0)


@given(seed=st.integers(0, 2**32 - 1))
def test_jensen_shannon_agrees_with_scipy(seed):
    histograms_NH = np.random.default_rng(seed).dirichlet(np.full(12, 0.3), 4)
    expected_NN = [[jensenshannon(p, q, base=2) ** 2 for q in histograms_NH] for p in histograms_NH]
    expected_NN = np.nan_to_num(expected_NN)  # SciPy's own rounding makes NaN of equal rows
    np.testing.assert_allclose(jensen_shannon(histograms_NH), expected_NN, atol=1e-9)


def test_jensen_shannon_of_disjoint_rows_is_one_and_ignores_their_mass():
    divergence_NN = jensen_shannon(np.array([[2.0, 0.0, 0.0], [0.0, 5.0, 5.0], [9.0, 0.0, 0.0]]))
    np.testing.assert_allclose(divergence_NN, [[0, 1, 0], [1, 0, 1], [0, 1, 0]], atol=1e-15)


def test_jensen_shannon_of_empty_rows_is_finite():
    divergence_NN = jensen_shannon(np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(divergence_NN, [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0]])


def test_jensen_shannon_by_blocks_holds_little_beside_the_result():
    histograms_NH = np.random.default_rng(4).dirichlet(np.full(12, 0.3), 1024)
    tracemalloc.start()
    divergence_NN = jensen_shannon(histograms_NH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All mixtures at once would be 12 times the result, twice.
    assert peak < 5 * divergence_NN.nbytes
    few = [0, 500, 1023]
    np.testing.assert_allclose(
        divergence_NN[np.ix_(few, few)], jensen_shannon(histograms_NH[few]), atol=1e-15
    )
