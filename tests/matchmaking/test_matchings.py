from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import chisquare

from knexa.errors import UserError
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.large.greedy import greedy_pairs
from knexa.matchmaking.matchings import Auto, Exact, Greedy, max_weight_pairs
from knexa.matchmaking.plans import Matching
from knexa.matchmaking.round_view import RoundView
from tests.matchmaking.matchmaking_worlds import directed_matchings

finite_scores = st.floats(-1e6, 1e6, allow_nan=False)
scores_with_gaps = st.one_of(finite_scores, finite_scores, st.just(-np.inf))


@st.composite
def problems(draw, elements=scores_with_gaps):
    num_agents = draw(st.integers(0, 7))
    scores_NN = draw(arrays(np.float64, (num_agents, num_agents), elements=elements))
    return scores_NN, draw(st.integers(0, 4))


def assert_disjoint(pairs, scores_NN):
    agents = [agent for pair in pairs for agent in pair]
    assert len(set(agents)) == len(agents)
    assert all(np.isfinite(scores_NN[pair]) for pair in pairs)


@settings(max_examples=300, deadline=None)
@given(problem=problems(), seed=st.integers(0, 100))
def test_exact_total_equals_the_best_by_enumeration(problem, seed):
    scores_NN, num_pairs = problem
    pairs = Exact().match(scores_NN, num_pairs, np.random.default_rng(seed))
    assert_disjoint(pairs, scores_NN)
    off_diagonal = scores_NN[~np.eye(len(scores_NN), dtype=bool)]
    finite = off_diagonal[np.isfinite(off_diagonal)]
    tolerance = 1e-9 * np.abs(finite).max(initial=0.0)
    for size in range(num_pairs, -1, -1):
        totals = [sum(scores_NN[p] for p in m) for m in directed_matchings(len(scores_NN), size)]
        totals = [total for total in totals if total > -np.inf]
        if totals:
            assert len(pairs) == size
            assert sum(scores_NN[pair] for pair in pairs) >= max(totals) - tolerance
            return


@settings(max_examples=200, deadline=None)
@given(problem=problems(), seed=st.integers(0, 100))
def test_greedy_takes_the_best_free_pair_each_time(problem, seed):
    scores_NN, num_pairs = problem
    pairs = Greedy().match(scores_NN, num_pairs, np.random.default_rng(seed))
    assert_disjoint(pairs, scores_NN)
    free = set(range(len(scores_NN)))
    tolerance = 1e-9 * np.abs(scores_NN[np.isfinite(scores_NN)]).max(initial=0.0)

    def best_free() -> float:
        open_pairs = [scores_NN[t, s] for t in free for s in free if t != s]
        return max(open_pairs, default=-np.inf)

    for pair in pairs:
        assert scores_NN[pair] >= best_free() - tolerance
        free -= set(pair)
    assert len(pairs) == num_pairs or best_free() == -np.inf


def test_greedy_misses_a_total_that_exact_finds():
    scores_NN = np.full((4, 4), -np.inf)
    for teacher, student, score in [(1, 2, 10.0), (0, 1, 9.0), (2, 3, 9.0), (3, 0, 0.0)]:
        scores_NN[teacher, student] = score
    rng = np.random.default_rng(0)
    assert Greedy().match(scores_NN, 2, rng) == [(1, 2), (3, 0)]
    assert sorted(Exact().match(scores_NN, 2, rng)) == [(0, 1), (2, 3)]


def test_exact_fills_the_number_of_pairs_even_with_negative_scores():
    scores_NN = np.full((6, 6), -3.0)
    scores_NN[0, 1] = 5.0
    pairs = Exact().match(scores_NN, 3, np.random.default_rng(0))
    assert len(pairs) == 3
    assert pairs[0] == (0, 1)


def test_exact_does_not_take_more_pairs_than_asked_even_where_all_are_good():
    scores_NN = np.arange(64.0).reshape(8, 8)
    for num_pairs in range(5):
        assert len(Exact().match(scores_NN, num_pairs, np.random.default_rng(0))) == num_pairs


@pytest.mark.parametrize("matching", [Exact(), Greedy()])
def test_pairs_come_in_descending_score(matching):
    scores_NN = np.random.default_rng(1).normal(size=(10, 10))
    pairs = matching.match(scores_NN, 5, np.random.default_rng(2))
    scores = [scores_NN[pair] for pair in pairs]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("matching", [Exact(), Greedy()])
@pytest.mark.parametrize(("num_agents", "num_pairs"), [(4, 2), (5, 2), (5, 1)])
def test_ties_are_broken_without_bias(matching, num_agents, num_pairs):
    scores_NN = np.full((num_agents, num_agents), 0.3)
    # Noise of the size of a rounding error must not decide either.
    scores_NN *= 1.0 + 2e-16 * np.arange(num_agents)
    rng = np.random.default_rng(3)
    every = [frozenset(pairs) for pairs in directed_matchings(num_agents, num_pairs)]
    counts = Counter(
        frozenset(matching.match(scores_NN, num_pairs, rng)) for _ in range(40 * len(every))
    )
    assert set(counts) <= set(every)
    assert chisquare([counts[pairs] for pairs in every]).pvalue > 0.01


@pytest.mark.parametrize("matching", [Exact(), Greedy()])
@pytest.mark.parametrize("num_pairs", [2, 4])
def test_permuting_the_agents_permutes_the_pairs(matching, num_pairs):
    rng = np.random.default_rng(4)
    for _ in range(20):
        scores_NN = rng.normal(size=(9, 9))
        order = rng.permutation(9)
        pairs = matching.match(scores_NN, num_pairs, rng)
        permuted = matching.match(scores_NN[np.ix_(order, order)], num_pairs, rng)
        assert [(order[t], order[s]) for t, s in permuted] == pairs


def test_same_generator_state_gives_the_same_pairs():
    scores_NN = np.zeros((12, 12))
    first, second = (Exact().match(scores_NN, 6, np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_without_a_generator_the_total_is_exact_for_scores_that_differ_in_the_last_bit():
    scores_NN = np.full((4, 4), 1.0)
    scores_NN[3, 2] = np.nextafter(1.0, 2.0)
    assert (3, 2) in max_weight_pairs(scores_NN, 2)


def test_diagonal_is_ignored_whatever_it_holds():
    scores_NN = np.ones((4, 4))
    np.fill_diagonal(scores_NN, np.nan)
    assert len(Exact().match(scores_NN, 2, np.random.default_rng(6))) == 2
    np.fill_diagonal(scores_NN, np.inf)
    assert len(Greedy().match(scores_NN, 2, np.random.default_rng(6))) == 2


@pytest.mark.parametrize("matching", [Exact(), Greedy()])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(matching, bad):
    scores_NN = np.zeros((4, 4))
    scores_NN[0, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        matching.match(scores_NN, 2, np.random.default_rng(7))


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_extreme_magnitudes_neither_overflow_nor_tie(scale):
    scores_NN = np.random.default_rng(8).normal(size=(6, 6))
    rng = np.random.default_rng(9)
    assert Exact().match(scores_NN * scale, 3, rng) == Exact().match(scores_NN, 3, rng)


def plain_greedy(scores_NN, num_pairs, rng):
    """The same matching, straight from its definition: sort all pairs, ties by the same noise."""
    num_agents = len(scores_NN)
    noise_NN = rng.integers(0, 2**24, size=scores_NN.shape).tolist()
    off_diagonal = [(t, s) for t in range(num_agents) for s in range(num_agents) if t != s]
    open_pairs = [pair for pair in off_diagonal if scores_NN[pair] > -np.inf]
    largest = max((abs(scores_NN[pair]) for pair in open_pairs), default=0.0) or 1.0

    def weight(pair):
        return round(scores_NN[pair] / largest * 2.0**60) + noise_NN[pair[0]][pair[1]]

    pairs, taken = [], set()
    for pair in sorted(open_pairs, key=weight, reverse=True):
        if len(pairs) < num_pairs and not taken & set(pair):
            taken |= set(pair)
            pairs.append(pair)
    return pairs


@st.composite
def large_scores(draw):
    """Scores of every shape that makes greedy's passes unequal, large enough for several."""
    num_agents = draw(st.integers(95, 130))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["noise", "additive", "ties", "hubs", "gaps", "nothing"]))
    scores_NN = rng.normal(size=(num_agents, num_agents))
    if kind == "additive":
        scores_NN = rng.random(num_agents)[:, None] + rng.random(num_agents) + 1e-3 * scores_NN
    elif kind == "ties":
        scores_NN = rng.integers(-1, 2, size=scores_NN.shape).astype(float)
    elif kind == "hubs":
        scores_NN[:, :3] += 50.0
        scores_NN[5] += 100.0
    elif kind == "gaps":
        scores_NN[
            rng.random(scores_NN.shape) < draw(st.sampled_from([0.5, 0.98, 0.9999]))
        ] = -np.inf
    elif kind == "nothing":
        scores_NN[:] = -np.inf
    return scores_NN, draw(st.sampled_from([num_agents // 2, 7, 0]))


@settings(max_examples=60, deadline=None)
@given(problem=large_scores(), seed=st.integers(0, 100))
def test_greedy_and_its_passes_equal_the_definition(problem, seed):
    scores_NN, num_pairs = problem
    pairs = Greedy().match(scores_NN, num_pairs, np.random.default_rng(seed))
    assert pairs == plain_greedy(scores_NN, num_pairs, np.random.default_rng(seed))
    agents_N, rng = np.arange(len(scores_NN)), np.random.default_rng(seed)
    assert pairs == greedy_pairs(scores_NN, agents_N, agents_N, num_pairs, rng)


def test_greedy_of_more_agents_than_one_block_of_weights_equals_the_definition():
    scores_NN = np.random.default_rng(14).normal(size=(600, 600))
    pairs = Greedy().match(scores_NN, 100, np.random.default_rng(15))
    assert pairs == plain_greedy(scores_NN, 100, np.random.default_rng(15))


def test_greedy_of_some_teachers_and_students_never_pairs_an_agent_with_itself():
    rng = np.random.default_rng(10)
    teachers_T, students_S = np.array([1, 3, 4, 9]), np.array([0, 3, 9])
    scores_TS = np.zeros((4, 3))
    scores_TS[1, 1] = 9.0  # agent 3 with itself
    scores_TS[0, 1] = 5.0  # 1 teaches 3
    pairs = greedy_pairs(scores_TS, teachers_T, students_S, 5, rng)
    assert pairs[0] == (1, 3)
    assert len(pairs) == 3 or {agent for pair in pairs for agent in pair} >= {1, 3}
    agents = [agent for pair in pairs for agent in pair]
    assert len(set(agents)) == len(agents)


@pytest.mark.parametrize("kind", ["noise", "additive", "ties", "odd triples", "equal"])
@pytest.mark.parametrize(("num_agents", "num_pairs"), [(40, 20), (41, 20), (40, 7), (3, 1), (2, 1)])
def test_sparse_exact_matching_equals_the_one_over_all_edges(kind, num_agents, num_pairs):
    rng = np.random.default_rng(11)
    scores_NN = rng.normal(size=(num_agents, num_agents))
    if kind == "additive":
        scores_NN = rng.random(num_agents)[:, None] + rng.random(num_agents) + 0.1 * scores_NN
    elif kind == "ties":
        scores_NN = rng.integers(-1, 2, size=scores_NN.shape).astype(float)
    elif kind == "odd triples":  # where the assignment problem's answer is far from a matching
        scores_NN += 10.0 * (np.arange(num_agents)[:, None] // 3 == np.arange(num_agents) // 3)
    elif kind == "equal":
        scores_NN[:] = 0.25
    sparse = max_weight_pairs(scores_NN, num_pairs, np.random.default_rng(12))
    total = sum(scores_NN[pair] for pair in sparse)
    full = max_weight_pairs(scores_NN, num_pairs)  # without a generator all edges are kept
    assert len(sparse) == num_pairs
    assert total == pytest.approx(sum(scores_NN[pair] for pair in full), rel=1e-9)


def test_auto_is_exact_up_to_its_limit_and_greedy_above():
    rng = np.random.default_rng(13)
    scores_NN = np.full((4, 4), -1.0)
    for teacher, student, score in [(1, 2, 10.0), (0, 1, 9.0), (2, 3, 9.0), (3, 0, 0.0)]:
        scores_NN[teacher, student] = score
    assert sorted(Auto(exact_up_to=4).match(scores_NN, 2, rng)) == [(0, 1), (2, 3)]
    assert Auto(exact_up_to=3).match(scores_NN, 2, rng) == [(1, 2), (3, 0)]


@pytest.mark.parametrize(
    "pairs", [None, [(0, 1, 2)], [(0.0, 1.0)], [(0, 99)], [(0, 1), (0, 2)], [(0, 0)]], ids=str
)
def test_a_matching_of_ones_own_that_breaks_its_promise_is_named(pairs):
    class Broken(Matching):
        def match(self, scores_NN, num_pairs, rng):
            return pairs

    view = RoundView(
        round=1,
        profiles_NF=np.zeros((4, 32)),
        context=Interaction(),
        matching=Broken(),
        num_pairs=2,
        protocol="akd",
        rng=np.random.default_rng(0),
    )
    with pytest.raises(UserError, match=r"Broken.match must return disjoint \(teacher, student\)"):
        view.match(np.zeros((4, 4)))
