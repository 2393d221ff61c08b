"""Agents that are away or busy: no shipped policy names them, and the CPM refuses one that does."""

from pathlib import Path

import numpy as np
import pytest

from knexa.config.components import instantiate
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.large.prefilter import Prefiltered
from knexa.matchmaking.matchings import Exact, Greedy
from knexa.matchmaking.random import Random
from knexa.matchmaking.regret import regret_row
from knexa.matchmaking.rewards import LocalLoss
from knexa.matchmaking.round_view import Probe
from tests.matchmaking.matchmaking_worlds import node_of, random_profiles

CONF = Path(__file__).parents[2] / "conf" / "matchmaker"
POLICIES = sorted(path.stem for path in CONF.glob("*.yaml"))
NUM_AGENTS = 6


def policy(name: str) -> Matchmaker:
    return instantiate(node_of(f"matchmaker/{name}"), key="matchmaker")


def cpm_of(matchmaker: Matchmaker, matching=None, **more) -> CPM:
    return CPM(
        matchmaker=matchmaker,
        context=Interaction(),
        matching=matching or Exact(),
        reward=LocalLoss(),
        protocol="akd",
        num_profile_features=32,
        **more,
    )


def propose(cpm: CPM, available_N, round: int = 1):
    rng = np.random.default_rng(round)
    rewards_NN = rng.normal(size=(NUM_AGENTS, NUM_AGENTS))
    np.fill_diagonal(rewards_NN, np.nan)
    return cpm.propose(
        round,
        random_profiles(rng, NUM_AGENTS),
        rng,
        probe=Probe(rewards=rewards_NN, no_teacher_N=np.zeros(NUM_AGENTS)),
        peer_losses=np.abs(rewards_NN),
        available_N=available_N,
    )


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_names_an_agent_that_is_away(name):
    same_N = ~np.eye(NUM_AGENTS, dtype=bool)
    cpm = cpm_of(policy(name), admissible_NN=same_N if name == "fedavg" else None)
    named = 0
    for round in range(1, 13):
        available_N = np.random.default_rng(round).random(NUM_AGENTS) < 0.6
        for directive in propose(cpm, available_N, round):
            agents = {*directive.teachers, *directive.students} - {NUM_AGENTS}  # FedID's server
            assert available_N[sorted(agents)].all()
            named += len(agents)
    assert named > 0 or name == "local_only"


@pytest.mark.parametrize("matching", [Exact(), Greedy(), Prefiltered(window=2)])
@pytest.mark.parametrize("mutual", [False, True])
def test_every_matching_pairs_those_who_are_there(matching, mutual):
    available_N = np.array([True, False, True, True, False, True])
    plan = propose(cpm_of(policy("linucb"), matching, mutual=mutual), available_N)
    assert len(plan) == (4 if mutual else 2)
    assert {a for d in plan for a in (*d.teachers, *d.students)} == {0, 2, 3, 5}


@pytest.mark.parametrize("num_available", [0, 1])
@pytest.mark.parametrize("name", POLICIES)
def test_with_nobody_to_meet_the_plan_is_empty(name, num_available):
    available_N = np.arange(NUM_AGENTS) < num_available
    assert propose(cpm_of(policy(name)), available_N) == ()


def test_a_plan_that_names_an_absent_agent_is_refused():
    class Stubborn(Matchmaker):
        def propose(self, view):
            return view.plan([(0, 1)])

    with pytest.raises(ValueError, match="names agent 1"):
        propose(cpm_of(Stubborn()), np.array([True, False, True, True, True, True]))


def test_everybody_available_is_what_no_mask_is():
    plans = [propose(cpm_of(Random()), mask) for mask in (None, np.ones(NUM_AGENTS, dtype=bool))]
    assert plans[0] == plans[1]


def test_an_expired_directive_is_counted_and_teaches_nothing():
    cpm = cpm_of(policy("linucb"))
    plan = propose(cpm, None)
    before = cpm.matchmaker.model.theta_d.copy()
    cpm.expire(plan[0].id, "lost")
    assert cpm.expired == {"lost": 1}
    assert plan[0].id not in cpm.pending
    assert len(cpm.pending) == len(plan) - 1
    assert np.array_equal(cpm.matchmaker.model.theta_d, before)
    with pytest.raises(ValueError, match="not waiting"):
        cpm.expire(plan[0].id, "lost")


def test_regret_is_of_those_who_could_have_met():
    rewards_NN = np.array([[np.nan, 9.0, 1.0], [9.0, np.nan, 9.0], [3.0, 9.0, np.nan]])
    probe = Probe(rewards=rewards_NN, no_teacher_N=np.zeros(3))
    row = regret_row(1, probe, (), np.array([True, False, True]))
    assert (row.best, row.best_pairs, row.random) == (3.0, ((2, 0),), 2.0)
    assert row.rewards[0] == (None, None, 1.0)
