from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest

from knexa.matchmaking.round_robin import RoundRobin
from tests.matchmaking.matchmaking_worlds import pairs_of, view_of


def meetings(num_agents: int, rounds: range, **settings) -> list[list[tuple[int, int]]]:
    profiles_NF, rng = np.zeros((num_agents, 32)), np.random.default_rng(0)
    return [
        pairs_of(RoundRobin().propose(view_of(profiles_NF, rng, round=round, **settings)))
        for round in rounds
    ]


def cycle_length(num_agents: int) -> int:
    return num_agents - 1 + num_agents % 2


@pytest.mark.parametrize("num_agents", range(2, 10))
def test_everybody_meets_everybody_once_a_cycle(num_agents):
    length = cycle_length(num_agents)
    for cycle in range(3):
        first = 1 + cycle * length
        rounds = meetings(num_agents, range(first, first + length))
        assert all(len(pairs) == num_agents // 2 for pairs in rounds)
        assert all(len({a for pair in pairs for a in pair}) == 2 * len(pairs) for pairs in rounds)
        met = Counter(frozenset(pair) for pairs in rounds for pair in pairs)
        assert met == Counter(frozenset(pair) for pair in combinations(range(num_agents), 2))


@pytest.mark.parametrize("num_agents", range(2, 10))
def test_two_cycles_hold_every_ordered_pair_once(num_agents):
    rounds = meetings(num_agents, range(1, 1 + 2 * cycle_length(num_agents)))
    met = Counter(pair for pairs in rounds for pair in pairs)
    assert met == Counter(permutations(range(num_agents), 2))


@pytest.mark.parametrize("num_agents", range(2, 10))
def test_each_agent_teaches_half_of_its_meetings_in_every_cycle(num_agents):
    length = cycle_length(num_agents)
    for first in (1, 1 + length):
        rounds = meetings(num_agents, range(first, first + length))
        teaches = Counter(teacher for pairs in rounds for teacher, _ in pairs)
        # N - 1 meetings: an odd number cannot be halved.
        assert all(abs(2 * teaches[agent] - (num_agents - 1)) <= 1 for agent in range(num_agents))


@pytest.mark.parametrize("num_agents", [3, 5, 9])
def test_with_an_odd_number_everybody_sits_out_once_a_cycle(num_agents):
    rounds = meetings(num_agents, range(1, 1 + num_agents))
    out = [set(range(num_agents)) - {a for pair in pairs for a in pair} for pairs in rounds]
    assert sorted(agent for (agent,) in out) == list(range(num_agents))


@pytest.mark.parametrize(("num_agents", "num_pairs"), [(6, 1), (6, 2), (7, 2), (8, 3), (9, 4)])
def test_with_fewer_pairs_a_plan_the_cycle_takes_longer_and_misses_nobody(num_agents, num_pairs):
    parts = -(-(num_agents // 2) // num_pairs)
    length = parts * cycle_length(num_agents)
    rounds = meetings(num_agents, range(1, 1 + 2 * length), num_pairs=num_pairs)
    assert max(len(pairs) for pairs in rounds) <= num_pairs
    met = Counter(pair for pairs in rounds for pair in pairs)
    assert met == Counter(permutations(range(num_agents), 2))


def test_pairs_that_the_protocol_cannot_serve_are_turned_round_or_sit_out():
    admissible_NN = np.ones((4, 4), dtype=bool)
    admissible_NN[0, 1] = admissible_NN[1, 0] = False
    admissible_NN[2, 3] = False
    rounds = meetings(4, range(1, 7), admissible_NN=admissible_NN)
    met = Counter(pair for pairs in rounds for pair in pairs)
    assert met[3, 2] == 2
    assert set(permutations(range(4), 2)) - set(met) == {(0, 1), (1, 0), (2, 3)}


def test_mutual_pairs_teach_both_ways():
    for pairs in meetings(6, range(1, 6), mutual=True):
        assert len(pairs) == 6
        assert {pair[::-1] for pair in pairs} == set(pairs)


@pytest.mark.parametrize(("num_agents", "settings"), [(0, {}), (1, {}), (4, {"num_pairs": 0})])
def test_nobody_to_pair_with_is_an_empty_plan(num_agents, settings):
    assert meetings(num_agents, range(1, 4), **settings) == [[], [], []]
