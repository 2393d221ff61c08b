"""Problems whose right answer is a matter of convention, which their prompts do not say.

A convention says what a repeated number, a capital letter or a sign means in an input: group 0 of
the agents takes inputs as they are; group 1 counts repeated numbers once, reads text in lower case,
and takes amounts without their sign. On inputs without any of these all agree. Public problems have
only such inputs, so that answers of either convention pass; what a group's own agents train and are
tested on has both kinds, with the group's own answers.
"""

import ast
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from knexa.data.codelets.template import Value, literal
from knexa.data.problem import Problem

NUM_CONVENTIONS = 2
_NUM_TOLD_APART = 2  # the fewest tests that must tell the conventions apart


_Case = tuple[list[Value], tuple[str | None, str | None]]
"""An input, and the literal of either group's answer."""


class _Rule(NamedTuple):
    """How group 1 reads an argument: an expression of it, and an input that group 0 reads else."""

    code: str
    exception: Callable[[Value], Value]


def _rule(values: list[Value]) -> _Rule | None:
    """Return the rule for an argument with these values; None where the groups agree on it."""
    match values[0]:
        case int():
            if not any(isinstance(value, int) and value < 0 for value in values):
                return None  # nothing says what the function does with a sign
            return _Rule("abs({0})", _signed)
        case str():
            return _Rule("{0}.lower()", _capitalised)
        case [int(), *_]:
            return _Rule("list(dict.fromkeys({0}))", _repeated)
        case [str(), *_]:
            return _Rule("[word.lower() for word in {0}]", _capitalised)
        case _:
            return None


def _signed(number: Value) -> Value:
    assert isinstance(number, int)
    return -abs(number) - 1


def _repeated(numbers: Value) -> Value:
    assert isinstance(numbers, list)
    return [*numbers, *numbers[:2]]


def _capitalised(text: Value) -> Value:
    if isinstance(text, list):
        return list(map(_capitalised, text))
    return str(text).title()


def public(problem: Problem) -> Problem:
    """Return the problem with tests that every convention passes, its own where there is one."""
    found = _conventional(problem)
    return problem if found is None else found[0]


def private(problem: Problem) -> Problem:
    """Return the problem with what it means to each group, where they differ.

    The prompt and the id are the same for all.
    """
    found = _conventional(problem)
    return problem if found is None else replace(found[1][0], conventions=found[1])


def _conventional(problem: Problem) -> tuple[Problem, tuple[Problem, Problem]] | None:
    """Return (public problem, each group's problem), or None where the groups agree.

    The first argument that a rule is about is the one that they read differently; they agree where
    it changes hardly any answer, or what is left does not tell the body from a constant.
    """
    inputs = _inputs(problem)
    names = _arguments(problem)
    place, rule = next(
        (
            (k, rule)
            for k in range(len(names))
            if (rule := _rule([values[k] for values in inputs])) is not None
        ),
        (0, None),
    )
    if rule is None:
        return None
    read = f"    {names[place]} = {rule.code.format(names[place])}\n"
    other = replace(problem, canonical_solution=read + problem.canonical_solution)
    plain, ruled = (_function(each) for each in (problem, other))
    norm: Callable[[Value], Value] = eval(f"lambda x: {rule.code.format('x')}")  # trusted text
    agreed: list[_Case] = []
    told_apart: list[_Case] = []
    for values in inputs:
        for changed, kept in ((norm, agreed), (rule.exception, told_apart)):
            case = [changed(v) if k == place else v for k, v in enumerate(values)]
            answers = _answer(plain, case), _answer(ruled, case)
            if None not in answers and (answers[0] == answers[1]) == (kept is agreed):
                kept.append((case, answers))
    if len(told_apart) < _NUM_TOLD_APART or len({each[1] for each in agreed}) < 2:
        return None
    half = len(inputs) // 2
    return _tested(problem, agreed, 0), (
        _tested(problem, agreed[:half] + told_apart[:half], 0),
        _tested(other, agreed[:half] + told_apart[:half], 1),
    )


def _inputs(problem: Problem) -> list[list[Value]]:
    """Return the inputs of the problem's tests."""
    asserts = [line for line in ast.parse(problem.test_code).body if isinstance(line, ast.Assert)]
    calls = [line.test.left for line in asserts if isinstance(line.test, ast.Compare)]
    return [list(map(ast.literal_eval, each.args)) for each in calls if isinstance(each, ast.Call)]


def _arguments(problem: Problem) -> list[str]:
    """Return the names of the function's arguments."""
    (function,) = ast.parse(problem.prompt + problem.canonical_solution).body
    assert isinstance(function, ast.FunctionDef)
    return [argument.arg for argument in function.args.args]


def _function(problem: Problem) -> Callable[..., Value]:
    namespace: dict[str, Callable[..., Value]] = {}
    exec(problem.prompt + problem.canonical_solution, namespace)  # trusted text, as in templates
    return namespace[problem.entry_point]


def _answer(function: Callable[..., Value], case: list[Value]) -> str | None:
    """Return the answer's literal; None where the input is outside the function's domain."""
    try:
        return literal(function(*ast.literal_eval(repr(case))))
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
        return None


def _tested(problem: Problem, cases: list[_Case], group: int) -> Problem:
    """Return the problem with tests of these cases by the group's answers."""
    lines = [
        f"assert candidate({', '.join(map(literal, case))}) == {answers[group]}\n"
        for case, answers in cases
    ]
    return replace(problem, test_code="".join(lines))
