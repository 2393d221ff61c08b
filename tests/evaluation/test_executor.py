import json
import logging
import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import pytest
from tests.evaluation.conftest import QUICK, make_problem

from knexa.data.problem import Problem
from knexa.evaluation import Execution, Executor, Limits, Outcome, count_outcomes, program
from knexa.evaluation.sandbox import executor as executor_module


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
        "for kind in (ValueError, KeyError, ZeroDivisionError):\n"
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
        monkeypatch.setattr(executor, "_map", lambda jobs: [] if not jobs else 1 / 0)
        assert executor.run([(double, "    return x * 2\n")]) == first[:1]


def test_two_workers_return_what_one_returns(double: Problem) -> None:
    bodies = [f"    return x * {factor}\n" for factor in range(6)] + ["    return (\n"]
    with Executor(limits=QUICK) as one, Executor(limits=QUICK, num_workers=2) as two:
        pairs = [(double, body) for body in bodies]
        assert one.run(pairs) == two.run(pairs)


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


def test_missing_network_layer_is_said_loudly(
    caplog: pytest.LogCaptureFixture, double: Problem
) -> None:
    with caplog.at_level(logging.WARNING):
        executor = Executor(limits=QUICK)
        executor._note_layers({"layers": ["resource-limits"]})
    assert "CAN REACH THE NETWORK" in caplog.text
    assert executor.layers == ("resource-limits",)


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
    assert json.dumps(executor.layers)
