"""Rounds over a network: who is waited for, who is not, and what a restart remembers."""

import pytest
from rounds import Town, expected_rows, profile, reward, told

from knexa.federation.scheduler import Sync
from knexa.network.errands import Answer
from knexa.network.refusals import RefusedError


def test_rounds_without_faults_are_those_of_one_process() -> None:
    town = Town()
    town.register()
    for _ in range(3):
        town.prepare(*reversed(town.terms.names))
        town.answer(*reversed(town.coordinator.errands))
    assert told(town.rows) == expected_rows()
    assert {town.order(name).kind for name in town.terms.names} == {"finished"}
    assert town.coordinator.is_over


def test_a_restart_at_any_moment_changes_nothing() -> None:
    town = Town()
    town.register()
    for _ in range(3):
        town.restart()
        town.prepare("a0", "a1")
        town.restart()  # profiles are forgotten and asked for again
        town.prepare()
        town.restart()
        first, *others = town.coordinator.errands
        town.answer(first)
        town.restart()
        town.answer(*others)
    assert told(town.rows) == expected_rows()


def test_the_first_round_waits_for_everybody() -> None:
    town = Town()
    town.register("a0", "a1", "a2")
    town.prepare("a0", "a1", "a2")
    town.wait(1000, "a0", "a1", "a2")
    assert town.coordinator.phase == "gather"
    town.register("a3")
    town.prepare("a3")
    assert town.coordinator.phase == "exchange"


def test_a_round_goes_on_without_who_has_vanished_and_with_who_returns() -> None:
    town = Town()
    town.register()
    town.prepare()
    town.answer()
    town.prepare("a0", "a1", "a2")
    assert town.coordinator.phase == "gather"
    town.wait(15, "a0", "a1", "a2")
    assert town.coordinator.phase == "exchange"
    assert all("a3" not in (e.teacher, e.student) for e in town.coordinator.errands.values())
    town.answer()
    town.register("a3", session="2")
    assert town.order("a3", session="2").kind == "prepare"
    assert town.coordinator.round == 3


def test_alone_nobody_goes_on() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    town.answer()
    town.prepare("a0")
    town.wait(100, "a0")
    assert (town.coordinator.round, town.coordinator.phase) == (2, "gather")


@pytest.mark.parametrize("gone", ["teacher", "student"])
def test_a_directive_whose_agent_vanishes_is_dropped(gone: str) -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    (errand,) = town.coordinator.errands.values()
    left, stays = errand.teacher, errand.student
    if gone == "student":
        left, stays = stays, left
    town.wait(15, stays)
    assert [row.outcome for row in town.rows] == ["dropped"]
    assert town.coordinator.cpm.pending == ()
    late = Answer(outcome="learned", reward=0.1)
    assert not town.coordinator.submit_feedback(errand.student, "1", errand.directive.id, late)


def test_a_teacher_that_has_delivered_may_leave() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    (errand,) = town.coordinator.errands.values()
    town.order(errand.student, received=[errand.directive.id])
    town.wait(15, errand.student)
    assert town.rows == []
    town.answer()
    assert [row.outcome for row in town.rows] == ["delivered"]


def test_a_student_that_comes_back_without_its_package_is_taught_again() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    (errand,) = town.coordinator.errands.values()
    town.order(errand.student, received=[errand.directive.id])
    assert town.order(errand.teacher).kind == "wait"
    town.register(errand.student, session="2")
    (again,) = town.order(errand.teacher).errands
    assert (again.attempt, again.received) == (1, False)


def test_a_directive_that_nobody_answers_is_given_up() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    town.wait(99, "a0", "a1")
    assert town.rows == []
    town.wait(3, "a0", "a1")
    assert [row.outcome for row in town.rows] == ["lost"]


def test_a_teacher_learns_what_came_of_its_lesson_until_it_has_noted_it() -> None:
    town = Town(num_agents=2, num_rounds=2)
    town.register()
    town.prepare()
    (errand,) = town.coordinator.errands.values()
    id_, teacher = errand.directive.id, errand.teacher
    town.answer()
    results = town.order(teacher).results
    assert results == {id_: {"reward": reward(id_), "items_kept": 0}}
    assert town.order(errand.student).results == {}
    town.restart()
    assert town.order(teacher).results == results
    town.prepare()
    assert town.coordinator.members[teacher].results == {}


def test_quorum_ends_a_round_and_the_late_answer_counts_later() -> None:
    town = Town(sync=Sync(mode="async", quorum=0.5, timer_s=30.0))
    town.register()
    town.prepare()
    early, late = town.coordinator.errands
    busy = town.coordinator.errands[late]
    town.answer(early)
    assert town.coordinator.round == 2
    assert [row.id for row in town.rows] == [early]
    assert town.order(busy.student).kind == "exchange"
    free = [n for n in town.terms.names if n not in (busy.teacher, busy.student)]
    town.prepare(*free)
    assert town.coordinator.phase == "exchange"
    town.answer(late)
    town.answer()
    row = next(row for row in town.rows if row.id == late)
    assert (row.outcome, row.round, row.issued_round) == ("late", 2, 1)


def test_a_timer_ends_a_round_that_has_no_quorum() -> None:
    town = Town(sync=Sync(mode="async", quorum=1.0, timer_s=30.0))
    town.register("a0", "a1", "a2")
    town.prepare("a0", "a1")
    town.wait(29, "a0", "a1", "a2")
    assert town.coordinator.phase == "gather"
    town.wait(2, "a0", "a1", "a2")
    assert town.coordinator.phase == "exchange"
    town.wait(31, "a0", "a1", "a2")
    assert town.coordinator.round == 2
    assert len(town.coordinator.errands) == 1  # still under way


def test_the_last_round_waits_for_everything() -> None:
    town = Town(sync=Sync(mode="async", quorum=0.5, timer_s=30.0), num_rounds=1)
    town.register()
    town.prepare()
    first, second = town.coordinator.errands
    town.answer(first)
    assert town.coordinator.phase == "exchange"
    town.answer(second)
    assert town.coordinator.phase == "finished"


def refusal(call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    return caught.value.reason


def test_feedback_counts_once_and_from_its_student_alone() -> None:
    town = Town()
    town.register()
    town.prepare()
    id_, errand = next(iter(town.coordinator.errands.items()))
    submit, answer = town.coordinator.submit_feedback, Answer(outcome="learned", reward=0.1)
    assert refusal(submit, errand.teacher, "1", id_, answer) == "identity"
    assert submit(errand.student, "1", id_, answer)
    assert submit(errand.student, "1", id_, answer)
    other = Answer(outcome="learned", reward=0.2)
    assert refusal(submit, errand.student, "1", id_, other) == "feedback"
    town.answer(*[other for other in town.coordinator.errands if other != id_])
    assert town.coordinator.round == 2
    assert submit(errand.student, "1", id_, answer)  # the acknowledgement was lost
    assert not submit(errand.teacher, "1", id_, answer)
    assert not submit(errand.student, "1", "r9-9", answer)
    assert [row.reward_raw for row in town.rows if row.id == id_] == [0.1]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(outcome="learned", reward=float("nan")),
        Answer(outcome="learned", reward=1e9),
        Answer(outcome="learned", kilobytes=-1.0),
        Answer(outcome="learned", kilobytes=float("inf")),
        Answer(outcome="learned", items_sent=1 << 30),
        Answer(outcome="learned", guardrail={"more": 1}),
    ],
)
def test_implausible_feedback_is_refused_and_the_directive_stays_open(answer: Answer) -> None:
    town = Town()
    town.register()
    town.prepare()
    id_, errand = next(iter(town.coordinator.errands.items()))
    submit = town.coordinator.submit_feedback
    assert refusal(submit, errand.student, "1", id_, answer) == "feedback"
    assert errand.answer is None


def test_profiles_that_are_none_are_refused() -> None:
    town = Town()
    town.register()
    for wrong in ([], [0.0] * 3, [float("nan")] * 4, [1e6] * 4):
        submit = town.coordinator.submit_profile
        assert refusal(submit, "a0", "1", 1, wrong, []) == "profile"


def test_strangers_and_other_configurations_are_refused() -> None:
    town = Town()
    given = {"address": "h:1", "session": "1", "agreement": "alike", "profile": profile("a0", 0)}
    register = town.coordinator.register
    assert refusal(register, "mallory", **given) == "identity"
    assert refusal(register, "a0", **(given | {"agreement": "else"})) == "disagreement"
    assert refusal(register, "a0", **(given | {"address": ""})) == "malformed"
    assert refusal(town.coordinator.beat, "a0", "1") == "unexpected"


def test_the_newest_process_of_an_agent_speaks_for_it() -> None:
    town = Town()
    town.register()
    town.register("a0", session="2")
    rounds, answer = town.coordinator, Answer(outcome="learned", reward=0.1)
    assert refusal(rounds.beat, "a0", "1") == "identity"
    assert refusal(rounds.submit_profile, "a0", "1", 1, profile("a0", 1), []) == "identity"
    assert refusal(rounds.submit_feedback, "a0", "1", "r1-0", answer) == "identity"
    rounds.beat("a0", "2")
    rounds.submit_profile("a0", "2", 1, profile("a0", 1), [])
    assert rounds.members["a0"].prepared_round == 1


@pytest.mark.parametrize("half", ["gather", "exchange"])
def test_an_agent_that_is_back_on_an_older_checkpoint_updates_again(half: str) -> None:
    town = Town()
    town.register()
    town.prepare(*town.terms.names[: 3 if half == "gather" else 4])
    assert town.coordinator.phase == half
    town.prepared.clear()
    town.register("a0", session="1")
    before = town.order("a0")
    assert (before.kind, before.round) == ("prepare", 1)
    town.coordinator.submit_profile("a0", "1", 1, profile("a0", 1), [])
    town.prepared["a0"] = 1
    assert town.order("a0").kind == ("wait" if half == "gather" else "exchange")


def test_a_profile_that_is_late_is_nothing_wrong_and_changes_nothing() -> None:
    town = Town()
    town.register()
    town.prepare()
    town.coordinator.submit_profile("a0", "1", 1, [0.5] * 4, [])
    assert town.coordinator.members["a0"].profile == profile("a0", 1)
