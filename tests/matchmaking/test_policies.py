"""What every matchmaker must hold to, whatever it scores by."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from knexa.matchmaking.c2ucb import C2UCB
from knexa.matchmaking.complementarity import Complementarity
from knexa.matchmaking.contexts import Concat, Interaction
from knexa.matchmaking.heuristic import Heuristic
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact, Greedy
from knexa.matchmaking.neural_linear import NeuralLinear
from knexa.matchmaking.pens import PENS
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.random import Random
from knexa.matchmaking.rewards import LocalLoss
from knexa.matchmaking.thompson import Thompson
from knexa.profiles.build import Skills
from knexa.tracking.tree_file import load_tree, save_tree
from tests.matchmaking.matchmaking_worlds import (
    cpm_of,
    directed_matchings,
    pairs_of,
    random_profiles,
    started,
    view_of,
)

LEARNERS = {
    "linucb": lambda: LinUCB(),
    "linucb-decay": lambda: LinUCB(schedule="sqrt_decay"),
    "c2ucb": lambda: C2UCB(),
    "thompson": lambda: Thompson(),
    "neural_linear": lambda: NeuralLinear(seed=0, num_steps=10, max_observations=40),
}
FIXED = {
    "heuristic": lambda: Heuristic(),
    "pens": lambda: PENS(),
    "pens-top": lambda: PENS(num_top=3),
    "random": lambda: Random(),
}
GREEDY_LEARNERS = {
    "linucb": lambda: LinUCB(exploration=0.0),
    "c2ucb": lambda: C2UCB(noise=0.0, model_norm=0.0),
    "thompson": lambda: Thompson(exploration=0.0),
    "neural_linear": lambda: NeuralLinear(seed=0, exploration=0.0, num_steps=300),
}


def losses_of(profiles_NF: np.ndarray) -> np.ndarray:
    """Peer losses that follow from the two profiles alone."""
    losses_NN = np.sin(profiles_NF @ np.arange(32))[:, None] * np.cos(profiles_NF @ np.ones(32))
    np.fill_diagonal(losses_NN, np.nan)
    return losses_NN


@pytest.mark.parametrize("matching", [Exact(), Greedy()], ids=["exact", "greedy"])
@pytest.mark.parametrize("name", [*LEARNERS, *FIXED])
def test_ties_are_broken_without_bias(name, matching):
    policy = started((LEARNERS | FIXED)[name](), Interaction().num_features(32))
    profiles_NF = np.zeros((4, 32))  # nothing tells the agents apart
    losses_NN = np.ones((4, 4))
    rng = np.random.default_rng(0)
    every = [frozenset(pairs) for pairs in directed_matchings(4, 2)]
    counts = Counter(
        frozenset(
            pairs_of(
                policy.propose(view_of(profiles_NF, rng, matching=matching, peer_losses=losses_NN))
            )
        )
        for _ in range(40 * len(every))
    )
    assert set(counts) <= set(every)
    assert chisquare([counts[pairs] for pairs in every]).pvalue > 0.01


@pytest.mark.parametrize("matching", [Exact(), Greedy()], ids=["exact", "greedy"])
@pytest.mark.parametrize("name", [*LEARNERS, "heuristic", "pens", "pens-top"])
def test_permuting_the_agents_permutes_the_plan(name, matching):
    rng = np.random.default_rng(1)
    policy = started((LEARNERS | FIXED)[name](), Interaction().num_features(32))
    training_nd = Interaction().build(random_profiles(rng, 7)).reshape(49, -1)
    policy.learn(training_nd[1:30], rng.normal(size=29))
    profiles_NF, order = random_profiles(rng, 7), rng.permutation(7)
    plans = [
        policy.propose(
            view_of(
                rows_NF,
                np.random.default_rng(2),
                matching=matching,
                peer_losses=losses_of(rows_NF),
            )
        )
        for rows_NF in (profiles_NF, profiles_NF[order])
    ]
    assert {(order[t], order[s]) for t, s in pairs_of(plans[1])} == set(pairs_of(plans[0]))


def skilled(rng: np.random.Generator) -> np.ndarray:
    """Profiles of six agents as ``profile=skills`` lays them out."""
    profiles_NF = random_profiles(rng)
    return np.hstack(
        [
            profiles_NF[:, :20],
            np.full((6, 1), 0.5),
            np.zeros((6, 1)),
            rng.random((6, 12)),
            profiles_NF[:, 20:],
        ]
    )


@pytest.mark.parametrize("context", [Interaction(), Complementarity()], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_continues_from_its_checkpoint_bit_for_bit(name, context, tmp_path):
    settings = {
        "context": context,
        "num_profile_features": len(Skills.feature_names),
        "trust_column": Skills.trust_column,
    }
    cpm, restored = (cpm_of(LEARNERS[name](), **settings) for _ in range(2))

    def play(player, rounds: range) -> list:
        plans = []
        for round in rounds:
            rng = np.random.default_rng(round)
            plan = player.propose(round, skilled(rng), rng)
            # One feedback a round is left out: it stays in the queue.
            player.receive([Feedback(directive_id=d.id, reward=rng.normal()) for d in plan[1:]])
            plans.append(plan)
        return plans

    play(cpm, range(1, 30))  # 58 observations: the regression's next refresh lies ahead
    save_tree(tmp_path / "cpm.safetensors", cpm.state_dict())
    restored.load_state_dict(load_tree(tmp_path / "cpm.safetensors"))
    assert play(cpm, range(30, 36)) == play(restored, range(30, 36))
    for suffix, player in (("a", cpm), ("b", restored)):
        save_tree(tmp_path / suffix, player.state_dict())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", GREEDY_LEARNERS)
def test_abstention_leaves_agents_unpaired_that_no_exchange_would_help(name):
    """Whoever learns from agent 2 gains, everybody else loses."""
    rng = np.random.default_rng(3)
    plans = {}
    for abstain in (False, True):
        policy = GREEDY_LEARNERS[name]()
        policy.abstain = abstain
        cpm = cpm_of(policy, context=Concat(), reward=LocalLoss(normalization="none"))
        profiles_NF = random_profiles(np.random.default_rng(4))
        profiles_NF[:, 8] = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        contexts_NNd = Concat().build(profiles_NF)
        pairs = [(t, s) for t in range(6) for s in range(6) if t != s]
        rewards_n = np.array([1.0 if teacher == 2 else -1.0 for teacher, _ in pairs])
        for _ in range(4):
            policy.learn(np.stack([contexts_NNd[pair] for pair in pairs]), rewards_n)
        plans[abstain] = pairs_of(cpm.propose(1, profiles_NF, rng))
    assert len(plans[False]) == 3
    ((teacher, _),) = plans[True]
    assert teacher == 2


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "thompson"])
def test_an_optimist_that_knows_nothing_abstains_from_nothing(name):
    policy = LEARNERS[name]()
    policy.abstain = True
    rng = np.random.default_rng(5)
    view = view_of(random_profiles(rng), rng)
    assert len(started(policy, 101).propose(view)) == 3
