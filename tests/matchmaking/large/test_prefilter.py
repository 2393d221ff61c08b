import tracemalloc

import numpy as np
import pytest
from scipy.stats import chisquare

from knexa.matchmaking.contexts import Concat
from knexa.matchmaking.large.prefilter import Prefiltered
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Greedy
from tests.matchmaking.matchmaking_worlds import random_profiles, view_of


def total(scores_NN, pairs):
    return sum(scores_NN[pair] for pair in pairs)


def trained(profiles_NF, num_observations: int = 200) -> LinUCB:
    rng = np.random.default_rng(0)
    policy = LinUCB()
    policy.start(64)
    pairs_K2 = rng.integers(0, len(profiles_NF), (num_observations, 2))
    contexts_Kd = np.concatenate([profiles_NF[pairs_K2[:, 1]], profiles_NF[pairs_K2[:, 0]]], axis=1)
    policy.learn(contexts_Kd, contexts_Kd @ rng.normal(size=64))
    return policy


@pytest.mark.parametrize("num_pairs", [0, 5, 20])
def test_window_that_holds_everybody_is_greedy(num_pairs):
    rng = np.random.default_rng(1)
    for _ in range(5):
        scores_NN = rng.normal(size=(40, 40))
        scores_NN[rng.random((40, 40)) < 0.3] = -np.inf
        pairs = Prefiltered(window=40).match(scores_NN, num_pairs, np.random.default_rng(2))
        assert pairs == Greedy().match(scores_NN, num_pairs, np.random.default_rng(3))


@pytest.mark.parametrize("window", [16, 64])
def test_additive_scores_lose_nothing_to_a_small_window(window):
    rng = np.random.default_rng(4)
    scores_NN = rng.random(300)[:, None] + rng.random(300)
    best = total(scores_NN, Greedy().match(scores_NN, 150, rng))
    pairs = Prefiltered(window=window).match(scores_NN, 150, rng)
    assert len(pairs) == 150
    assert total(scores_NN, pairs) >= 0.995 * best


def test_learned_concat_scores_keep_99_percent_of_the_greedy_total():
    rng = np.random.default_rng(5)
    profiles_NF = random_profiles(rng, 1000)
    view = view_of(profiles_NF, rng, context=Concat(), matching=Prefiltered(window=128))
    policy = trained(profiles_NF)
    scores_NN = policy.scores(view)
    pairs = [directive.pair for directive in policy.propose(view)]
    best = total(scores_NN, Greedy().match(scores_NN, 500, rng))
    assert len({agent for pair in pairs for agent in pair}) == 1000
    assert total(scores_NN, pairs) >= 0.99 * best


def test_plan_of_a_large_federation_never_holds_all_scores():
    num_agents = 6000
    rng = np.random.default_rng(6)
    profiles_NF = random_profiles(rng, num_agents)
    policy = trained(profiles_NF)
    view = view_of(profiles_NF, rng, context=Concat(), matching=Prefiltered(window=256))
    tracemalloc.start()
    plan = policy.propose(view)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan) == num_agents // 2
    assert peak < 8 * num_agents**2 / 4
    scores = [directive.score for directive in plan]
    assert (np.diff(scores) <= 1e-9).all()


def test_pairs_are_found_where_few_are_admissible():
    rng = np.random.default_rng(7)
    scores_NN = np.full((60, 60), -np.inf)
    for agent in range(30):  # each agent can pair with exactly one other, far from its own level
        scores_NN[agent, 59 - agent] = float(agent)
    pairs = Prefiltered(window=4).match(scores_NN, 30, rng)
    assert sorted(pairs) == [(agent, 59 - agent) for agent in range(30)]
    assert Prefiltered(window=4).match(np.full((9, 9), -np.inf), 4, rng) == []


@pytest.mark.parametrize("option", ["admissible", "abstain", "mutual"])
def test_round_options_hold_without_the_dense_scores(option):
    rng = np.random.default_rng(8)
    profiles_NF = random_profiles(rng, 30)
    policy = trained(profiles_NF)
    admissible_NN = rng.random((30, 30)) < 0.2
    changes = {
        "admissible": {"admissible_NN": admissible_NN},
        "abstain": {},
        "mutual": {"mutual": True},
    }[option]
    policy.abstain = option == "abstain"
    policy.exploration = 0.0
    plans = []
    for matching in (Prefiltered(window=30), Greedy()):
        view = view_of(profiles_NF, rng, context=Concat(), matching=matching)
        for name, value in changes.items():
            object.__setattr__(view, name, value)
        plans.append({d.pair: d.score for d in policy.propose(view)})
    assert plans[0]
    assert plans[0] == pytest.approx(plans[1], abs=1e-9)


def test_ties_are_broken_without_bias():
    scores_NN = np.full((12, 12), 0.3)
    rng = np.random.default_rng(9)
    teaches_N = np.zeros(12)
    for _ in range(400):
        for teacher, _ in Prefiltered(window=4).match(scores_NN, 3, rng):
            teaches_N[teacher] += 1
    assert chisquare(teaches_N).pvalue > 0.01
