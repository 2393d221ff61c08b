from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from knexa.matchmaking.local_only import LocalOnly
from knexa.matchmaking.matchings import Greedy
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.random import Random
from knexa.matchmaking.round_view import Probe
from tests.matchmaking.matchmaking_worlds import directed_matchings, random_profiles, view_of


def probe_of(rewards_NN: np.ndarray) -> Probe:
    rewards_NN = rewards_NN.copy()
    np.fill_diagonal(rewards_NN, np.nan)
    return Probe(rewards=rewards_NN, no_teacher_N=np.zeros(len(rewards_NN)))


@pytest.mark.parametrize("num_agents", [4, 5])
def test_random_draws_every_matching_and_role_equally_often(num_agents):
    profiles_NF = np.zeros((num_agents, 32))
    rng = np.random.default_rng(0)
    every = [frozenset(pairs) for pairs in directed_matchings(num_agents, num_agents // 2)]
    counts = Counter(
        frozenset(directive.pair for directive in Random().propose(view_of(profiles_NF, rng)))
        for _ in range(40 * len(every))
    )
    assert set(counts) <= set(every)
    assert chisquare([counts[pairs] for pairs in every]).pvalue > 0.01


def test_random_keeps_to_the_number_of_pairs():
    view = view_of(np.zeros((9, 32)), np.random.default_rng(1), num_pairs=2)
    plan = Random().propose(view)
    assert [directive.id for directive in plan] == ["r1-0", "r1-1"]
    assert len({agent for directive in plan for agent in directive.pair}) == 4
    assert all(directive.score is None for directive in plan)


def test_local_only_proposes_nothing():
    assert LocalOnly().propose(view_of(np.zeros((6, 32)), np.random.default_rng(0))) == ()


@pytest.mark.parametrize("num_agents", [2, 5, 6])
def test_oracle_takes_the_best_matching_whatever_the_configured_one(num_agents):
    rng = np.random.default_rng(2)
    rewards_NN = rng.normal(size=(num_agents, num_agents)) - 1.0
    view = view_of(
        random_profiles(rng, num_agents), rng, matching=Greedy(), probe=probe_of(rewards_NN)
    )
    plan = Oracle().propose(view)
    best = max(
        sum(rewards_NN[pair] for pair in pairs)
        for pairs in directed_matchings(num_agents, num_agents // 2)
    )
    assert len(plan) == num_agents // 2
    assert sum(directive.score for directive in plan) == pytest.approx(best)


def test_oracle_that_may_leave_agents_unpaired_takes_the_best_matching_of_any_size():
    rng = np.random.default_rng(3)
    for _ in range(20):
        rewards_NN = rng.normal(size=(6, 6)) - 0.8
        view = view_of(np.zeros((6, 32)), rng, probe=probe_of(rewards_NN))
        plan = Oracle(allow_unpaired=True).propose(view)
        best = max(
            sum(rewards_NN[pair] for pair in pairs)
            for num_pairs in range(4)
            for pairs in directed_matchings(6, num_pairs)
        )
        assert sum(directive.score for directive in plan) == pytest.approx(best)


@pytest.mark.parametrize("allow_unpaired", [False, True])
def test_oracle_of_mutual_pairs_takes_the_best_sum_of_both_directions(allow_unpaired):
    rewards_NN = np.full((4, 4), 0.1)
    rewards_NN[0, 1], rewards_NN[1, 0] = 5.0, -9.0  # one learns much, the other unlearns more
    view = view_of(np.zeros((4, 32)), np.random.default_rng(0), probe=probe_of(rewards_NN))
    plan = Oracle(allow_unpaired=allow_unpaired).propose(replace(view, mutual=True))
    assert len(plan) == 4
    assert sum(directive.score for directive in plan) == pytest.approx(0.4)


def test_oracle_says_that_it_needs_probes():
    assert Oracle.needs == {"probes"}
    with pytest.raises(ValueError, match="probe"):
        Oracle().propose(view_of(np.zeros((4, 32)), np.random.default_rng(0)))
