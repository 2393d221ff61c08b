"""Rounds over a network: who is waited for, who is not, and what a restart remembers."""

import pytest
from rounds import Town, expected_rows, profile, reward, told

from knexa.federation.dispatch import Sync
from knexa.network.assignments import StudentReport
from knexa.network.refusals import RefusedError


def test_rounds_without_faults_are_those_of_one_process() -> None:
    town = Town()
    town.register()
    for _ in range(3):
        town.prepare(*reversed(town.config.names))
        town.answer(*reversed(town.coordinator.assignments))
    assert told(town.rows) == expected_rows()
    assert {town.order(name).kind for name in town.config.names} == {"finished"}
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
        first, *others = town.coordinator.assignments
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
    assert all("a3" not in (e.teacher, e.student) for e in town.coordinator.assignments.values())
    town.answer()
    town.register("a3", incarnation="2")
    assert town.order("a3", incarnation="2").kind == "prepare"
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
    (assignment,) = town.coordinator.assignments.values()
    left, stays = assignment.teacher, assignment.student
    if gone == "student":
        left, stays = stays, left
    town.wait(15, stays)
    assert [row["outcome"] for row in town.rows] == ["dropped"]
    assert town.coordinator.cpm.pending == ()
    late = StudentReport(outcome="learned", reward=0.1)
    assert not town.coordinator.submit_feedback(
        assignment.student, "1", assignment.directive.id, late
    )


def test_a_teacher_that_has_delivered_may_leave() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    (assignment,) = town.coordinator.assignments.values()
    town.order(assignment.student, received=[assignment.directive.id])
    town.wait(15, assignment.student)
    assert town.rows == []
    town.answer()
    assert [row["outcome"] for row in town.rows] == ["delivered"]


def test_a_student_that_comes_back_without_its_package_is_taught_again() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    (assignment,) = town.coordinator.assignments.values()
    town.order(assignment.student, received=[assignment.directive.id])
    assert town.order(assignment.teacher).kind == "wait"
    town.register(assignment.student, incarnation="2")
    (again,) = town.order(assignment.teacher).assignments
    assert (again.attempt, again.received) == (1, False)


def test_a_directive_that_nobody_answers_is_given_up() -> None:
    town = Town(num_agents=2)
    town.register()
    town.prepare()
    town.wait(99, "a0", "a1")
    assert town.rows == []
    town.wait(3, "a0", "a1")
    assert [row["outcome"] for row in town.rows] == ["lost"]


def test_a_teacher_learns_what_came_of_its_lesson_until_it_has_noted_it() -> None:
    town = Town(num_agents=2, num_rounds=2)
    town.register()
    town.prepare()
    (assignment,) = town.coordinator.assignments.values()
    id_, teacher = assignment.directive.id, assignment.teacher
    town.answer()
    results = town.order(teacher).results
    assert results == {id_: {"reward": reward(id_), "items_kept": 0}}
    assert town.order(assignment.student).results == {}
    town.restart()
    assert town.order(teacher).results == results
    town.prepare()
    assert town.coordinator.members[teacher].results == {}


def test_quorum_ends_a_round_and_the_late_answer_counts_later() -> None:
    town = Town(sync=Sync(mode="async", quorum=0.5, timer_s=30.0))
    town.register()
    town.prepare()
    early, late = town.coordinator.assignments
    busy = town.coordinator.assignments[late]
    town.answer(early)
    assert town.coordinator.round == 2
    assert [row["id"] for row in town.rows] == [early]
    assert town.order(busy.student).kind == "exchange"
    free = [n for n in town.config.names if n not in (busy.teacher, busy.student)]
    town.prepare(*free)
    assert town.coordinator.phase == "exchange"
    town.answer(late)
    town.answer()
    row = next(row for row in town.rows if row["id"] == late)
    assert (row["outcome"], row["round"], row["issued_round"]) == ("late", 2, 1)


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
    assert len(town.coordinator.assignments) == 1  # still under way


def test_the_last_round_waits_for_everything() -> None:
    town = Town(sync=Sync(mode="async", quorum=0.5, timer_s=30.0), num_rounds=1)
    town.register()
    town.prepare()
    first, second = town.coordinator.assignments
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
    id_, assignment = next(iter(town.coordinator.assignments.items()))
    submit, answer = town.coordinator.submit_feedback, StudentReport(outcome="learned", reward=0.1)
    assert refusal(submit, assignment.teacher, "1", id_, answer) == "identity"
    assert submit(assignment.student, "1", id_, answer)
    assert submit(assignment.student, "1", id_, answer)
    other = StudentReport(outcome="learned", reward=0.2)
    assert refusal(submit, assignment.student, "1", id_, other) == "feedback"
    town.answer(*[other for other in town.coordinator.assignments if other != id_])
    assert town.coordinator.round == 2
    assert submit(assignment.student, "1", id_, answer)  # the acknowledgement was lost
    assert not submit(assignment.teacher, "1", id_, answer)
    assert not submit(assignment.student, "1", "r9-9", answer)
    assert [row["reward_raw"] for row in town.rows if row["id"] == id_] == [0.1]


@pytest.mark.parametrize(
    "answer",
    [
        StudentReport(outcome="learned", reward=float("nan")),
        StudentReport(outcome="learned", reward=1e9),
        StudentReport(outcome="learned", kilobytes=-1.0),
        StudentReport(outcome="learned", kilobytes=float("inf")),
        StudentReport(outcome="learned", items_sent=1 << 30),
        StudentReport(outcome="learned", guardrail={"more": 1}),
    ],
)
def test_implausible_feedback_is_refused_and_the_directive_stays_open(
    answer: StudentReport,
) -> None:
    town = Town()
    town.register()
    town.prepare()
    id_, assignment = next(iter(town.coordinator.assignments.items()))
    submit = town.coordinator.submit_feedback
    assert refusal(submit, assignment.student, "1", id_, answer) == "feedback"
    assert assignment.report is None


def test_profiles_that_are_none_are_refused() -> None:
    town = Town()
    town.register()
    for wrong in ([], [0.0] * 3, [float("nan")] * 4, [1e6] * 4):
        submit = town.coordinator.submit_profile
        assert refusal(submit, "a0", "1", 1, wrong, []) == "profile"


def test_strangers_and_other_configurations_are_refused() -> None:
    town = Town()
    given = {
        "address": "h:1",
        "incarnation": "1",
        "agreement": "alike",
        "profile": profile("a0", 0),
    }
    register = town.coordinator.register
    assert refusal(register, "mallory", **given) == "identity"
    assert refusal(register, "a0", **(given | {"agreement": "else"})) == "disagreement"
    assert refusal(register, "a0", **(given | {"address": ""})) == "malformed"
    assert refusal(town.coordinator.beat, "a0", "1") == "unexpected"


def test_the_newest_process_of_an_agent_speaks_for_it() -> None:
    town = Town()
    town.register()
    town.register("a0", incarnation="2")
    rounds, answer = town.coordinator, StudentReport(outcome="learned", reward=0.1)
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
    town.prepare(*town.config.names[: 3 if half == "gather" else 4])
    assert town.coordinator.phase == half
    town.prepared.clear()
    town.register("a0", incarnation="1")
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
