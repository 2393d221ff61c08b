"""Ranked teachers of large federations, against the plain selection of all arms' scores."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.errors import UserError
from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.c2ucb import C2UCB
from knexa.matchmaking.heuristic import Heuristic
from knexa.matchmaking.large import LARGE_BY_TOPIC
from knexa.matchmaking.large.ranking import NOBODY, best_teachers
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.neural_linear import NeuralLinear
from knexa.matchmaking.random import Random
from knexa.matchmaking.round_robin import RoundRobin
from knexa.matchmaking.round_view import matchable
from knexa.matchmaking.selections import OneToMany, Routed
from knexa.matchmaking.thompson import Thompson
from knexa.matchmaking.topic_contexts import Topic, TopicPast
from knexa.matchmaking.weights import ScoresError
from tests.matchmaking.matchmaking_worlds import random_profiles, started, view_of

TOPICS = TransferTopics(categories=(0, 3, 4, 11), sizes=(3, 2, 5, 1))
SEEDS = st.integers(0, 2**32 - 1)
BUDGETS = st.none() | st.integers(1, 11)
MASKS = st.sampled_from(["none", "pairs", "absent", "tokenizers", "nobody"])


def mask_of(kind: str, num_agents: int, rng):
    """Which pairs may meet, as absence, distrust and the protocol say."""
    here_N = rng.random(num_agents) < 0.6
    family_N = rng.integers(0, 3, num_agents)
    return {
        "none": None,
        "pairs": rng.random((num_agents, num_agents)) < 0.5,
        "absent": here_N[:, None] & here_N,
        "tokenizers": family_N[:, None] == family_N,
        "nobody": np.zeros((num_agents, num_agents), dtype=bool),
    }[kind]


def both(worths_NT, missing_NT, mask_NN, budget, abstain, seed):
    """(arms, scores) of the ranked selection, and of the plain one."""
    selection = Routed(budget=budget)
    known = (mask_NN, TOPICS, np.random.default_rng(seed))
    ranked = selection.select_ranked(worths_NT, missing_NT, *known, abstain=abstain)
    scores = missing_NT * worths_NT[:, None]
    weights = matchable(scores, mask_NN, abstain=abstain)
    arms = selection.select(weights, TOPICS, 0, np.random.default_rng(seed))
    return ranked, (arms, [scores[arm] for arm in arms])


def over_selections(test):
    """Run a test on many federations, masks and budgets."""
    cases = given(
        seed=SEEDS,
        num_agents=st.integers(2, 12),
        mask=MASKS,
        budget=BUDGETS,
        abstain=st.booleans(),
    )
    return settings(max_examples=150, deadline=None)(cases(test))


@over_selections
def test_distinct_worths_give_the_arms_and_scores_of_the_plain_selection(
    seed, num_agents, mask, budget, abstain
):
    rng = np.random.default_rng(seed)
    worths_NT = rng.normal(size=(num_agents, 4))
    missing_NT = rng.uniform(0.1, 1.0, (num_agents, 4))
    known = (mask_of(mask, num_agents, rng), budget, abstain, seed)
    (arms, scores), plain = both(worths_NT, missing_NT, *known)
    assert (arms, scores) == plain


@over_selections
def test_equal_worths_give_admissible_arms_of_the_same_scores(
    seed, num_agents, mask, budget, abstain
):
    rng = np.random.default_rng(seed)
    worths_NT = rng.integers(-1, 3, (num_agents, 4)) / 2.0
    missing_NT = rng.integers(0, 3, (num_agents, 4)) / 2.0
    mask_NN = mask_of(mask, num_agents, rng)
    (arms, scores), (plain_arms, plain_scores) = both(
        worths_NT, missing_NT, mask_NN, budget, abstain, seed
    )
    for j, i, topic in arms:
        assert j != i
        assert mask_NN is None or mask_NN[j, i]
        assert not abstain or missing_NT[i, topic] * worths_NT[j, topic] > 0
    assert scores == [missing_NT[i, topic] * worths_NT[j, topic] for j, i, topic in arms]
    binds = budget is not None and budget < sum(TOPICS.sizes)
    if binds:  # which of equal topics is asked about, and what then fits beside it, is drawn
        positive = [np.maximum(values, 0).sum() for values in (scores, plain_scores)]
        assert positive[0] == pytest.approx(positive[1])
        asked_N = np.zeros(num_agents)
        np.add.at(asked_N, [arm[1] for arm in arms], [TOPICS.sizes[arm[2]] for arm in arms])
        assert asked_N.max(initial=0) <= budget
    else:
        assert [arm[1:] for arm in arms] == [arm[1:] for arm in plain_arms]
        assert scores == plain_scores


def test_every_student_draws_anew_among_the_equals_that_it_may_ask():
    worths_NT = np.array([[1.0], [1.0], [0.5], [1.0], [1.0 - 1e-13], [0.0]])
    mask_NN = np.ones((6, 6), dtype=bool)
    mask_NN[3, 5] = False
    rng = np.random.default_rng(0)
    drawn = [best_teachers(worths_NT, np.ones((6, 1)), mask_NN, rng)[:, 0] for _ in range(3000)]
    for student, equals in ((0, {1, 3, 4}), (2, {0, 1, 3, 4}), (5, {0, 1, 4})):
        counts = Counter(int(teachers_N[student]) for teachers_N in drawn)
        assert set(counts) == equals
        expected = 3000 / len(equals)
        chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
        assert chi_square < 16.3  # one in a thousand, three degrees of freedom
    same = np.mean([teachers_N[2] == teachers_N[5] for teachers_N in drawn])
    assert same == pytest.approx(1 / 4, abs=0.04)  # three of twelve combinations


def test_who_misses_nothing_asks_anybody_and_who_may_ask_nobody_asks_nobody():
    worths_NT, missing_NT = np.array([[1.0], [0.9], [0.8]]), np.array([[1.0], [0.0], [1.0]])
    mask_NN = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    drawn = [
        best_teachers(worths_NT, missing_NT, mask_NN, np.random.default_rng(seed))[:, 0].tolist()
        for seed in range(40)
    ]
    assert {(first, last) for first, _, last in drawn} == {(1, NOBODY)}
    assert {middle for _, middle, _ in drawn} == {0, 2}


@pytest.mark.parametrize("budget", [None, 1, 3, 6])
def test_draws_are_those_of_the_plain_selection(budget):
    rng = np.random.default_rng(0)
    selection, mask_NN = Routed(budget=budget), mask_of("pairs", 4, rng)
    admissible = np.broadcast_to(mask_NN[:, :, None], (4, 4, 4))
    ranked, plain = Counter(), Counter()
    for _ in range(1000):
        ranked.update(selection.draw_ranked(4, mask_NN, TOPICS, rng))
        plain.update(selection.draw(admissible, TOPICS, 2, rng))
    assert set(ranked) == set(plain)
    for arm, count in plain.items():
        assert abs(ranked[arm] - count) < 4 * np.sqrt(2 * 1000 * 0.25)


def learned(policy, context, num_agents: int, **more):
    """A view of the second round, whose teachers differ by what they have answered."""
    rng = np.random.default_rng(1)
    ledger = Ledger()
    for teacher in range(num_agents):
        counts = zip(TOPICS.categories, TOPICS.sizes, strict=True)
        answers = []
        for category, size in counts:
            right = int(rng.integers(0, size + 1))
            new = int(rng.integers(0, right + 1))
            answers.append(TopicAnswers(category=category, asked=size, right=right, new=new))
        ledger.record(teacher, (teacher + 1) % num_agents, 1.0, answers)
    view = view_of(
        random_profiles(rng, num_agents),
        rng,
        round=2,
        context=context,
        matching=Routed(),
        topics=TOPICS,
        ledger=ledger,
        **more,
    )
    contexts_Kd = rng.random((20, context.num_features(32)))
    started(policy, contexts_Kd.shape[1]).learn(contexts_Kd, rng.random(20))
    return view


@pytest.mark.parametrize("context", [Topic(), TopicPast()])
@pytest.mark.parametrize("absent", [(), (3, 4, 20)])
def test_a_linear_policy_ranks_teachers_by_the_scores_of_all_arms(context, absent):
    num_agents = LARGE_BY_TOPIC + 8
    here_N = ~np.isin(np.arange(num_agents), absent)
    policy = LinUCB(exploration=0.3, regularization=0.1)
    mask_NN = here_N[:, None] & here_N if absent else None
    view = learned(policy, context, num_agents, admissible_NN=mask_NN)
    plan, scores = policy.propose(view), policy.scores(view)
    assert {directive.students[0] for directive in plan} == set(np.flatnonzero(here_N))
    best = np.where(np.eye(num_agents, dtype=bool)[:, :, None], -np.inf, scores)
    best = np.where(here_N[:, None, None], best, -np.inf).max(axis=0)
    equal = 2.0**-35 * np.abs(scores).max()  # scores closer than that count as equal
    for directive in plan:
        arm = view.arm_of(directive)
        assert scores[arm] == pytest.approx(best[arm[1:]], rel=0.0, abs=equal)
        assert directive.score == pytest.approx(scores[arm], rel=1e-12)


def test_a_model_that_is_not_finite_is_refused():
    with pytest.raises(ScoresError, match="finite"):
        both(np.full((3, 4), np.nan), np.ones((3, 4)), None, None, False, 0)


@pytest.mark.parametrize("policy", [LinUCB(), C2UCB(), Thompson(), Heuristic(), Random()])
def test_more_arms_than_can_be_held_are_no_hindrance_to_who_ranks_teachers(policy):
    view = learned(policy, Topic(), 2100)
    assert len(policy.propose(view)) == 2100 * len(TOPICS.sizes)


@pytest.mark.parametrize("policy", [NeuralLinear(seed=0, num_steps=1), RoundRobin()])
def test_more_arms_than_can_be_held_are_refused_to_who_scores_each(policy):
    view = learned(policy, Topic(), 2100)
    with pytest.raises(UserError, match=r"2100 agents and 4 topics have 1\.8e\+07 arms"):
        policy.propose(view)


def test_pairs_whose_contexts_sum_over_more_topics_than_can_be_held_are_refused():
    policy = LinUCB()
    view = replace(learned(policy, Topic(), 2100), matching=OneToMany())
    with pytest.raises(UserError, match="choose matching=routed"):
        policy.propose(view)
