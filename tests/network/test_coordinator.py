"""The coordinator's rounds: which agents are waited for, and what survives a restart."""

import pytest

from knexa.errors import UserError
from knexa.federation.simulated_network.scheduler import Sync
from knexa.matchmaking.answers import TopicAnswers
from knexa.network.refusals import RefusedError
from knexa.network.reports import StudentReport
from tests.network.rounds import Harness, expected_rows, profile, report, reward, told


def test_rounds_without_faults_are_those_of_one_process() -> None:
    harness = Harness()
    harness.register()
    for _ in range(3):
        harness.prepare(*reversed(harness.config.names))
        harness.answer(*reversed(harness.coordinator.assignments))
    assert told(harness.rows) == expected_rows()
    assert {harness.order(name).kind for name in harness.config.names} == {"finished"}
    assert harness.coordinator.is_over


def test_a_restart_at_any_moment_changes_nothing() -> None:
    harness = Harness()
    harness.register()
    for _ in range(3):
        harness.restart()
        harness.prepare("a0", "a1")
        harness.restart()  # profiles are forgotten and asked for again
        harness.prepare()
        harness.restart()
        first, *others = harness.coordinator.assignments
        harness.answer(first)
        harness.restart()
        harness.answer(*others)
    assert told(harness.rows) == expected_rows()


def test_routed_rounds_are_those_of_one_process_whenever_it_restarts() -> None:
    harness = Harness(routed=True)
    harness.register()
    for _ in range(3):
        harness.prepare()
        harness.restart()
        assert len(harness.coordinator.assignments) == 4 * 2
        first, *others = reversed(harness.config.names)
        harness.answer(*asked_by(harness, first))
        harness.restart()
        harness.answer(*(id_ for name in others for id_ in asked_by(harness, name)))
    assert told(harness.rows) == expected_rows(routed=True)


def asked_by(harness: Harness, student: str) -> list[str]:
    """The directives of a student's that are under way."""
    assignments = harness.coordinator.assignments
    return [id_ for id_, each in assignments.items() if each.student == student]


def test_what_was_learned_together_counts_together_or_not_at_all() -> None:
    harness = Harness(routed=True)
    harness.register()
    harness.prepare()
    assignments = harness.coordinator.assignments
    student, (one, two) = next(
        (name, asked_by(harness, name))
        for name in harness.config.names
        if len({assignments[id_].teacher for id_ in asked_by(harness, name)}) == 2
    )
    gone = assignments[two].teacher
    both = {id_: report(id_, assignments[id_].directive.topics) for id_ in (one, two)}
    harness.order(student, received=[one])  # the other teacher leaves before its package arrives
    harness.wait(15, *(name for name in harness.config.names if name != gone))
    assert not harness.coordinator.submit_feedback(student, "1", both)
    assert assignments[one].report is None
    ordered = harness.order(student).assignments
    assert [each.directive.id for each in ordered if each.student == student] == [one]
    assert harness.coordinator.submit_feedback(student, "1", {one: both[one]})
    assert harness.coordinator.submit_feedback(student, "1", {one: both[one]})  # said twice
    assert not harness.coordinator.submit_feedback(student, "1", both)


def test_a_plan_that_teaches_a_group_is_refused_in_a_line_that_says_what_to_do() -> None:
    harness = Harness()
    policy = harness.coordinator.cpm.matchmaker
    policy.propose = lambda view: (view.directive(0, (0, 1), (2,)),)  # type: ignore[method-assign]
    harness.register()
    with pytest.raises(UserError, match=r"LinUCB\.propose: over a network a directive has one"):
        harness.prepare()


def test_the_first_round_waits_for_everybody() -> None:
    harness = Harness()
    harness.register("a0", "a1", "a2")
    harness.prepare("a0", "a1", "a2")
    harness.wait(1000, "a0", "a1", "a2")
    assert harness.coordinator.phase == "gather"
    harness.register("a3")
    harness.prepare("a3")
    assert harness.coordinator.phase == "exchange"


def test_a_round_goes_on_without_who_has_vanished_and_with_who_returns() -> None:
    harness = Harness()
    harness.register()
    harness.prepare()
    harness.answer()
    harness.prepare("a0", "a1", "a2")
    assert harness.coordinator.phase == "gather"
    harness.wait(15, "a0", "a1", "a2")
    assert harness.coordinator.phase == "exchange"
    assert all("a3" not in (e.teacher, e.student) for e in harness.coordinator.assignments.values())
    harness.answer()
    harness.register("a3", incarnation="2")
    assert harness.order("a3", incarnation="2").kind == "prepare"
    assert harness.coordinator.round == 3


def test_alone_nobody_goes_on() -> None:
    harness = Harness(num_agents=2)
    harness.register()
    harness.prepare()
    harness.answer()
    harness.prepare("a0")
    harness.wait(100, "a0")
    assert (harness.coordinator.round, harness.coordinator.phase) == (2, "gather")


@pytest.mark.parametrize("gone", ["teacher", "student"])
def test_a_directive_whose_agent_vanishes_is_dropped(gone: str) -> None:
    harness = Harness(num_agents=2)
    harness.register()
    harness.prepare()
    (assignment,) = harness.coordinator.assignments.values()
    left, stays = assignment.teacher, assignment.student
    if gone == "student":
        left, stays = stays, left
    harness.wait(15, stays)
    assert [row.outcome for row in harness.rows] == ["dropped"]
    assert harness.coordinator.cpm.pending == ()
    late = StudentReport(outcome="learned", reward=0.1)
    assert not harness.coordinator.submit_feedback(
        assignment.student, "1", {assignment.directive.id: late}
    )


def test_a_teacher_that_has_delivered_may_leave() -> None:
    harness = Harness(num_agents=2)
    harness.register()
    harness.prepare()
    (assignment,) = harness.coordinator.assignments.values()
    harness.order(assignment.student, received=[assignment.directive.id])
    harness.wait(15, assignment.student)
    assert harness.rows == []
    harness.answer()
    assert [row.outcome for row in harness.rows] == ["delivered"]


def test_a_student_that_comes_back_without_its_package_is_taught_again() -> None:
    harness = Harness(num_agents=2)
    harness.register()
    harness.prepare()
    (assignment,) = harness.coordinator.assignments.values()
    harness.order(assignment.student, received=[assignment.directive.id])
    assert harness.order(assignment.teacher).kind == "wait"
    harness.register(assignment.student, incarnation="2")
    (again,) = harness.order(assignment.teacher).assignments
    assert (again.attempt, again.received) == (1, False)


def test_a_directive_that_nobody_answers_is_given_up() -> None:
    harness = Harness(num_agents=2)
    harness.register()
    harness.prepare()
    harness.wait(99, "a0", "a1")
    assert harness.rows == []
    harness.wait(3, "a0", "a1")
    assert [row.outcome for row in harness.rows] == ["lost"]


def test_a_teacher_learns_what_came_of_its_lesson_until_it_has_noted_it() -> None:
    harness = Harness(num_agents=2, num_rounds=2)
    harness.register()
    harness.prepare()
    (assignment,) = harness.coordinator.assignments.values()
    id_, teacher = assignment.directive.id, assignment.teacher
    harness.answer()
    results = harness.order(teacher).results
    assert results == {id_: {"reward": reward(id_), "items_kept": 0}}
    assert harness.order(assignment.student).results == {}
    harness.restart()
    assert harness.order(teacher).results == results
    harness.prepare()
    assert harness.coordinator.members[teacher].results == {}


def test_quorum_ends_a_round_and_the_late_answer_counts_later() -> None:
    harness = Harness(sync=Sync(mode="async", quorum=0.5, timer_s=30.0))
    harness.register()
    harness.prepare()
    early, late = harness.coordinator.assignments
    busy = harness.coordinator.assignments[late]
    harness.answer(early)
    assert harness.coordinator.round == 2
    assert [row.id for row in harness.rows] == [early]
    assert harness.order(busy.student).kind == "exchange"
    free = [n for n in harness.config.names if n not in (busy.teacher, busy.student)]
    harness.prepare(*free)
    assert harness.coordinator.phase == "exchange"
    harness.answer(late)
    harness.answer()
    row = next(row for row in harness.rows if row.id == late)
    assert (row.outcome, row.round, row.issued_round) == ("late", 2, 1)


def test_a_timer_ends_a_round_that_has_no_quorum() -> None:
    harness = Harness(sync=Sync(mode="async", quorum=1.0, timer_s=30.0))
    harness.register("a0", "a1", "a2")
    harness.prepare("a0", "a1")
    harness.wait(29, "a0", "a1", "a2")
    assert harness.coordinator.phase == "gather"
    harness.wait(2, "a0", "a1", "a2")
    assert harness.coordinator.phase == "exchange"
    harness.wait(31, "a0", "a1", "a2")
    assert harness.coordinator.round == 2
    assert len(harness.coordinator.assignments) == 1  # still under way


def test_the_last_round_waits_for_everything() -> None:
    harness = Harness(sync=Sync(mode="async", quorum=0.5, timer_s=30.0), num_rounds=1)
    harness.register()
    harness.prepare()
    first, second = harness.coordinator.assignments
    harness.answer(first)
    assert harness.coordinator.phase == "exchange"
    harness.answer(second)
    assert harness.coordinator.phase == "finished"


def refusal(call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(RefusedError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    return caught.value.reason


def test_feedback_counts_once_and_from_its_student_alone() -> None:
    harness = Harness()
    harness.register()
    harness.prepare()
    id_, assignment = next(iter(harness.coordinator.assignments.items()))
    answer = StudentReport(outcome="learned", reward=0.1)

    def submit(name: str, incarnation: str, id_: str, report: StudentReport) -> bool:
        return harness.coordinator.submit_feedback(name, incarnation, {id_: report})

    assert refusal(submit, assignment.teacher, "1", id_, answer) == "identity"
    assert submit(assignment.student, "1", id_, answer)
    assert submit(assignment.student, "1", id_, answer)
    other = StudentReport(outcome="learned", reward=0.2)
    assert refusal(submit, assignment.student, "1", id_, other) == "feedback"
    harness.answer(*[other for other in harness.coordinator.assignments if other != id_])
    assert harness.coordinator.round == 2
    assert submit(assignment.student, "1", id_, answer)  # the acknowledgement was lost
    assert not submit(assignment.teacher, "1", id_, answer)
    assert not submit(assignment.student, "1", "r9-9", answer)
    assert [row.reward_raw for row in harness.rows if row.id == id_] == [0.1]


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
    harness = Harness()
    harness.register()
    harness.prepare()
    id_, assignment = next(iter(harness.coordinator.assignments.items()))
    submit = harness.coordinator.submit_feedback
    assert refusal(submit, assignment.student, "1", {id_: answer}) == "feedback"
    assert assignment.report is None


def counted(category: int, asked: int, right: int, new: int) -> TopicAnswers:
    return TopicAnswers(category=category, asked=asked, right=right, new=new)


@pytest.mark.parametrize(
    ("answers", "reward", "said"),
    [
        ([(0, 4, 2, 1)], 0.5, "a reward of 0.5 is not what its answers are worth"),
        ([(0, 4, 2, 1)], -0.25, "a reward of -0.25 is not what its answers are worth"),
        ([], 0.0, "other topics than it asks about"),
        ([(3, 2, 1, 1)], 0.5, "other topics than it asks about"),
        ([(0, 4, 2, 1), (3, 2, 1, 1)], 0.75, "other topics than it asks about"),
        ([(0, 4, 2, 1), (0, 4, 2, 1)], 0.5, "other topics than it asks about"),
        ([(2**32 - 1, 0, 0, 0)], 0.0, "other topics than it asks about"),
        ([(0, 5, 5, 5)], 1.25, "counts of answers cannot be"),
        ([(0, 2, 3, 0)], 0.0, "counts of answers cannot be"),
        ([(0, 4, 1, 2)], 0.5, "counts of answers cannot be"),
    ],
)
def test_counts_of_answers_that_cannot_be_are_refused_and_harm_nobody(
    answers: list[tuple[int, int, int, int]], reward: float, said: str
) -> None:
    harness = Harness(routed=True)
    harness.register()
    harness.prepare()
    assignments = harness.coordinator.assignments
    id_, liar = next(
        (id_, each) for id_, each in assignments.items() if each.directive.topics == (0,)
    )
    counts = tuple(counted(*each) for each in answers)
    forged = StudentReport(outcome="learned", reward=reward, answers=counts)
    other = next(each for each in asked_by(harness, liar.student) if each != id_)
    honest = report(other, assignments[other].directive.topics)
    with pytest.raises(RefusedError, match=said) as caught:
        harness.coordinator.submit_feedback(liar.student, "1", {other: honest, id_: forged})
    assert caught.value.reason == "feedback"
    assert (assignments[id_].report, assignments[other].report) == (None, None)
    harness.answer()
    assert told(harness.rows) == expected_rows(routed=True)[: len(harness.rows)] != []


def test_who_did_not_learn_counts_nothing() -> None:
    harness = Harness(routed=True)
    harness.register()
    harness.prepare()
    id_, assignment = next(iter(harness.coordinator.assignments.items()))
    lost = StudentReport(outcome="lost", answers=(counted(0, 4, 4, 4),))
    submit = harness.coordinator.submit_feedback
    assert refusal(submit, assignment.student, "1", {id_: lost}) == "feedback"
    assert refusal(submit, assignment.student, "1", {}) == "feedback"


def test_profiles_that_are_none_are_refused() -> None:
    harness = Harness()
    harness.register()
    for wrong in ([], [0.0] * 3, [float("nan")] * 4, [1e6] * 4):
        submit = harness.coordinator.submit_profile
        assert refusal(submit, "a0", "1", 1, wrong, []) == "profile"


def test_strangers_and_other_configurations_are_refused() -> None:
    harness = Harness()
    given = {
        "address": "h:1",
        "incarnation": "1",
        "agreement": "alike",
        "profile": profile("a0", 0),
    }
    register = harness.coordinator.register
    assert refusal(register, "mallory", **given) == "identity"
    assert refusal(register, "a0", **(given | {"agreement": "else"})) == "disagreement"
    assert refusal(register, "a0", **(given | {"address": ""})) == "malformed"
    assert refusal(harness.coordinator.beat, "a0", "1") == "unexpected"


def test_the_newest_process_of_an_agent_speaks_for_it() -> None:
    harness = Harness()
    harness.register()
    harness.register("a0", incarnation="2")
    rounds, answer = harness.coordinator, StudentReport(outcome="learned", reward=0.1)
    assert refusal(rounds.beat, "a0", "1") == "identity"
    assert refusal(rounds.submit_profile, "a0", "1", 1, profile("a0", 1), []) == "identity"
    assert refusal(rounds.submit_feedback, "a0", "1", {"r1-0": answer}) == "identity"
    rounds.beat("a0", "2")
    rounds.submit_profile("a0", "2", 1, profile("a0", 1), [])
    assert rounds.members["a0"].prepared_round == 1


@pytest.mark.parametrize("half", ["gather", "exchange"])
def test_an_agent_that_is_back_on_an_older_checkpoint_updates_again(half: str) -> None:
    harness = Harness()
    harness.register()
    harness.prepare(*harness.config.names[: 3 if half == "gather" else 4])
    assert harness.coordinator.phase == half
    harness.prepared.clear()
    harness.register("a0", incarnation="1")
    before = harness.order("a0")
    assert (before.kind, before.round) == ("prepare", 1)
    harness.coordinator.submit_profile("a0", "1", 1, profile("a0", 1), [])
    harness.prepared["a0"] = 1
    assert harness.order("a0").kind == ("wait" if half == "gather" else "exchange")


def test_a_profile_that_is_late_is_nothing_wrong_and_changes_nothing() -> None:
    harness = Harness()
    harness.register()
    harness.prepare()
    harness.coordinator.submit_profile("a0", "1", 1, [0.5] * 4, [])
    assert harness.coordinator.members["a0"].profile == profile("a0", 1)


def frugal() -> Harness:
    """Registered agents that ask for what they lack of six transfer problems."""
    harness = Harness(routed=True, categories=(0, 0, 3, 0, 0, 3))
    harness.register()
    return harness


def test_a_student_asks_for_what_it_lacks_of_each_topic_also_after_a_restart() -> None:
    harness = frugal()
    lacking = {"a0": [0, 2, 3, 5], "a1": [0, 1, 2, 3, 4, 5], "a2": [], "a3": [1]}
    for name, missing in lacking.items():
        harness.coordinator.submit_profile(name, "1", 1, profile(name, 1), [], missing)
        harness.prepared[name] = 1
    harness.restart()
    asked = {
        (each.student, each.directive.topics): each.missing
        for name in lacking
        for each in harness.order(name).assignments
    }
    assert asked == {
        **{("a0", (0,)): (0, 3), ("a0", (3,)): (2, 5), ("a1", (0,)): (0, 1, 3, 4)},
        **{("a1", (3,)): (2, 5), ("a2", (0,)): (), ("a2", (3,)): ()},
        **{("a3", (0,)): (1,), ("a3", (3,)): ()},
    }


@pytest.mark.parametrize("missing", [[1, 0], [0, 0], [99], [-1]])
def test_problems_that_cannot_be_lacking_are_refused(missing: list[int]) -> None:
    ordinary = Harness(routed=True)  # everybody asks for everything
    ordinary.register()
    for harness, lacks in ((frugal(), missing), (ordinary, missing), (ordinary, [0])):
        submit = harness.coordinator.submit_profile
        assert refusal(submit, "a0", "1", 1, profile("a0", 1), [], lacks) == "profile"
        assert harness.coordinator.members["a0"].prepared_round == 0


def test_nobody_counts_more_answers_than_it_asked_for() -> None:
    harness = frugal()
    for name in harness.config.names:
        harness.coordinator.submit_profile(name, "1", 1, profile(name, 1), [], [0])
    id_, first = next(
        (id_, each)
        for id_, each in harness.coordinator.assignments.items()
        if each.directive.topics == (0,)
    )
    other = next(each for each in asked_by(harness, first.student) if each != id_)
    for asked, outcome in ((2, "feedback"), (1, None)):
        counts = counted(0, asked, 0, 0)
        reports = {
            id_: StudentReport(outcome="learned", answers=(counts,)),
            other: StudentReport(outcome="learned", answers=(counted(3, 0, 0, 0),)),
        }
        if outcome is None:
            assert harness.coordinator.submit_feedback(first.student, "1", reports)
        else:
            submit = harness.coordinator.submit_feedback
            assert refusal(submit, first.student, "1", reports) == outcome
