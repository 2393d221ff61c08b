from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from knexa.data.divergence import jensen_shannon
from knexa.matchmaking.heuristic import Heuristic
from knexa.matchmaking.matchings import Exact
from knexa.profiles.layout import PASS_AT_1
from tests.matchmaking.matchmaking_worlds import pairs_of, random_profiles, view_of


def profiles(solves: list[float], shares_of_first: list[float]) -> np.ndarray:
    """Agents with that pass@1 and that share of category 0, the rest in category 1."""
    profiles_NF = np.zeros((len(solves), 32))
    profiles_NF[:, PASS_AT_1] = solves
    profiles_NF[:, -12] = shares_of_first
    profiles_NF[:, -11] = 1.0 - profiles_NF[:, -12]
    return profiles_NF


def test_the_most_different_pair_comes_first_and_the_better_performer_teaches():
    profiles_NF = profiles([0.1, 0.9, 0.5, 0.4], [1.0, 0.7, 0.5, 0.0])
    plan = Heuristic().propose(view_of(profiles_NF, np.random.default_rng(0)))
    assert pairs_of(plan) == [(3, 0), (1, 2)]
    divergence_NN = jensen_shannon(profiles_NF[:, -12:])
    assert [d.score for d in plan] == [divergence_NN[3, 0], divergence_NN[1, 2]]


def test_pairs_are_greedy_where_the_configured_matching_is_exact():
    # Exact would take (0, 2) and (1, 3); the most different two, 0 and 3, leave 1 with 2.
    profiles_NF = profiles([0.4, 0.3, 0.2, 0.1], [1.0, 0.6, 0.4, 0.0])
    plan = Heuristic().propose(view_of(profiles_NF, np.random.default_rng(0), matching=Exact()))
    assert pairs_of(plan) == [(0, 3), (1, 2)]


def test_the_number_of_pairs_is_kept():
    profiles_NF = random_profiles(np.random.default_rng(1), 9)
    rng = np.random.default_rng(0)
    for num_pairs in (0, 2, 4):
        plan = Heuristic().propose(view_of(profiles_NF, rng, num_pairs=num_pairs))
        assert len({agent for pair in pairs_of(plan) for agent in pair}) == 2 * num_pairs


def test_pairs_that_the_protocol_cannot_serve_are_passed_over():
    profiles_NF = profiles([0.1, 0.9, 0.5, 0.4], [1.0, 0.7, 0.5, 0.0])
    admissible_NN = np.ones((4, 4), dtype=bool)
    admissible_NN[3, 0] = admissible_NN[0, 3] = False
    view = view_of(profiles_NF, np.random.default_rng(0), admissible_NN=admissible_NN)
    assert set(pairs_of(Heuristic().propose(view))) == {(1, 3), (2, 0)}


def test_mutual_pairs_teach_both_ways():
    profiles_NF = profiles([0.1, 0.9], [1.0, 0.0])
    view = view_of(profiles_NF, np.random.default_rng(0), mutual=True)
    assert pairs_of(Heuristic().propose(view)) == [(1, 0), (0, 1)]


def test_equal_performers_draw_their_roles():
    profiles_NF = profiles([0.5, 0.5], [1.0, 0.0])
    rng = np.random.default_rng(2)
    counts = Counter(
        pairs_of(Heuristic().propose(view_of(profiles_NF, rng)))[0] for _ in range(400)
    )
    assert chisquare([counts[0, 1], counts[1, 0]]).pvalue > 0.01


def test_equal_divergences_are_drawn_alike_whoever_performs_alike():
    profiles_NF = np.zeros((3, 32))
    profiles_NF[:, PASS_AT_1] = [0.2, 0.2, 0.8]
    profiles_NF[:, -3:] = np.eye(3)
    rng = np.random.default_rng(3)
    counts = Counter(
        frozenset(pairs_of(Heuristic().propose(view_of(profiles_NF, rng)))[0]) for _ in range(900)
    )
    assert len(counts) == 3
    assert chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.parametrize("num_agents", [0, 1])
def test_nobody_to_pair_with_is_an_empty_plan(num_agents):
    view = view_of(np.zeros((num_agents, 32)), np.random.default_rng(0))
    assert Heuristic().propose(view) == ()
