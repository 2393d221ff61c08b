import ast
from typing import Any

import pytest

from knexa.data.mbpp import find_entry_point, mbpp_problem
from knexa.data.problem import Problem
from knexa.data.source_code import whole_program


def row(code: str, tests: list[str], **changes: Any) -> dict[str, Any]:
    return {
        "task_id": 9999,
        "text": "Write a function to do it.",
        "code": code,
        "test_list": tests,
        "test_setup_code": "",
        "challenge_test_list": [],
        **changes,
    }


def passes(problem: Problem) -> bool:
    """Run trusted, self-written code: tests in one namespace, the program in another."""
    program: dict[str, Any] = {}
    exec(problem.setup_code, program)
    source = whole_program(problem.prompt, problem.canonical_solution, problem.entry_point)
    exec(source, program)
    tests: dict[str, Any] = {}
    exec(problem.setup_code, tests)
    tests["candidate"] = tests[problem.entry_point] = program[problem.entry_point]
    exec(problem.test_code, tests)
    return True


def test_prompt_is_signature_and_docstring_and_the_body_continues_it() -> None:
    problem = mbpp_problem(row("def f(x): \r\n\treturn x+1 ", ["assert f(1) == 2"]))
    assert problem.prompt == (
        'def f(x):\n    """Write a function to do it.\n\n    assert f(1) == 2\n    """\n'
    )
    assert problem.canonical_solution == "    return x+1\n"
    assert problem.task_id == "MBPP/9999"
    assert problem.setup_code == ""
    assert passes(problem)


def test_imports_move_into_the_body() -> None:
    problem = mbpp_problem(
        row("import math\ndef f(x):\n return math.sqrt(x)", ["assert f(4) == 2"])
    )
    assert problem.canonical_solution == "    import math\n    return math.sqrt(x)\n"
    assert passes(problem)


@pytest.mark.parametrize(
    "code",
    [
        "def g(x):\n    return x\ndef f(x):\n    return g(x)",
        "LIMIT = 3\ndef f(x):\n    return min(x, LIMIT)",
        "import math\ndef f(x, up=math.ceil):\n    return up(x)",
        "from math import *\ndef f(x):\n    return floor(x)",
    ],
)
def test_what_the_body_alone_cannot_do_stays_a_whole_program(code: str) -> None:
    problem = mbpp_problem(row(code, ["assert f(1) == 1"]))
    assert problem.canonical_solution == code + "\n"
    assert passes(problem)


def test_challenge_asserts_are_tested_but_not_shown() -> None:
    problem = mbpp_problem(
        row(
            "def f(x):\n    return x",
            ["assert f(1) == 1"],
            challenge_test_list=["assert f(7) == 7"],
        )
    )
    assert "f(7)" in problem.test_code
    assert "f(7)" not in problem.prompt


def test_a_class_that_the_tests_build_is_set_up_code_and_part_of_the_prompt() -> None:
    code = "class Pair:\n  def __init__(self, a):\n    self.a = a\ndef f(p):\n  return p.a\n"
    problem = mbpp_problem(row(code, ["assert f(Pair(3)) == 3"]))
    assert "class Pair" in problem.setup_code
    assert problem.prompt.startswith("class Pair")
    assert problem.canonical_solution == "    return p.a\n"
    assert passes(problem)


def test_published_set_up_code_follows_the_class_it_needs() -> None:
    code = "class Node:\n  def __init__(self, a):\n    self.a = a\ndef f(p):\n  return p.a\n"
    problem = mbpp_problem(row(code, ["assert f(root) == 3"], test_setup_code="root = Node(3)"))
    assert problem.setup_code.endswith("root = Node(3)\n")
    assert passes(problem)


def test_a_module_that_only_the_tests_name_is_set_up_code() -> None:
    code = "import sys\ndef f(x):\n  return sys.getsizeof(x)"
    problem = mbpp_problem(row(code, ["assert f(1) == sys.getsizeof(1)"]))
    assert problem.setup_code == "import sys\n"
    assert passes(problem)


@pytest.mark.parametrize(
    ("code", "test", "expected"),
    [
        ("def f(x):\n    return x", "assert set(f([1])) == {1}", "f"),
        ("import math\ndef f(x):\n    return x", "assert math.isclose(f(1), 1)", "f"),
        ("def g(x):\n    return x\ndef f(x):\n    return g(x)", "assert f(1) == 1", "f"),
        ("def f(x):\n    return x\ndef g(x):\n    return f(x)", "assert f(1) == 1", "f"),
        ("def sum(x):\n    return x", "assert sum(1) == 1", "sum"),
    ],
)
def test_entry_point_is_the_function_that_the_asserts_call(
    code: str, test: str, expected: str
) -> None:
    assert find_entry_point(code, [test]) == expected


def test_asserts_that_call_nothing_of_the_program_are_refused() -> None:
    with pytest.raises(ValueError, match="call no function"):
        find_entry_point("def f(x):\n    return x", ["assert g(1) == 1"])


def test_quotes_and_backslashes_in_asserts_survive_the_docstring() -> None:
    test = 'assert f("a\\n\\"\\"\\"") == """b"""'
    problem = mbpp_problem(row('def f(x):\n    return "b"', [test]))
    node = ast.parse(problem.prompt).body[0]
    assert isinstance(node, ast.FunctionDef)
    assert test in (ast.get_docstring(node) or "")
    assert passes(problem)
