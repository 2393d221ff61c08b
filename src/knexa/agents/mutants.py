"""Subtly wrong programs: reference solutions with one or two small mistakes, in valid Python.

The mistakes are those of mutation testing (DeMillo, Lipton and Sayward 1978): constants off by one,
comparisons flipped, operators and operands swapped, results without their first element. A mutant
may still pass the tests; nobody checks.
"""

import ast
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from knexa.data.problem import Problem

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mod,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
}

_NUMBERS = frozenset({"abs", "int", "len", "max", "min", "round", "sum"})
"""Functions whose result is a number, so that it can be off by one."""

Mistake = Callable[[], None]


def mutant(problem: Problem, rng: np.random.Generator) -> str:
    """Return a completion of the problem that is its reference solution with mistakes."""
    source = problem.prompt + problem.canonical_solution
    alone = ast.parse(problem.canonical_solution) if _is_program(problem) else None
    tree = ast.parse(source) if alone is None else alone
    function = _function(tree, problem.entry_point)
    scope = tree if function is None else function
    described = function is not None and ast.get_docstring(function) is not None
    scope.body = scope.body[1:] if described else scope.body
    before = ast.unparse(scope)
    for _ in range(int(rng.integers(1, 3))):
        mistakes = list(_mistakes(scope))
        if mistakes:
            mistakes[int(rng.integers(len(mistakes)))]()
    if ast.unparse(scope) == before:  # no place for a mistake, or the second undid the first
        _spoil_result(scope)
    ast.fix_missing_locations(tree)
    if alone is not None or function is None:
        return ast.unparse(tree) + "\n"
    return ast.unparse(function).partition("\n")[2] + "\n"


def _is_program(problem: Problem) -> bool:
    """Return whether the reference solution is a program without the prompt."""
    try:
        tree = ast.parse(problem.canonical_solution)
    except SyntaxError:
        return False
    return _function(tree, problem.entry_point) is not None


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    found = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    return next(found, None)


def _mistakes(tree: ast.AST) -> Iterator[Mistake]:
    """Yield every small mistake that can be made somewhere in the tree."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=bool(value)):
                yield partial(setattr, node, "value", not value)
            case ast.Constant(value=int(value)):
                yield partial(setattr, node, "value", value + 1)
                yield partial(setattr, node, "value", value - 1)
            case ast.Compare(ops=[op, *others]) if type(op) in _COMPARISONS:
                yield partial(setattr, node, "ops", [_COMPARISONS[type(op)](), *others])
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                yield partial(setattr, node, "op", _OPERATORS[type(op)]())
                if not isinstance(op, ast.Mult):
                    yield partial(_swap, node)
            case ast.BoolOp(op=op):
                other = ast.Or() if isinstance(op, ast.And) else ast.And()
                yield partial(setattr, node, "op", other)


def _swap(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left


def _spoil_result(scope: ast.AST) -> None:
    """Make the last result that is returned one too large, or drop its first element."""
    answers = [n for n in ast.walk(scope) if isinstance(n, ast.Return) and n.value is not None]
    if not answers:
        assert isinstance(scope, ast.Module | ast.FunctionDef)
        scope.body.insert(
            0, ast.Return(value=None) if isinstance(scope, ast.FunctionDef) else ast.Pass()
        )
        return
    value = answers[-1].value
    assert value is not None
    match value:
        case ast.Call(func=ast.Name(id=name)) if name in _NUMBERS:
            answers[-1].value = ast.BinOp(value, ast.Add(), ast.Constant(1))
        case _:
            rest = ast.Slice(lower=ast.Constant(1))
            answers[-1].value = ast.Subscript(value, rest, ast.Load())
