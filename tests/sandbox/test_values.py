"""What crosses between tests and program: as in plain ``exec``, and never more than data."""

from typing import Any

import pytest

from knexa.evaluation import Execution, Executor, Outcome
from tests.sandbox.conftest import QUICK, make_problem
from tests.sandbox.crossing_values import NOT_SUPPORTED, ROWS, Row
from tests.sandbox.forged_messages import ENDS, ENDURED, FORGED, HELD, SETUP, forge


def run_plainly(row: Row) -> None:
    """Run tests and program in one namespace, without any sandbox."""
    namespace: dict[str, Any] = {"__name__": "tests"}
    exec(row.setup, namespace)
    exec(row.program, namespace)
    namespace["candidate"] = namespace["solve"]
    exec(row.tests, namespace)


@pytest.mark.parametrize("name", ROWS)
def test_right_program_passes_as_in_plain_python(executor: Executor, name: str) -> None:
    row = ROWS[name]
    run_plainly(row)
    problem = make_problem(row.tests, setup_code=row.setup)
    assert executor.run([(problem, row.program)]) == [Execution(Outcome.PASSED)]


@pytest.mark.parametrize("name", NOT_SUPPORTED)
def test_right_program_fails_where_the_documents_say_so(executor: Executor, name: str) -> None:
    row, text = NOT_SUPPORTED[name]
    run_plainly(row)
    (result,) = executor.run([(make_problem(row.tests, setup_code=row.setup), row.program)])
    assert (result.outcome, text in result.detail) == (Outcome.FAILED, True), result


WRONG = {
    "kinds: UserDict": "def solve(x): return {'a': [2]}\n",
    "kinds: deque of a length": "def solve(x): return x\n",
    "kinds: enumeration of the set-up": "def solve(x): return Color.RED\n",
    "kinds: lists that are one": "def solve(): return [[0], [0]]\n",
    "in place: list": "def solve(x): x.sort(reverse=True)\n",
    "in place: list in a tuple": "def solve(x): x[0].append(4)\n",
    "in place: set": "def solve(x): x.discard(2)\n",
    "in place: before it raises": "def solve(x): raise ValueError\n",
    "identity: the argument itself": "def solve(x): return x[:]\n",
    "identity: swapped items": "def solve(x): x[:] = [[2], [1]]\n",
    "identity: object of the program": "class Node: pass\ndef solve(a, b): return a\n",
    "callbacks: counts its calls": "def solve(f, n):\n    for i in range(n + 1): f(i)\n",
    "exceptions: args": "def solve(x): raise KeyError(str(x))\n",
    "exceptions: class of the set-up": "def solve(x): raise Kept(1, 2)\n",
    "strings: two surrogates": "def solve(): return '\\U0001f600'\n",
    "strings: one emoji": "def solve(): return '\\ud83d\\ude00'\n",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_program_fails_where_the_right_one_passes(executor: Executor, name: str) -> None:
    problem = make_problem(ROWS[name].tests, setup_code=ROWS[name].setup)
    assert executor.run([(problem, WRONG[name])])[0].outcome is Outcome.FAILED


@pytest.mark.parametrize("name", [*FORGED, *ENDURED])
def test_forged_message_buys_nothing_and_harms_nobody(executor: Executor, name: str) -> None:
    tests, body = FORGED[name] if name in FORGED else ENDURED[name]
    outcome, text = ENDS.get(name, (Outcome.FAILED, "cannot cross: "))
    forging = (make_problem(f"{HELD}{tests}\n", setup_code=SETUP), forge(body))
    after = make_problem("assert candidate([1, 2]) == 3\n")
    first, second = executor.run([forging, (after, f"def solve(x): return sum(x)  # {name}\n")])
    assert (first.outcome, text in first.detail) == (outcome, True), first
    assert second.outcome is Outcome.PASSED
    assert first.cpu_s <= QUICK.cpu_s + 1
    assert first.wall_s <= QUICK.wall_s + 1


ONE = "class Only:\n    def __eq__(self, other): return True\none = Only()\n"
ONE += "def Point(*_): return one\ndef solve(x): return x(one) if callable(x) else one\n"


@pytest.mark.parametrize(
    "tests",
    [
        "assert candidate(0) == Point(3)",
        "assert Point(1) == Point(1)",
        "assert candidate(Point(1)) == Point(3)",
        "assert candidate(lambda x: x) == Point(3)",
        "def check(x): assert x == Point(3)\ncandidate(check)",
        "def check(x): return x == Point(3)\nassert candidate(check)",
        "assert candidate(0) == 0",
        "assert [candidate(0)] == [Point(3)]",
    ],
)
def test_objects_of_the_programs_own_are_never_equal_by_its_word(
    executor: Executor, tests: str
) -> None:
    assert executor.run([(make_problem(f"{tests}\n"), ONE)])[0].outcome is Outcome.FAILED


def test_calls_of_the_tests_functions_are_bounded_in_depth(executor: Executor) -> None:
    problem = make_problem("def f(): return candidate(f)\ncandidate(f)\n")
    (result,) = executor.run([(problem, "def solve(f): return f()\n")])
    assert result.outcome is Outcome.FAILED
    assert "too many calls" in result.detail


def test_what_a_program_changed_in_a_standard_module_is_put_back(executor: Executor) -> None:
    problem = make_problem("import keyword\ncandidate(keyword.kwlist)\nassert not keyword.kwlist\n")
    after = make_problem("import keyword\nassert candidate(0) == len(keyword.kwlist) > 30\n")
    count = "def solve(x):\n    import keyword\n    return len(keyword.kwlist)\n"
    results = executor.run([(problem, "def solve(x): x.clear()\n"), (after, count)])
    assert [each.outcome for each in results] == [Outcome.PASSED] * 2


def test_function_is_called_by_a_thread_but_only_while_a_call_is_under_way(
    executor: Executor,
) -> None:
    problem = make_problem(
        "seen = []\ncandidate(seen.append)\nwhile not candidate(None): pass\nassert 1 in seen\n"
    )
    program = (
        "import threading\nrefused, done = [], threading.Event()\n"
        "def call(f):\n    f(1); done.set()\n    while not refused:\n"
        "        try: f(2)\n        except RuntimeError: refused.append(1)\n"
        "def solve(f):\n"
        "    if f: threading.Thread(target=call, args=(f,)).start(); done.wait()\n"
        "    return len(refused)\n"
    )
    result = executor.run([(problem, program)])[0]
    assert result.outcome is Outcome.PASSED, result


def test_what_is_larger_than_the_limit_says_so(executor: Executor) -> None:
    (result,) = executor.run([(make_problem("candidate(0)\n"), "    return 'x' * (2 << 20)\n")])
    assert "are more than the allowed 1048576" in result.detail


def test_argument_without_a_form_fails_the_run_and_is_no_exception_of_the_program(
    executor: Executor,
) -> None:
    problem = make_problem("class Own: pass\ntry: candidate(Own())\nexcept ValueError: pass\n")
    (result,) = executor.run([(problem, "    raise ValueError\n")])
    assert result.outcome is Outcome.FAILED
    assert "an argument cannot cross: Own has no form as data" in result.detail
