"""One agent's process does what the federation in one process does, restarted after every step."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from knexa.agents.exchange_protocol import Question
from knexa.agents.state import AgentState, save_state
from knexa.agents.training import DPTraining
from knexa.errors import UserError
from knexa.federation.llm.answers import AnswerCounts
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.rewards import NewAnswers
from knexa.network.llm_backend import LLMBackend
from knexa.network.packages import NamedDirective
from knexa.profiles.build import Paper32
from knexa.protocols.akd import AKD
from knexa.protocols.akd_verified import AKDVerified
from knexa.tracking.run_directory import RunDirectory
from tests.federation.carrying_out import carry_out
from tests.federation.llm import small_worlds

LESSON = NamedDirective(id="r1-0", teacher="a0", student="a1", address="", round=1)


@pytest.fixture
def world() -> Any:
    """Three agents in one process."""
    return small_worlds.world(AKD(num_steps=1))


class Member:
    """An agent that is killed after every step, and starts again from its folder."""

    def __init__(self, world: Any, index: int, folder: Path, agreement: str = "alike") -> None:
        self._world, self._index, self._agreement = world, index, agreement
        self._folder = RunDirectory(folder).acquire()

    def __getattr__(self, step: str) -> Any:
        work = LLMBackend(
            self._world.runtime,
            self._index,
            profile=Paper32(),
            reward=self._world.reward,
            release=lambda profiles_NF, round_number: profiles_NF,
            agreement=self._agreement,
            folder=self._folder,
        )
        return getattr(work, step)


def as_bytes(state: AgentState, folder: Path) -> bytes:
    save_state(folder / "state", state)
    return (folder / "state").read_bytes()


def test_teacher_and_student_end_as_in_one_process(world: Any, tmp_path: Path) -> None:
    teacher, student = (Member(world, index, tmp_path / str(index)) for index in (0, 1))
    assert teacher.first_profile() == world.profiles()[0].tolist()
    world.begin_round(1)
    directive = Directive(id="r1-0", teachers=(0,), students=(1,), protocol="akd")

    shown, noted = teacher.prepare(1, {})
    assert (shown, noted) == (world.profiles()[0].tolist(), [])
    assert teacher.prepare(1, {})[0] == shown  # asked twice, updated once
    student.prepare(1, {})
    packages = teacher.teach([LESSON])
    assert teacher.teach([LESSON]) == packages
    answers = student.learn([LESSON], packages)
    assert student.pending == answers
    answer = answers["r1-0"]
    student.settle(counts=True)
    assert student.pending is None
    student.settle(counts=True)  # said twice
    results = {"r1-0": {"reward": answer.reward, "items_kept": answer.items_kept}}
    teacher.finish(results)
    teacher.finish(results)

    (exchange,) = carry_out(world, 1, (directive,))
    assert (answer.reward, answer.kilobytes) == (exchange.reward, exchange.kilobytes)
    assert (answer.items_sent, answer.items_kept) == (exchange.items_sent, exchange.items_kept)
    assert answer.guardrail == exchange.guardrail
    for index, member in enumerate((teacher, student)):
        alone = as_bytes(world.states[index], tmp_path)
        assert as_bytes(member.state, tmp_path) == alone, index


@pytest.fixture
def ask() -> str:
    """What students ask for; tests may set it."""
    return "all"


@pytest.fixture
def routed_world(monkeypatch: pytest.MonkeyPatch, ask: Literal["all", "missing"]) -> Any:
    """The same under a reward of answers."""
    small_worlds.let_some_answers_pass(monkeypatch)
    return small_worlds.world(AKDVerified(num_steps=1, ask=ask), reward=NewAnswers())


def asks(number: int, teacher: int, student: int, *topics: int, round: int = 1) -> NamedDirective:
    return NamedDirective(
        id=f"r{round}-{number}",
        teacher=f"a{teacher}",
        student=f"a{student}",
        address="",
        round=round,
        topics=topics or None,
    )


def planned(directive: NamedDirective) -> Directive:
    teacher, student = int(directive.teacher[1:]), int(directive.student[1:])
    return Directive(
        id=directive.id,
        teachers=(teacher,),
        students=(student,),
        protocol="akd_verified",
        topics=directive.topics,
    )


@pytest.mark.parametrize("ask", ["all", "missing"])
def test_a_student_of_many_directives_learns_once_as_in_one_process(
    routed_world: Any, tmp_path: Path, ask: str
) -> None:
    world = routed_world
    members = [Member(world, index, tmp_path / str(index)) for index in range(3)]
    one, two, *others = world.topics.categories
    results: dict[int, dict[str, Any]] = {index: {} for index in range(3)}
    known = 0
    for number in (1, 2):
        plan = [
            asks(0, 1, 0, one, round=number),
            asks(1, 2, 0, two, round=number),
            asks(2, 1, 0, *others, round=number),
            asks(3, 2, 0, round=number),  # all topics: some of what it brings has come before
            asks(4, 1, 2, one, round=number),  # of one text with the first
            asks(5, 1, 1, round=number),  # teaches itself
        ]
        world.begin_round(number)
        for index, member in enumerate(members):
            member.prepare(number, results[index])
        lacking = {f"a{index}": tuple(member.missing) for index, member in enumerate(members)}
        assert all(map(len, lacking.values())) == (ask == "missing")
        plan = [replace(each, missing=lacking[each.student]) for each in plan]
        packages = {}
        for index, member in enumerate(members):
            packages |= member.teach([each for each in plan if each.teacher == f"a{index}"])
        if ask == "all" or number == 1:
            assert packages[f"r{number}-0"] == packages[f"r{number}-4"]
        reports, results = {}, {index: {} for index in range(3)}
        for index, member in enumerate(members):
            mine = [each for each in plan if each.student == f"a{index}"]
            reports |= member.learn(mine, packages)
            member.settle(counts=True)
        for directive in plan:
            report = reports[directive.id]
            results[int(directive.teacher[1:])][directive.id] = {
                "reward": report.reward,
                "items_kept": report.items_kept,
            }
        exchanges = carry_out(world, number, tuple(map(planned, plan)))
        for exchange in exchanges:
            report = reports[exchange.directive.id]
            for name in ("reward", "kilobytes", "items_sent", "items_kept", "answers", "guardrail"):
                assert getattr(report, name) == getattr(exchange, name), (exchange.directive, name)
        rights, news = (
            [sum(getattr(each, name) for each in exchange.answers) for exchange in exchanges]
            for name in ("right", "new")
        )
        assert sum(news) > 0
        known += rights[3] - news[3]
    assert known > 0
    for index, member in enumerate(members):
        member.finish(results[index])
        assert as_bytes(member.state, tmp_path) == as_bytes(world.states[index], tmp_path), index


def test_a_package_that_is_lost_or_bad_spoils_no_other(
    routed_world: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = routed_world
    teachers = [Member(world, index, tmp_path / str(index)) for index in (1, 2)]
    one, two, three, four = world.topics.categories[:4]
    plan = [asks(0, 1, 0, one), asks(1, 1, 0, two), asks(2, 1, 0, three), asks(3, 2, 0, four)]
    packages = {**teachers[0].teach(plan[:3]), **teachers[1].teach(plan[3:])}
    alone = Member(world, 0, tmp_path / "alone").learn(plan[3:], packages)
    del packages["r1-0"]
    packages["r1-1"] = packages["r1-1"][:-9]
    packages["r1-2"] = packages["r1-3"]  # a2's answers are on another topic than this one asks
    student = Member(world, 0, tmp_path / "0")
    reports = student.learn(plan, packages)
    assert {id_: report.outcome for id_, report in reports.items()} == {
        "r1-0": "lost",
        "r1-1": "refused",
        "r1-2": "refused",
        "r1-3": "learned",
    }
    assert reports["r1-3"] == alone["r1-3"]
    bad, other = caplog.messages
    assert bad.startswith("a1's package for r1-1 is refused: ")
    assert other == "a1's package for r1-2 is refused: unexpected: it answers what was not asked"
    student.settle(counts=True)
    assert student.state.history.learn_rewards == (reports["r1-3"].reward,)


@pytest.mark.parametrize("ask", ["missing"])
def test_an_answer_to_a_problem_that_was_not_asked_is_refused(
    routed_world: Any, tmp_path: Path, ask: str
) -> None:
    world = routed_world
    teacher, student = (Member(world, index, tmp_path / str(index)) for index in (1, 0))
    places = tuple(range(len(world.runtime.benchmark.transfer)))
    everything = replace(asks(0, 1, 0), missing=places)
    package = teacher.teach([everything])
    unknown = replace(everything, missing=(*places, 2**32 - 1))  # of another transfer set
    assert Member(world, 1, tmp_path / "other").teach([unknown]) == package
    less = replace(everything, missing=places[1:])
    assert student.learn([less], package)["r1-0"].outcome == "refused"
    student.settle(counts=True)
    assert student.learn([everything], package)["r1-0"].outcome == "learned"


def test_answers_to_what_was_not_asked_this_round_do_not_count(routed_world: Any) -> None:
    runtime = replace(routed_world.runtime, protocol=AKDVerified(num_steps=1, num_problems=4))
    everything = {problem.task_id for problem in runtime.benchmark.transfer}
    counts = AnswerCounts(runtime, routed_world.states).count(1, Question(), everything, set())
    assert sum(each.asked for each in counts) == 4
    assert all(each.new == each.right == each.asked for each in counts)


def test_what_does_not_count_is_forgotten_and_what_is_no_package_is_refused(
    world: Any, tmp_path: Path
) -> None:
    teacher, student = (Member(world, index, tmp_path / str(index)) for index in (0, 1))
    package = teacher.teach([LESSON])["r1-0"]
    before = as_bytes(student.state, tmp_path)
    for sent, outcome in ((package, "learned"), (b"\xff", "refused"), (package[:-9], "refused")):
        assert student.learn([LESSON], {"r1-0": sent})["r1-0"].outcome == outcome
        student.settle(counts=False)
        assert as_bytes(student.state, tmp_path) == before


def test_a_hostile_teachers_counts_are_held_to_what_is_plausible(
    world: Any, tmp_path: Path
) -> None:
    from knexa.network import messages

    teacher, student = (Member(world, index, tmp_path / str(index)) for index in (0, 1))
    package = messages.Package.FromString(teacher.teach([LESSON])["r1-0"])
    package.items_sent = 2**32 - 1
    package.guardrail["blocked"] = 2**32 - 1
    package.guardrail["made up"] = 7
    answer = student.learn([LESSON], {"r1-0": package.SerializeToString()})["r1-0"]
    assert answer.items_sent == 4096
    assert answer.guardrail["blocked"] <= 8192
    assert set(answer.guardrail) == {"blocked", "redacted", "counted"}


def test_a_repeated_lesson_is_of_the_state_before_learning(world: Any, tmp_path: Path) -> None:
    first, second = (Member(world, index, tmp_path / str(index)) for index in (0, 1))
    back = NamedDirective(id="r1-1", teacher="a1", student="a0", address="", round=1)
    for member in (first, second):
        member.prepare(1, {})
    packages = first.teach([LESSON])
    before = as_bytes(first.state, tmp_path)
    first.learn([back], second.teach([back]))
    first.settle(counts=True)
    assert as_bytes(first.state, tmp_path) != before
    assert first.teach([LESSON]) == packages
    first.prepare(2, {})
    assert first._packages == {}


@pytest.fixture
def private_world(world: Any) -> Any:
    """The same with DP training."""
    training = world.runtime.training
    rates = {name: getattr(training, name) for name in ("local_learning_rate", "kd_learning_rate")}
    world.runtime.training = DPTraining(**rates, batch_size=training.batch_size)
    return world


@pytest.mark.parametrize("is_secret", [False, True])
def test_what_hides_private_data_is_known_to_the_agent_alone(
    private_world: Any, tmp_path: Path, is_secret: bool, caplog: pytest.LogCaptureFixture
) -> None:
    private_world.runtime.secret_noise = is_secret
    members = [Member(private_world, 0, tmp_path / name) for name in "ab"]
    for member in members:
        member.prepare(1, {})
    one, two = (as_bytes(member.state, tmp_path) for member in members)
    assert (one != two) == is_secret
    rows = (tmp_path / "a" / "rounds.jsonl").read_text().splitlines()
    privacy = json.loads(rows[0])["privacy"]
    assert 0 < privacy["epsilon"] < 8
    assert privacy["steps"] == members[0].state.optimizer_steps
    with caplog.at_level(logging.INFO):
        members[0].finish({})
    assert f"training has spent epsilon {privacy['epsilon']:.2f}" in caplog.text


def test_lessons_beyond_the_budget_are_refused(private_world: Any, tmp_path: Path) -> None:
    teacher, student = (Member(private_world, index, tmp_path / str(index)) for index in (0, 1))
    runtime = private_world.runtime
    assert runtime.protocol.num_steps == 1
    package = teacher.teach([LESSON])["r1-0"]
    most = runtime.num_rounds * (runtime.local_batches(1) + 1)
    for number in range(most):
        lesson = replace(LESSON, id=f"r1-{number}")
        student.learn([lesson], {lesson.id: package})
        student.settle(counts=True)
    before = as_bytes(student.state, tmp_path)
    with pytest.raises(UserError, match=f"a1 has spent its budget, {most} steps"):
        student.learn([replace(LESSON, id="one more")], {"one more": package})
    assert as_bytes(student.state, tmp_path) == before


def test_a_round_that_is_over_brings_no_other_profile(world: Any, tmp_path: Path) -> None:
    member = Member(world, 0, tmp_path / "0")
    for number in (1, 2):
        shown, _ = member.prepare(number, {})
    before = as_bytes(member.state, tmp_path)
    assert member.prepare(1, {})[0] == shown
    assert member.prepared_round == 2
    assert as_bytes(member.state, tmp_path) == before


@pytest.mark.parametrize("what", ["agent", "backbone", "configuration"])
def test_a_folder_of_another_is_refused(world: Any, tmp_path: Path, what: str) -> None:
    member = Member(world, 0, tmp_path / "0")
    assert member.prepared_round == 0
    if what == "agent":
        member._index = 1
    elif what == "configuration":
        member._agreement = "another"
    else:
        _move_to_another_backbone(world)
    with pytest.raises(UserError, match=f"{member._folder.path} belongs to another {what}: "):
        _ = member.state


def _move_to_another_backbone(world: Any) -> None:
    session, roster = world.runtime, world.runtime.roster
    agents = (replace(roster.agents[0], backbone="another"), *roster.agents[1:])
    backbones = roster.backbones | {"another": roster.backbone_of(0)}
    moved = replace(roster, agents=agents, backbones=backbones)
    world.runtime = replace(session, roster=moved)


def test_a_folder_that_is_no_agents_is_refused(world: Any, tmp_path: Path) -> None:
    member = Member(world, 0, tmp_path / "cpm")
    member._folder.write_checkpoint(1, lambda to: (to / "coordinator.safetensors").touch())
    with pytest.raises(UserError, match="belongs to another agent: "):
        _ = member.state
