"""Selections that are no pairings, against every plan that they allow."""

from collections import Counter
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.config.components import instantiate
from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.heuristic import Heuristic
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.plans import Directive, Feedback
from knexa.matchmaking.random import Random
from knexa.matchmaking.regret import selection_regret_row
from knexa.matchmaking.round_robin import RoundRobin
from knexa.matchmaking.round_view import Probe
from knexa.matchmaking.selections import Broadcast, OneToMany, Routed
from knexa.matchmaking.self_taught import SelfTaught
from knexa.matchmaking.topic_contexts import Topic
from knexa.matchmaking.weights import ScoresError
from tests.matchmaking.matchmaking_worlds import cpm_of, node_of, random_profiles, view_of

TOPICS = TransferTopics(categories=(0, 3, 4, 11), sizes=(3, 2, 5, 1))
SEEDS = st.integers(0, 2**32 - 1)


def view(selection, seed: int = 0, num_agents: int = 4, **more):
    rng = np.random.default_rng(seed)
    profiles_NF = random_profiles(rng, num_agents)
    return view_of(profiles_NF, rng, matching=selection, topics=TOPICS, context=Topic(), **more)


def sets_of(sizes, budget):
    """Every set of topics within the budget to which none could be added."""
    places = range(len(sizes))
    within = [
        frozenset(chosen)
        for number in range(len(sizes) + 1)
        for chosen in combinations(places, number)
        if sum(sizes[place] for place in chosen) <= budget
    ]
    return [chosen for chosen in within if not any(chosen < other for other in within)]


def scores_of(seed: int, num_agents: int, shift: float, some_inadmissible: bool, by_topic: bool):
    rng = np.random.default_rng(seed)
    shape = (num_agents, num_agents, len(TOPICS.sizes))[: 2 + by_topic]
    scores = rng.normal(size=shape) + shift
    if some_inadmissible:
        scores[rng.random((num_agents, num_agents)) < 0.3] = -np.inf
    return scores


@settings(max_examples=80, deadline=None)
@given(
    seed=SEEDS,
    num_agents=st.integers(2, 4),
    capacity=st.none() | st.integers(1, 3),
    some_inadmissible=st.booleans(),
)
def test_one_to_many_is_the_best_of_all_plans_that_serve_most(
    seed, num_agents, capacity, some_inadmissible
):
    scores_NN = scores_of(seed, num_agents, 0.0, some_inadmissible, by_topic=False)
    plans = []
    for teachers in product([None, *range(num_agents)], repeat=num_agents):
        arms = [(j, i) for i, j in enumerate(teachers) if j is not None]
        load = Counter(j for j, _ in arms)
        may = all(j != i and scores_NN[j, i] != -np.inf for j, i in arms)
        if may and max(load.values(), default=0) <= (capacity or num_agents):
            plans.append((len(arms), sum(scores_NN[arm] for arm in arms)))
    selection = OneToMany(capacity=capacity)
    for rng in (None, np.random.default_rng(seed)):
        arms = selection.select(scores_NN, TOPICS, 2, rng)
        total = sum(scores_NN[arm] for arm in arms)
        assert (len(arms), total) == (max(plans)[0], pytest.approx(max(plans)[1]))


@settings(max_examples=80, deadline=None)
@given(
    seed=SEEDS,
    shift=st.sampled_from([-3.0, 0.0, 3.0]),
    budget=st.none() | st.integers(1, 12),
    some_inadmissible=st.booleans(),
)
def test_routed_asks_the_best_teachers_about_the_topics_that_pay_most(
    seed, shift, budget, some_inadmissible
):
    scores_NNT = scores_of(seed, 3, shift, some_inadmissible, by_topic=True)
    selection = Routed(budget=budget)
    arms = selection.select(scores_NNT, TOPICS, 1, np.random.default_rng(seed))
    assert len({arm[1:] for arm in arms}) == len(arms)
    for student in range(3):
        mine = [arm for arm in arms if arm[1] == student]
        scores_NT = scores_NNT[:, student].copy()
        scores_NT[student] = -np.inf
        best_T = scores_NT.max(axis=0)
        served = [t for t in range(len(TOPICS.sizes)) if best_T[t] != -np.inf]
        assert all(scores_NNT[arm] == best_T[arm[2]] for arm in mine)
        asked = {arm[2] for arm in mine}
        if budget is None:
            assert asked == set(served)
            continue
        sizes = [TOPICS.sizes[t] for t in served]
        assert sum(TOPICS.sizes[t] for t in asked) <= budget
        # Nothing that pays is left out for something that does not, and nothing that fits at all.
        assert {served.index(t) for t in asked} in sets_of(sizes, budget)
        most = max(
            sum(max(best_T[served[place]], 0.0) for place in chosen)
            for chosen in sets_of(sizes, budget)
        )
        assert sum(max(best_T[t], 0.0) for t in asked) == pytest.approx(most)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, budget=st.none() | st.integers(1, 12))
def test_who_abstains_asks_for_nothing_that_does_not_pay(seed, budget):
    seen = view(Routed(budget=budget), seed)
    scores = np.random.default_rng(seed).normal(size=seen.shape) - 0.5
    plan = seen.match(scores, abstain=True)
    assert all(directive.score > 0.0 for directive in plan)
    assert seen.match(-np.abs(scores), abstain=True) == ()
    (student, topic) = (plan[0].students[0], plan[0].topics) if plan else (0, None)
    assert sum(d.students[0] == student and d.topics == topic for d in plan) <= 1


def test_ties_are_broken_at_random_and_evenly():
    seen = view(Routed(), num_agents=3)
    counts = Counter(
        (directive.pair, directive.topics)
        for _ in range(400)
        for directive in seen.match(np.zeros(seen.shape))
    )
    assert len(counts) == 3 * 2 * 4
    assert min(counts.values()) > 140  # of 200 expected; 6 standard deviations below
    capped = view(OneToMany(capacity=1), num_agents=3)
    plans = Counter(tuple(d.pair for d in capped.match(np.zeros((3, 3)))) for _ in range(400))
    assert len(plans) == 2
    assert min(plans.values()) > 140


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, budget=st.none() | st.integers(1, 12), is_one_away=st.booleans())
def test_the_random_policy_earns_what_its_row_expects(seed, budget, is_one_away):
    rng = np.random.default_rng(seed)
    rewards_NNT = rng.random((4, 4, 4))
    available_N = np.array([True, True, True, not is_one_away])
    may_NN = available_N[:, None] & available_N[None, :] & ~np.eye(4, dtype=bool)
    selection = Routed(budget=budget)
    probe = Probe(rewards=rewards_NNT, no_teacher_N=np.zeros(4))
    row = selection_regret_row(1, probe, (), selection, TOPICS, available_N)
    totals = []
    for student in np.flatnonzero(available_N):
        means_T = rewards_NNT[may_NN[:, student], student].mean(axis=0)
        chosen = sets_of(TOPICS.sizes, sum(TOPICS.sizes) if budget is None else budget)
        totals.append(np.mean([sum(means_T[t] for t in each) for each in chosen]))
    assert row.random == pytest.approx(sum(totals))
    seen = view(selection, seed, admissible_NN=may_NN)
    drawn = [
        sum(rewards_NNT[seen.arm_of(directive)] for directive in Random().propose(seen))
        for _ in range(300)
    ]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - row.random) < 6.0 * error + 1e-9


def test_a_capacity_has_an_expectation_where_everybody_may_teach():
    rewards_NN = np.random.default_rng(3).random((4, 4))
    selection = OneToMany(capacity=1)
    probe = Probe(rewards=rewards_NN, no_teacher_N=np.zeros(4))
    row = selection_regret_row(1, probe, (), selection, TOPICS)
    seen = view(selection)
    totals = [sum(rewards_NN[d.pair] for d in Random().propose(seen)) for _ in range(3000)]
    assert row.random == pytest.approx(np.mean(totals), abs=6 * np.std(totals) / np.sqrt(3000))
    blocked = np.where(np.arange(16).reshape(4, 4) == 1, -np.inf, rewards_NN)
    row = selection_regret_row(
        1, Probe(rewards=blocked, no_teacher_N=np.zeros(4)), (), selection, TOPICS
    )
    assert row.random is None


@pytest.mark.parametrize(
    "selection", [OneToMany(), OneToMany(capacity=2), Routed(), Routed(budget=6)]
)
def test_the_oracle_has_no_regret_to_the_last_bit_and_others_have_some(selection):
    seen = view(selection, seed=5)
    rewards = np.random.default_rng(5).random(seen.shape)
    rewards[range(4), range(4)] = np.nan
    probe = Probe(rewards=rewards, no_teacher_N=np.zeros(4))
    seen = view(selection, seed=5, probe=probe)
    row = selection_regret_row(1, probe, Oracle().propose(seen), selection, TOPICS)
    assert row.best == row.chosen
    assert row.random < row.best
    for policy in (Random(), RoundRobin(), Heuristic()):
        plan = policy.propose(seen)
        assert len(plan) > 0
        assert selection_regret_row(1, probe, plan, selection, TOPICS).chosen < row.best


def test_a_plan_of_other_arms_has_no_total():
    rewards = np.ones((4, 4, 4))
    rewards[range(4), range(4)] = np.nan
    probe = Probe(rewards=rewards, no_teacher_N=np.zeros(4))

    def about(*topics):
        return Directive(
            id="r1-0", teachers=(0,), students=(1,), protocol="akd", topics=topics or None
        )

    def chosen(*plan):
        return selection_regret_row(1, probe, plan, Routed(), TOPICS).chosen

    assert chosen(about(3)) == 1.0
    assert chosen() == 0.0
    assert [chosen(about(*topics)) for topics in ((), (1,), (0, 3))] == [None] * 3
    assert chosen(about(3), about(3)) is None
    assert chosen(*SelfTaught().propose(view(Routed()))) is None
    rewards[0, 1, 1] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        chosen(about(3))


def test_metadata_routing_asks_who_has_most_data_of_a_topic():
    seen = view(Routed(), seed=2)
    shares_NT = seen.profiles_NF[:, -12:][:, list(TOPICS.categories)]
    for teacher, student, place in map(seen.arm_of, Heuristic().propose(seen)):
        others = [agent for agent in range(4) if agent != student]
        assert shares_NT[teacher, place] == shares_NT[others, place].max()


@pytest.mark.parametrize("selection", [OneToMany(), OneToMany(capacity=1), Routed()])
def test_round_robin_lets_everybody_teach_everybody_about_everything_once_a_cycle(selection):
    arms = Counter(
        seen.arm_of(directive)
        for round in range(1, 4)
        for seen in [view(selection, round=round)]
        for directive in RoundRobin().propose(seen)
    )
    shape = view(selection).shape
    assert set(arms) == {arm for arm in np.ndindex(shape) if arm[0] != arm[1]}
    assert set(arms.values()) == {1}


def test_broadcast_is_everybody_to_everybody():
    away_N = np.array([True, True, False, True])
    seen = view(Broadcast(), admissible_NN=away_N[:, None] & away_N[None, :])
    plan = Random().propose(seen)
    assert {d.pair for d in plan} == {(j, i) for j in (0, 1, 3) for i in (0, 1, 3) if i != j}
    assert all(directive.topics is None for directive in plan)


@pytest.mark.parametrize(
    "selection", [OneToMany(), OneToMany(capacity=1), Routed(), Routed(budget=6), Exact()]
)
@pytest.mark.parametrize("name", ["linucb", "c2ucb", "thompson", "neural_linear"])
def test_learners_score_arms_without_knowing_their_shape(name, selection):
    context = Topic() if selection.by_topic else Interaction()
    policy = instantiate(node_of(f"matchmaker/{name}"), key="matchmaker")
    cpm = cpm_of(policy, context=context, matching=selection, topics=TOPICS)
    num_arms = {"OneToMany": 4, "Routed": 16, "Exact": 2}[type(selection).__name__]
    for round in (1, 2, 3):
        rng = np.random.default_rng(round)
        plan = cpm.propose(round, random_profiles(rng, 4), rng)
        if selection == Routed(budget=6):
            assert 8 <= len(plan) <= 12  # sets of two or three of the four topics
        else:
            assert len(plan) == num_arms
        assert all((directive.topics is None) != selection.by_topic for directive in plan)
        rewards = rng.random(len(plan))
        cpm.receive(
            [
                Feedback(directive_id=d.id, reward=float(r))
                for d, r in zip(plan, rewards, strict=True)
            ]
        )
    assert len(cpm.ledger) >= 3 * min(num_arms, 8)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ScoresError, match=r"\(4, 4, 4\), \[teacher, student, topic\]"):
        view(Routed()).match(np.zeros((4, 4)))
    with pytest.raises(ScoresError, match=r"\(4, 4\), \[teacher, student\]"):
        view(Exact()).match(np.zeros((4, 4, 4)))
    with pytest.raises(ScoresError, match="finite"):
        view(Routed()).match(np.full((4, 4, 4), np.nan))


@pytest.mark.parametrize("budget", [2, 5, None])
def test_who_teaches_itself_asks_as_many_answers_as_it_may_and_all_topics_in_turn(budget):
    ledger, asked = Ledger(), []
    for _ in range(6):
        plan = SelfTaught().propose(view(Routed(budget=budget), ledger=ledger))
        assert [directive.pair for directive in plan] == [(i, i) for i in range(4)]
        topics = plan[2].topics or TOPICS.categories
        asked.append(topics)
        assert sum(map(TOPICS.size, topics)) <= (budget or sum(TOPICS.sizes))
        for directive in plan:
            ledger.record(
                *directive.pair,
                0.0,
                [
                    TopicAnswers(category=c, asked=TOPICS.size(c), right=0, new=0)
                    for c in directive.topics or TOPICS.categories
                ],
            )
    affordable = {c for c in TOPICS.categories if TOPICS.size(c) <= (budget or 99)}
    assert set().union(*asked[: len(affordable)]) == affordable
    assert (plan[0].topics is None) == (budget is None)
