"""Converts MBPP (Austin et al. 2021) rows to problems with HumanEval-style prompts.

The published rows hold a sentence, a program and asserts, but no prompt. The prompt made here is
the signature of the function that the asserts call, and a docstring with the sentence and the
published example asserts, as is usual for MBPP. It never holds any of the solution.
"""

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from knexa.data.categories import categorize
from knexa.data.problem import Problem
from knexa.data.source_code import (
    bound_names,
    loaded_names,
    parse,
    split_signature,
    tidy,
    unbound_names,
    whole_program,
)

FIELDS: Mapping[str, type] = {
    "task_id": int,
    "text": str,
    "code": str,
    "test_list": list,
    "test_setup_code": str,
    "challenge_test_list": list,
}
NUM_PROBLEMS = 974


def mbpp_problem(row: Mapping[str, Any]) -> Problem:
    """Return the problem of one published row.

    ``test_code`` has all asserts, the challenge ones too. ``setup_code`` is the definitions of the
    reference program that asserts need (``Node``, ``sys``), then the published set-up code.

    Raises:
        ValueError: If the program does not parse, or the asserts call none of its functions.
    """
    code = tidy(row["code"])
    examples = [_line_ends(test) for test in row["test_list"]]
    tests = [*examples, *(_line_ends(test) for test in row["challenge_test_list"])]
    entry_point = find_entry_point(code, tests)
    published_setup = _line_ends(row["test_setup_code"])
    test_code = "\n".join(tests) + "\n"
    shared = _needed_by_tests(code, f"{published_setup}\n{test_code}", entry_point)
    helpers = [node for node in shared if isinstance(node, ast.ClassDef)]
    prompt = _prompt(code, entry_point, helpers, row["text"], examples)
    canonical = _canonical_solution(code, entry_point, helpers, prompt)
    setup_parts = [*(ast.unparse(node) for node in shared), published_setup]
    setup_code = "\n".join(part for part in setup_parts if part)
    return Problem(
        task_id=f"MBPP/{row['task_id']}",
        prompt=prompt,
        entry_point=entry_point,
        canonical_solution=canonical,
        test_code=test_code,
        setup_code=setup_code + "\n" if setup_code else "",
        category=categorize(prompt, canonical, entry_point),
        source="mbpp",
    )


def find_entry_point(code: str, tests: Sequence[str]) -> str:
    """Return the function of ``code`` that most asserts call (the last defined, on a tie).

    Only functions that ``code`` defines count: ``set(f(x))`` and ``math.isclose(f(x), 1)`` name f.

    Raises:
        ValueError: If the asserts call none of them.
    """
    functions = [node.name for node in parse(code).body if isinstance(node, ast.FunctionDef)]
    calls: Counter[str] = Counter()
    for test in tests:
        called = {
            node.func.id
            for node in ast.walk(parse(test))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        calls.update(called.intersection(functions))
    if not calls:
        raise ValueError("the asserts call no function that the program defines")
    return max(calls, key=lambda name: (calls[name], functions.index(name)))


def _line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _function(code: str, name: str) -> ast.FunctionDef:
    """Return the last top-level definition of ``name``."""
    nodes = [n for n in parse(code).body if isinstance(n, ast.FunctionDef) and n.name == name]
    return nodes[-1]


def _needed_by_tests(code: str, trusted_code: str, entry_point: str) -> list[ast.stmt]:
    """Return the program's imports and definitions that set-up code or asserts refer to."""
    needed = unbound_names(trusted_code) - {entry_point}
    return [node for node in parse(code).body if bound_names(node) & needed]


def _prompt(
    code: str, entry_point: str, helpers: Sequence[ast.ClassDef], text: str, examples: Sequence[str]
) -> str:
    """Return helper classes, signature, and a docstring with the sentence and the examples."""
    source = ast.get_source_segment(code, _function(code, entry_point))
    assert source is not None
    signature, _ = split_signature(source)
    lines = [_line_ends(text).strip(), "", *"\n".join(examples).split("\n")]
    docstring = "\n".join(lines).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    body = "\n".join(f"    {line}" if line else "" for line in docstring.split("\n")).lstrip()
    classes = "".join(f"{ast.unparse(node)}\n\n\n" for node in helpers)
    return f'{classes}{signature}\n    """{body}\n    """\n'


def _canonical_solution(
    code: str, entry_point: str, helpers: Sequence[ast.ClassDef], prompt: str
) -> str:
    """Return the body where that is all it takes (imports move into it), else the whole program."""
    function = _function(code, entry_point)
    given = {helper.name for helper in helpers}
    others = [
        node
        for node in parse(code).body
        if bound_names(node).isdisjoint(given) and bound_names(node) != {entry_point}
    ]
    imports = [node for node in others if isinstance(node, ast.Import | ast.ImportFrom)]
    if len(imports) < len(others) or not _can_be_local(imports, function):
        return code
    source = ast.get_source_segment(code, function)
    assert source is not None
    body = split_signature(source)[1]
    completion = "".join(f"    {ast.unparse(node)}\n" for node in imports) + body
    expected = [ast.dump(node) for node in [*imports, *function.body]]
    try:
        program = whole_program(prompt, completion, entry_point)
        found = [ast.dump(node) for node in _function(program, entry_point).body[1:]]
    except SyntaxError:
        return code
    return completion if found == expected else code


def _can_be_local(imports: Sequence[ast.stmt], function: ast.FunctionDef) -> bool:
    """Return whether the imports mean the same inside the function."""
    names = set().union(*map(bound_names, imports))
    arguments = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    outside = loaded_names([function.args, *function.decorator_list])
    return names.isdisjoint(arguments | outside | {"*", function.name})
