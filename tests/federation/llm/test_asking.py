"""``exchange.ask=missing``: students ask for what they lack, and a teacher writes it once."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from knexa.agents import phases, solve
from knexa.agents.exchange_protocol import Question
from knexa.exchange.package import decode
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.regret import selection_regret_row
from knexa.matchmaking.rewards import NewAnswers
from knexa.matchmaking.selections import Routed
from knexa.protocols.akd_verified import AKDVerified
from tests.federation.carrying_out import carry_out
from tests.federation.llm import small_worlds
from tests.federation.llm.small_worlds import world

ALL = AKDVerified(num_steps=1)
MISSING = replace(ALL, ask="missing")
ROUTES = ((1, 0), (1, 2), (2, 1))
"""Teacher and student: the first two ask the same teacher."""


@pytest.fixture(autouse=True)
def some_answers_pass(monkeypatch):
    small_worlds.let_some_answers_pass(monkeypatch)


@pytest.fixture
def decoded(monkeypatch):
    """The problems that teachers decoded answers to, by agent."""
    tasks: dict[int, list[str]] = {0: [], 1: [], 2: []}
    answer = solve.answer

    def noted(runtime, state, problems, **options):
        if options["temperature"] > 0.0:  # what is measured is greedy
            tasks[state.index] += [problem.task_id for problem in problems]
        return answer(runtime, state, problems, **options)

    monkeypatch.setattr(solve, "answer", noted)
    return tasks


def routed(made, round_number):
    """A plan in which every student asks its teacher about every topic."""
    arms = [(*route, topic) for route in ROUTES for topic in made.topics.categories]
    return tuple(
        Directive(
            id=f"r{round_number}-{number}",
            teachers=(teacher,),
            students=(student,),
            protocol=made.protocol_name,
            topics=(topic,),
        )
        for number, (teacher, student, topic) in enumerate(arms)
    )


def live(made, round_number, plan=None):
    """A round; returns its packages, its exchanges and its rows."""
    made.begin_round(round_number)
    plan = routed(made, round_number) if plan is None else plan
    packages = made.packages(round_number, plan)
    exchanges = carry_out(made, round_number, plan)
    return packages, exchanges, made.rows(round_number, exchanges)


def begun(made):
    """The world after a first round in which agent 2 asked about every second topic only."""
    plan = routed(made, 1)
    live(made, 1, [each for each in plan if each.students != (2,) or each.topics[0] % 2])
    return made


def kept(made):
    return [{text.task_id for text in state.replay} for state in made.states]


def totals(exchanges, rows):
    answers = [each for exchange in exchanges for each in exchange.answers]
    return {
        "asked": sum(each.asked for each in answers),
        "new": sum(each.new for each in answers),
        "kilobytes": sum(row.kilobytes_received for row in rows),
        "tokens": sum(row.tokens_generated for row in rows),
    }


def test_who_has_nothing_asks_for_everything_and_later_for_less_of_the_same_worth():
    worlds = [world(protocol, reward=NewAnswers()) for protocol in (ALL, MISSING)]
    first, frugal = (totals(*live(made, 1)[1:]) for made in worlds)
    assert first == frugal
    assert first["asked"] == 3 * 12
    assert kept(worlds[0]) == kept(worlds[1])
    second, frugal = (totals(*live(made, 2)[1:]) for made in worlds)
    assert frugal["new"] == second["new"] > 0
    for cost in ("asked", "kilobytes", "tokens"):
        assert frugal[cost] < second[cost], cost


def test_a_student_is_sent_only_what_it_asked_and_counts_as_much():
    made = begun(world(MISSING, reward=NewAnswers()))
    before, problems = kept(made), made.runtime.transfer_by_id
    packages, exchanges, _ = live(made, 2)
    for exchange in exchanges:
        (student,), (topic,) = exchange.directive.students, exchange.directive.topics
        lacks = {
            task_id
            for task_id, problem in problems.items()
            if problem.category == topic and task_id not in before[student]
        }
        (counts,) = exchange.answers
        assert counts.asked == len(lacks)
        assert exchange.reward == counts.new / made.topics.size(topic)
        (package,) = packages[exchange.directive.id].values()
        sent = {item.task_id for item in decode(package.parts[0]).items}
        assert sent <= lacks
        assert exchange.kilobytes == package.kilobytes
    assert before[0] != before[2]  # the two students of one teacher asked different things


def test_a_teacher_writes_once_what_is_asked_and_no_more_whatever_is_measured(decoded):
    made = begun(world(MISSING, reward=NewAnswers()))
    before = kept(made)
    for tasks in decoded.values():
        tasks.clear()
    _, exchanges, rows = live(made, 2)
    everything = set(made.runtime.transfer_by_id)
    assert set(decoded[1]) == everything - (before[0] & before[2])
    assert set(decoded[2]) == everything - before[1]
    assert decoded[0] == []
    made.probe(2, by_topic=True)
    for tasks in decoded.values():
        assert Counter(tasks) == Counter(everything)
    assert made.rows(2, exchanges) == rows  # what only measures is no cost of the method
    whole = phases.teach(made.runtime, made.states[0], 2, 0)[0][0].tokens_generated
    assert rows[0].tokens_generated == 0 < whole


def test_what_two_students_ask_is_generated_once():
    made = begun(world(MISSING, reward=NewAnswers()))
    made.begin_round(2)
    packages = made.packages(2, routed(made, 2)).values()
    tokens = made.rows(2, [])[1].tokens_generated
    asked = frozenset(made.runtime.transfer_by_id) - (kept(made)[0] & kept(made)[2])
    (union,), _ = phases.teach(made.runtime, made.states[1], 2, 1, (Question(missing=asked),))
    assert tokens == union.tokens_generated
    assert tokens < sum(each[1].tokens_generated for each in packages if 1 in each)


def test_regret_is_exact_when_it_is_measured_after_the_packages_are_written():
    made, selection = world(MISSING, reward=NewAnswers()), Routed()
    for round_number in (1, 2):
        made.begin_round(round_number)
        plan = routed(made, round_number)
        made.packages(round_number, plan)
        probe = made.probe(round_number, by_topic=True)
        exchanges = carry_out(made, round_number, plan)
        arms = [selection.arm_of(directive, made.topics) for directive in plan]
        assert [e.reward for e in exchanges] == [float(probe.rewards[arm]) for arm in arms]
        row = selection_regret_row(round_number, probe, plan, selection, made.topics)
        assert row.best > row.chosen > 0.0


def test_who_teaches_itself_asks_itself_for_what_it_lacks(decoded):
    made = world(MISSING, reward=NewAnswers())

    def alone(number):
        id_ = f"r{number}-0"
        return (Directive(id=id_, teachers=(0,), students=(0,), protocol="akd_verified"),)

    live(made, 1, alone(1))
    before = kept(made)[0]
    decoded[0].clear()
    _, (exchange,), rows = live(made, 2, alone(2))
    assert set(decoded[0]) == set(made.runtime.transfer_by_id) - before
    assert sum(each.asked for each in exchange.answers) == len(decoded[0]) < 12
    assert (exchange.kilobytes, rows[0].kilobytes_received) == (0.0, 0.0)


def test_who_lacks_nothing_asks_for_nothing(monkeypatch, decoded):
    monkeypatch.setattr(small_worlds, "passes", lambda *_: True)
    made = world(MISSING, reward=NewAnswers())
    live(made, 1)
    live(made, 2)  # some answers were blank in the first round
    lacking = [set(made.runtime.transfer_by_id) - each for each in kept(made)]
    for tasks in decoded.values():
        tasks.clear()
    _, exchanges, rows = live(made, 3)
    assert set(decoded[2]) == lacking[1]
    for exchange in exchanges:
        (counts,) = exchange.answers
        assert counts.asked <= len(lacking[exchange.directive.students[0]])
    done = [e for e in exchanges if e.answers[0].asked == 0]
    assert done
    assert {(e.items_sent, e.items_kept, e.reward) for e in done} == {(0, 0, 0.0)}
    assert all(row.learn_loss is not None for row in rows)


def test_peers_are_scouted_by_what_a_student_lacks_and_paid_for_once():
    made = world(MISSING, reward=NewAnswers())
    live(made, 1)
    made.begin_round(2)
    losses = made.peer_losses(2, by_topic=True)
    assert losses.shape == (3, 3, len(made.topics.categories))
    assert np.isnan(losses[range(3), range(3)]).all()
    scouted = [row.kilobytes_scouted for row in made.rows(2, [])]
    everything = world(ALL, reward=NewAnswers())
    live(everything, 1)
    everything.begin_round(2)
    everything.peer_losses(2, by_topic=True)
    dear = [row.kilobytes_scouted for row in everything.rows(2, [])]
    assert all(0 < cheap < full for cheap, full in zip(scouted, dear, strict=True))
    plan = routed(made, 2)
    made.packages(2, plan)
    rows = made.rows(2, carry_out(made, 2, plan))
    for row, before in zip(rows, scouted, strict=True):
        assert row.kilobytes_received > 0
        assert row.kilobytes_scouted + row.kilobytes_received == pytest.approx(before)
