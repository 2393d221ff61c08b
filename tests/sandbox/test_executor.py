import logging
import multiprocessing
import os
import re
import select
import signal
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knexa.data.benchmark_quirks import CANONICAL_CPU_S
from knexa.data.problem import Problem
from knexa.errors import UserError
from knexa.evaluation import Execution, Executor, Limits, Outcome, count_outcomes, program
from knexa.sandbox import executor as executor_module
from knexa.sandbox import outcome as outcome_module
from knexa.sandbox import program_run as program_run_module
from knexa.sandbox import protection, scratch
from knexa.sandbox.verifier import Verifier
from tests.sandbox.conftest import QUICK, make_problem


def outcome_of(executor: Executor, problem: Problem, completion: str) -> Outcome:
    return executor.run([(problem, completion)])[0].outcome


def test_right_program_passes_and_wrong_one_fails(executor: Executor, double: Problem) -> None:
    results = executor.run([(double, "    return x * 2\n"), (double, "    return x + 2\n")])
    assert [each.outcome for each in results] == [Outcome.PASSED, Outcome.FAILED]
    assert "AssertionError" in results[1].detail or "TypeError" in results[1].detail


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        ("    return (\n", Outcome.SYNTAX_ERROR),
        ("return x\n", Outcome.SYNTAX_ERROR),
        ("", Outcome.FAILED),
        ("    return undefined_name\n", Outcome.FAILED),
        ("    while True: pass\n", Outcome.TIMEOUT),
        ("    return [0] * 10**10\n", Outcome.OUT_OF_MEMORY),
        ("    return solve(x)\n", Outcome.FAILED),
        ("    raise SystemExit(0)\n", Outcome.CRASHED),
        ("    import os; os._exit(0)\n", Outcome.CRASHED),
        ("    import os; os.abort()\n", Outcome.CRASHED),
        ("    return 'a\x00b'\n", Outcome.SYNTAX_ERROR),
    ],
)
def test_outcome_says_how_a_program_ended(
    executor: Executor, double: Problem, completion: str, expected: Outcome
) -> None:
    assert outcome_of(executor, double, completion) is expected


def test_completion_that_defines_the_entry_point_is_the_whole_program(double: Problem) -> None:
    whole = "import math\n\ndef solve(x):\n    return x\n"
    assert program(double, whole) == whole
    assert program(double, "solve = lambda x: x\n") == "solve = lambda x: x\n"
    body = "    return x\n\n\ndef solve_more(x):\n    return x\n"
    assert program(double, body) == double.prompt + body
    again = "    return x\n\ndef solve(x):\n    return x\n"
    assert program(double, again) == double.prompt + again


def test_long_completion_is_not_parsed_by_the_caller(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_module, "ast", None)
    long = "def f():\n    import a" + ".b" * 10000 + "\n"
    whole = f"{long}def solve(x):\n    return x * 2\n"
    assert program(double, whole) == whole
    assert program(double, long) == double.prompt + long


def test_long_program_is_compiled_in_the_sandbox(executor: Executor, double: Problem) -> None:
    filler = "    # not much is said here\n" * 1000
    assert outcome_of(executor, double, f"{filler}    return x * 2\n") is Outcome.PASSED
    assert outcome_of(executor, double, f"{filler}    return x * 3\n") is Outcome.FAILED
    assert outcome_of(executor, double, f"{filler}    return (\n") is Outcome.SYNTAX_ERROR


@pytest.mark.parametrize(
    "value",
    [
        "[1, 2.5, 'x', None, True]",
        "(1, (2, [3]))",
        "{1: 'a', (2, 3): {4}}",
        "frozenset({1, 2})",
        "2 ** 5000",
        "-(2 ** 70)",
        "float('inf')",
        "1 + 2j",
        "b'\\x00\\xff'",
        "'\\ud800'",
        "range(1, 10, 3)",
        "__import__('collections').Counter('abca')",
        "__import__('collections').OrderedDict([(1, 2)])",
        "__import__('collections').deque([1, 2])",
        "__import__('decimal').Decimal('1.10')",
        "__import__('fractions').Fraction(1, 3)",
        "__import__('datetime').datetime(2020, 1, 2, 3, 4)",
        "__import__('datetime').timedelta(days=2, microseconds=1)",
        "int",
    ],
)
def test_values_cross_both_ways_unchanged(executor: Executor, value: str) -> None:
    problem = make_problem(
        f"value = {value}\ngot = candidate(value)\n"
        "assert got == value and type(got) is type(value), got\n"
    )
    assert executor.run([(problem, "    return x\n")]) == [Execution(Outcome.PASSED)]


def test_nan_iterators_and_views_keep_their_kind(executor: Executor) -> None:
    problem = make_problem(
        "import math\n"
        "assert math.isnan(candidate(0)) and next(candidate(1)) == 1\n"
        "assert list(candidate(2)) == ['1'] and candidate(2) != ['1']\n"
        "assert candidate(3) == {1: 2}.keys() and len(list(candidate(4))) == 10000\n"
        "assert sorted(candidate(5)) == [7]\n"
    )
    body = (
        "    import itertools\n"
        "    return [float('nan'), (i for i in [1]), map(str, [1]), {1: 2}.keys(),\n"
        "            itertools.count(), {1: 7}.values()][x]\n"
    )
    assert executor.run([(problem, body)]) == [Execution(Outcome.PASSED)]


def test_exceptions_arrive_by_builtin_name(executor: Executor) -> None:
    problem = make_problem(
        "for kind in (ValueError, KeyError, ZeroDivisionError, FileNotFoundError, EOFError):\n"
        "    try:\n        candidate(kind.__name__)\n"
        "    except kind:\n        pass\n"
        "    else:\n        assert False\n"
    )
    body = "    import builtins\n    class Own(getattr(builtins, x)): pass\n    raise Own('no')\n"
    assert executor.run([(problem, body)]) == [Execution(Outcome.PASSED)]


def test_objects_of_setup_classes_cross_by_name_and_attributes(executor: Executor) -> None:
    problem = make_problem(
        "assert candidate(Pair(1, Pair(2, 3))).b == Pair(2, 3).a\n",
        setup_code="class Pair:\n    def __init__(self, a, b):\n        self.a, self.b = a, b\n",
    )
    body = "    assert isinstance(x, Pair)\n    return Pair(x.a, x.b.a)\n"
    assert executor.run([(problem, body)]) == [Execution(Outcome.PASSED)]


def test_objects_of_the_programs_own_classes_stay_in_the_sandbox(executor: Executor) -> None:
    problem = make_problem("node = Node(3)\nnode.next = Node(4)\nassert candidate(node) == 7\n")
    whole = (
        "class Node:\n    def __init__(self, v):\n        self.v = v\n"
        "def solve(x):\n    return x.v + x.next.v\n"
    )
    assert executor.run([(problem, whole)]) == [Execution(Outcome.PASSED)]


def test_helpers_of_the_prompt_exist_for_the_tests(executor: Executor) -> None:
    prompt = 'def half(x):\n    return x / 2\n\n\ndef solve(x):\n    """Twice half."""\n'
    problem = make_problem("assert candidate(half(4.0)) == 2.0\n", prompt=prompt)
    assert executor.run([(problem, "    return half(x) * 2\n")]) == [Execution(Outcome.PASSED)]


def test_state_of_one_program_does_not_reach_the_next(executor: Executor) -> None:
    problem = make_problem("assert candidate(0) == 'first'\n")
    marks = (
        "    import builtins, os\n"
        "    seen = hasattr(builtins, 'mark') or os.listdir('.') or os.listdir('..') != [\n"
        "        os.path.basename(os.getcwd())]\n"
        "    builtins.mark = 1\n"
        "    os.makedirs('deep/er'); open('deep/er/file', 'w').write('x'); os.chmod('deep', 0)\n"
        "    return 'again' if seen else 'first'\n"
    )
    results = executor.run([(problem, marks), (problem, marks + "# other\n")])
    assert [each.outcome for each in results] == [Outcome.PASSED, Outcome.PASSED]


def test_results_are_kept_by_content(double: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    with Executor(limits=QUICK) as executor:
        first = executor.run([(double, "    return x * 2\n")] * 2)
        monkeypatch.setattr(Verifier, "give", lambda *_: 1 / 0)
        assert executor.run([(double, "    return x * 2\n")]) == first[:1]


def test_what_was_begun_runs_beside_its_caller_and_once(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = ["    return x * 2\n", "    return x\n", "    return x * 2\n"]
    given: list[bytes] = []
    give = Verifier.give

    def note(self: Verifier, key: bytes, job: dict[str, object]) -> object:
        given.append(key)
        return give(self, key, job)

    monkeypatch.setattr(Verifier, "give", note)
    with Executor(limits=QUICK) as executor:
        for body in bodies:
            executor.begin(double, body)
        (verifier,) = executor._verifiers
        while len(given) < 2 or verifier.keys:
            assert select.select([verifier.channel], [], [], 20)[0]
            executor.advance()
        monkeypatch.setattr(Verifier, "give", lambda *_: 1 / 0)  # nothing is left to run
        outcomes = [each.outcome for each in executor.run([(double, body) for body in bodies])]
    assert outcomes == [Outcome.PASSED, Outcome.FAILED, Outcome.PASSED]
    assert len(given) == len(set(given)) == 2


def test_what_a_lost_verifier_never_began_goes_to_the_next(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bytes] = []
    never_begun: list[bytes] = []
    give, take = Verifier.give, Verifier.reply

    def note(self: Verifier, key: bytes, job: dict[str, object]) -> None:
        given.append(key)
        give(self, key, job)

    def lose_one(self: Verifier, *, is_answered: bool) -> dict[str, object]:
        if len(self.keys) == 2 and not never_begun:
            never_begun.append(self.keys[1])
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            with suppress(ConnectionResetError):
                while self.channel.recv(1 << 16):  # the reply that was on its way
                    pass
        return take(self, is_answered=is_answered)

    monkeypatch.setattr(Verifier, "give", note)
    monkeypatch.setattr(Verifier, "reply", lose_one)
    pairs = [(double, f"    return x * {factor}\n") for factor in (2, 3, 4, 5)]
    with Executor(limits=QUICK) as executor:
        outcomes = [each.outcome for each in executor.run(pairs)]
    assert outcomes == [Outcome.PASSED, *[Outcome.FAILED] * 3]
    assert [given.count(key) for key in dict.fromkeys(given)] == [2, 2, 1, 1]
    assert given.index(never_begun[0]) == 1


@pytest.mark.parametrize("where", ["send", "receive", "start"])
def test_what_an_interrupt_left_undone_is_done_when_asked_again(
    double: Problem, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    pairs = [(double, f"    return x * {factor}\n") for factor in (2, 3, 4, 5)]
    is_interrupted = [False]

    def interrupt(*args: Any, **options: Any) -> Any:
        if not is_interrupted[0]:
            is_interrupted[0] = True
            raise OSError("too many files") if where == "start" else KeyboardInterrupt
        return plain(*args, **options)

    owner = program_run_module if where == "start" else executor_module.codec
    plain = getattr(owner, where)
    monkeypatch.setattr(owner, where, interrupt)
    with Executor(limits=QUICK) as executor:
        with pytest.raises((KeyboardInterrupt, OSError)):
            executor.run(pairs)
        outcomes = [each.outcome for each in executor.run(pairs)]
    assert is_interrupted == [True]
    assert outcomes == [Outcome.PASSED, *[Outcome.FAILED] * 3]


def test_closing_ends_what_was_begun_and_the_executor_works_on(double: Problem) -> None:
    endless = "    while True: pass\n"
    with Executor(limits=Limits(cpu_s=60.0, wall_s=600.0)) as executor:
        executor.begin(double, endless)
        (verifier,) = executor._verifiers
        executor.close()
        assert verifier.process.returncode == -signal.SIGKILL
        assert executor.run([(double, "    return x * 2\n")])[0].passed


def test_two_workers_return_what_one_returns(double: Problem) -> None:
    bodies = [f"    return x * {factor}\n" for factor in range(20)] + ["    return (\n"]
    with Executor(limits=QUICK) as one, Executor(limits=QUICK, num_workers=2) as two:
        pairs = [(double, body) for body in bodies]
        assert one.run(pairs) == two.run(pairs)
        assert (len(one._verifiers), len(two._verifiers)) == (1, 2)


def test_few_programs_start_one_worker_alone(double: Problem) -> None:
    with Executor(limits=QUICK, num_workers=2) as executor:
        executor.run([(double, f"    return x * {factor}\n") for factor in range(5)])
        assert len(executor._verifiers) == 1


def test_lost_verifier_is_retried_and_then_reported_as_infrastructure_error(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    lives: list[int] = []
    send = executor_module.codec.send

    def send_and_die(channel: object, message: object) -> None:
        verifier = executor._verifiers[0]
        lives.append(verifier.process.pid)
        os.killpg(verifier.process.pid, signal.SIGKILL)
        verifier.process.wait()
        send(channel, message)  # type: ignore[arg-type]

    with Executor(limits=QUICK) as executor:
        monkeypatch.setattr(executor_module.codec, "send", send_and_die)
        (lost,) = executor.run([(double, "    return x * 2\n")])
        assert lost.outcome is Outcome.INFRASTRUCTURE_ERROR
        assert len(set(lives)) == 2
        monkeypatch.setattr(executor_module.codec, "send", send)
        assert executor.run([(double, "    return x * 2\n")])[0].passed
    assert count_outcomes([lost])["infrastructure_error"] == 1


def _run_in_fork(executor: Executor, problem: Problem, queue: object) -> None:
    queue.put(executor.run([(problem, "    return x * 2\n")])[0].outcome)  # type: ignore[attr-defined]


def test_executor_works_in_a_forked_worker(double: Problem) -> None:
    context = multiprocessing.get_context("fork")
    with Executor(limits=QUICK) as executor:
        assert executor.run([(double, "    return x + 2\n")])[0].outcome is Outcome.FAILED
        queue = context.SimpleQueue()
        worker = context.Process(target=_run_in_fork, args=(executor, double, queue))
        worker.start()
        assert queue.get() is Outcome.PASSED
        worker.join()
        assert executor.run([(double, "    return x - 2\n")])[0].outcome is Outcome.FAILED


@pytest.mark.parametrize("how", ["close", "kill"])
def test_ending_leaves_no_process_and_no_file(
    tmp_path: Path, double: Problem, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    executor = Executor(limits=QUICK)
    executor.run([(double, "    return x * 2\n")])
    (verifier,) = executor._verifiers
    assert list(tmp_path.iterdir())
    getattr(verifier, how)()
    assert verifier.process.returncode == (0 if how == "close" else -signal.SIGKILL)
    assert not list(tmp_path.iterdir())


def test_missing_layers_are_said_loudly_and_once(caplog: pytest.LogCaptureFixture) -> None:
    reply = {"layers": ["resource-limits", "landlock-1"], "refused": {"seccomp": "no such call"}}
    with caplog.at_level(logging.WARNING):
        executor = Executor(limits=QUICK)
        executor._record_layers(reply)
        executor._record_layers(reply)
    assert caplog.text.count("CAN REACH THE NETWORK") == 1
    assert caplog.text.count("GENERATED PROGRAMS RUN without network-namespace") == 1
    assert "no such call" in caplog.text
    assert "knexa doctor" in caplog.text
    assert executor.layers == ("resource-limits", "landlock-1")
    assert executor.refused == {"seccomp": "no such call"}


def test_strict_executor_gives_no_outcome_without_a_layer(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    imaginary = protection.Layer("moat", "swimming", "a castle")
    monkeypatch.setattr(protection, "LAYERS", (*protection.LAYERS, imaginary))
    with Executor(limits=QUICK, is_strict=True) as executor:
        for ask in (
            lambda: executor.layers,
            lambda: executor.run([(double, "    return x * 2\n")]),
            lambda: executor.run([(double, "    return x * 2\n")]),
        ):
            with pytest.raises(UserError, match=r"without (.*, )?moat.* a castle;") as caught:
                ask()
            assert "\n" not in str(caught.value)


def test_every_layer_has_a_name_of_its_own_and_its_kernel_version_counts() -> None:
    names = [layer.name for layer in protection.LAYERS]
    assert len(set(names)) == len(names)
    assert not protection.missing([*(set(names) - {"landlock"}), "landlock-3"])
    assert [layer.name for layer in protection.missing(set(names) - {"seccomp"})] == ["seccomp"]


def test_limits_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="backstop"):
        Limits(cpu_s=5.0, wall_s=1.0)
    with pytest.raises(ValueError, match="num_workers"):
        Executor(num_workers=0)


def test_details_of_equal_runs_are_equal(double: Problem) -> None:
    bodies = [
        "    while True: pass\n",
        "    raise ValueError(object())\n",
        "    return [0] * 10**10\n",
    ]
    details = []
    for _ in range(2):
        with Executor(limits=QUICK) as executor:
            details.append(executor.run([(double, body) for body in bodies]))
    assert details[0] == details[1]


def test_layers_are_named(executor: Executor) -> None:
    assert "resource-limits" in executor.layers
    known = {layer.name for layer in protection.LAYERS} | {"user-namespace"}
    assert {re.sub(r"-\d+$", "", name) for name in executor.layers} <= known


def test_slow_problems_get_a_multiple_of_what_their_solution_takes(double: Problem) -> None:
    executor = Executor(limits=Limits(cpu_s=1.0, wall_s=30.0))
    usual = executor._job(double, "")["limits"]
    assert (usual["cpu_s"], usual["wall_s"]) == (1.0, 30.0)
    slow = executor._job(replace(double, task_id="MBPP/123"), "")["limits"]
    assert slow["cpu_s"] == 4 * CANONICAL_CPU_S["MBPP/123"]
    assert slow["wall_s"] == 30.0 * slow["cpu_s"]


def test_folders_nested_deeper_than_a_path_are_removed(tmp_path: Path) -> None:
    folder, home = tmp_path / "left", Path.cwd()
    folder.mkdir()
    (tmp_path / "kept").write_text("kept")
    os.chdir(folder)
    try:
        for _ in range(1500):
            Path("deep").mkdir()
            os.chdir("deep")
        Path("link").symlink_to(tmp_path / "kept")
    finally:
        os.chdir(home)
    (folder / "closed").mkdir(mode=0)
    scratch.remove(str(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
