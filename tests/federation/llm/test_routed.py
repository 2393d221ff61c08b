"""Routed exchange among three small agents: what is asked, what counts, what a probe costs."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from knexa.agents import phases
from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.exchange_protocol import Question
from knexa.engine.object_refs import fetched
from knexa.exchange.package import KnowledgePackage, TextItem, decode, encode
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.plans import Directive, Feedback
from knexa.matchmaking.regret import selection_regret_row
from knexa.matchmaking.rewards import NewAnswers
from knexa.matchmaking.selections import OneToMany, Routed
from knexa.matchmaking.self_taught import SelfTaught
from knexa.matchmaking.topic_contexts import Topic
from knexa.profiles.build import Paper32
from knexa.protocols.akd_verified import AKDVerified
from tests.federation.carrying_out import carry_out
from tests.federation.llm import small_worlds
from tests.federation.llm.small_worlds import passes, world

PROTOCOL = AKDVerified(num_steps=1)


@pytest.fixture(autouse=True)
def some_answers_pass(monkeypatch):
    small_worlds.let_some_answers_pass(monkeypatch)


@pytest.fixture
def lived():
    """A world after the local updates of its first round."""
    made = world(PROTOCOL, reward=NewAnswers())
    made.begin_round(1)
    return made


def asks(index: int, teacher: int, student: int, *topics: int) -> Directive:
    return Directive(
        id=f"r1-{index}",
        teachers=(teacher,),
        students=(student,),
        protocol=PROTOCOL.name,
        topics=topics or None,
    )


def answers_of(package) -> dict[str, str]:
    return {item.task_id: item.completion for item in decode(fetched(package).text).items}


def known(made, student: int) -> set[str]:
    return {text.task_id for text in made.states[student].replay}


def test_an_answer_does_not_depend_on_what_else_is_asked(lived):
    topics = lived.topics.categories
    three_topics = Question(topics[3:6])
    asked = (Question(), *(Question((c,)) for c in topics), three_topics)
    (whole, *parts, three), _ = phases.teach(lived.runtime, lived.states[0], 1, 0, asked)
    (alone,), _ = phases.teach(lived.runtime, lived.states[0], 1, 0, (three_topics,))
    assert answers_of(alone) == answers_of(three)
    joined = {}
    for part in parts:
        joined |= answers_of(part)
    assert joined == answers_of(whole)
    assert len(joined) > 6
    assert sum(part.tokens_generated for part in parts) == whole.tokens_generated
    assert sum(part.items_sent for part in parts) == whole.items_sent


def test_a_reward_is_the_share_of_the_topic_that_the_student_could_not_answer(lived):
    problems = lived.runtime.benchmark.transfer
    topics = lived.topics.categories
    plan = tuple(asks(k, 1, 0, topic) for k, topic in enumerate(topics))
    for round_number in (1, 2):
        before = known(lived, 0)
        exchanges = carry_out(lived, round_number, plan)
        new = known(lived, 0) - before
        for topic, exchange in zip(topics, exchanges, strict=True):
            of_topic = {each.task_id for each in problems if each.category == topic}
            (counts,) = exchange.answers
            assert (counts.category, counts.asked) == (topic, len(of_topic))
            assert counts.new == len(new & of_topic)
            assert exchange.reward == counts.new / len(of_topic)
        assert sum(exchange.items_kept for exchange in exchanges) > 0
        lived.begin_round(round_number + 1)
    assert len(before) > 0  # the second round was of a student that had answers


def test_a_problem_that_two_teachers_bring_counts_for_the_first(lived, monkeypatch):
    monkeypatch.setattr(small_worlds, "passes", lambda *_: True)
    both = carry_out(lived, 1, (asks(0, 1, 0), asks(1, 2, 0)))
    counts = [sum(each.new for each in exchange.answers) for exchange in both]
    rights = [sum(each.right for each in exchange.answers) for exchange in both]
    assert counts[0] == rights[0]
    assert counts[1] < rights[1]
    assert sum(counts) == len(known(lived, 0))


@pytest.mark.parametrize("selection", [OneToMany(), Routed(), Routed(budget=5)])
def test_a_probe_trains_nobody_and_says_what_the_exchange_will_earn(selection, monkeypatch):
    made = world(PROTOCOL, reward=NewAnswers())
    cpm = CPM(
        matchmaker=Oracle(),
        context=Topic(),
        matching=selection,
        reward=made.reward,
        protocol=PROTOCOL.name,
        num_profile_features=len(Paper32.feature_names),
        topics=made.topics,
    )
    for round_number in (1, 2):
        made.begin_round(round_number)
        with monkeypatch.context() as patch:
            patch.setattr(phases, "learn", lambda *_: pytest.fail("a probe trained somebody"))
            probe = made.probe(round_number, by_topic=selection.by_topic)
        rng = np.random.default_rng(round_number)
        plan = cpm.propose(round_number, made.profiles(), rng, probe=probe)
        exchanges = carry_out(made, round_number, plan)
        arms = [selection.arm_of(directive, made.topics) for directive in plan]
        assert [e.reward for e in exchanges] == [float(probe.rewards[arm]) for arm in arms]
        row = selection_regret_row(round_number, probe, plan, selection, made.topics)
        assert row.best == row.chosen > 0.0
        assert row.random < row.best


def test_answers_that_nobody_asked_for_are_not_kept(lived):
    asked, other = lived.topics.categories[:2]
    problems = lived.runtime.benchmark.transfer
    right = [f"    return {number}\n" for number in range(50)]
    items = tuple(
        TextItem(task_id=each.task_id, completion=next(r for r in right if passes(each, r)))
        for each in problems
        if each.category in (asked, other)
    )
    text = encode(KnowledgePackage(sender="a1", round=1, items=items))
    about = Question((asked,))
    (package,), _ = phases.teach(lived.runtime, lived.states[1], 1, 1, (about,))
    received = phases.receive(lived.runtime, replace(package, text=text), 1, about)
    by_id = lived.runtime.transfer_by_id
    assert {by_id[item.task_id].category for item in received.items} == {asked}
    about = Question((asked, other))
    received = phases.receive(lived.runtime, replace(package, text=text), 1, about)
    assert {by_id[item.task_id].category for item in received.items} == {asked, other}


def test_who_teaches_itself_keeps_its_right_answers_and_sends_nothing(lived):
    view = SimpleNamespace(
        available=[0, 2],
        num_agents=3,
        topics=lived.topics,
        ledger=Ledger(),
        matching=Routed(),
        directive=lambda k, j, i, topics: asks(k, *j, *i, *(topics or ())),
    )
    plan = SelfTaught().propose(view)
    lived.packages(1, plan)
    exchanges = carry_out(lived, 1, plan)
    for agent, exchange in zip((0, 2), exchanges, strict=True):
        assert sum(each.asked for each in exchange.answers) == 12
        assert sum(each.new for each in exchange.answers) == len(known(lived, agent)) > 0
        assert exchange.kilobytes == 0.0
    rows = lived.rows(1, exchanges)
    assert [row.kilobytes_received for row in rows] == [0.0, 0.0, 0.0]
    assert [row.tokens_generated > 0 for row in rows] == [True, False, True]


def test_the_cpm_counts_what_students_lack_and_goes_on_from_its_state(lived):
    def cpm():
        return CPM(
            matchmaker=LinUCB(regularization=0.1, exploration=0.3),
            context=Topic(),
            matching=Routed(),
            reward=lived.reward,
            protocol=PROTOCOL.name,
            num_profile_features=len(Paper32.feature_names),
            topics=lived.topics,
        )

    first = cpm()
    profiles_NF = lived.profiles()
    plan = first.propose(1, profiles_NF, np.random.default_rng(1))
    assert len(plan) == 3 * len(lived.topics.categories)
    interrupted = cpm()
    interrupted.load_state_dict(first.state_dict())
    exchanges = carry_out(lived, 1, plan)
    feedbacks = [
        Feedback(directive_id=e.directive.id, reward=e.reward, answers=e.answers) for e in exchanges
    ]
    plans = []
    for each in (first, interrupted):
        each.receive(feedbacks)
        restored = cpm()
        restored.load_state_dict(each.state_dict())
        for one in (each, restored):
            plans.append(one.propose(2, profiles_NF, np.random.default_rng(2)))
        new_NC = each.ledger.new_answers(3)
        for student in range(3):
            assert new_NC[student].sum() == len(known(lived, student))
    assert plans.count(plans[0]) == 4


def test_a_forger_forges_the_counts_that_it_reports_too():
    liars = ByzantineAgents(members=(0, 2), attacks=frozenset({"forged"}))
    made = world(PROTOCOL, reward=NewAnswers(), byzantine=liars)
    made.begin_round(1)
    asked, other = made.topics.categories[:2]
    plan = (asks(0, 2, 0, asked), asks(1, 1, 0, other), asks(2, 0, 1, other))
    praise, blame, honest = carry_out(made, 1, plan)
    assert (praise.reward, blame.reward) == (1.0, -1.0)
    assert [(each.asked, each.right, each.new) for each in praise.answers] == [(1, 1, 1)]
    assert [(each.asked, each.right, each.new) for each in blame.answers] == [(1, 0, 0)]
    assert honest.answers[0].new == len(known(made, 1))


def test_peer_losses_by_topic_are_of_the_answers_on_the_topic_and_paid_for_once(lived):
    by_topic = lived.peer_losses(1, by_topic=True)
    num_topics = len(lived.topics.categories)
    assert by_topic.shape == (3, 3, num_topics)
    assert np.isnan(by_topic[range(3), range(3)]).all()
    assert len(np.unique(by_topic[np.isfinite(by_topic)])) > num_topics
    sent = [row.kilobytes_scouted for row in lived.rows(1, [])]
    assert min(sent) > 0
    plan = tuple(asks(k, 1, 0, topic) for k, topic in enumerate(lived.topics.categories))
    exchanges = carry_out(lived, 1, plan)
    rows = lived.rows(1, exchanges)
    assert rows[0].kilobytes_scouted + rows[0].kilobytes_received == pytest.approx(sent[0])
    assert [row.kilobytes_scouted for row in rows[1:]] == sent[1:]
