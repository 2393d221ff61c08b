"""Converts HumanEval (Chen et al. 2021) rows to problems. The prompt is as published."""

import ast
from collections.abc import Mapping
from typing import Any

from knexa.data.categories import categorize
from knexa.data.problem import Problem
from knexa.data.source_code import parse, unbound_names

FIELDS: Mapping[str, type] = {
    "task_id": str,
    "prompt": str,
    "entry_point": str,
    "canonical_solution": str,
    "test": str,
}
NUM_PROBLEMS = 164


def humaneval_problem(row: Mapping[str, Any]) -> Problem:
    """Return the problem of one published row.

    The tests of three problems call a helper that the prompt defines (``poly``, ``encode_cyclic``,
    ``encode_shift``); the source before the entry point then is set-up code too, since tests run in
    another process than the program.
    """
    entry_point = row["entry_point"]
    test_code = f"{row['test'].rstrip()}\n\n\ncheck(candidate)\n"
    preamble, helpers = _before(row["prompt"], entry_point)
    needs_helpers = helpers & unbound_names(test_code)
    return Problem(
        task_id=row["task_id"],
        prompt=row["prompt"].rstrip("\n") + "\n",
        entry_point=entry_point,
        canonical_solution=row["canonical_solution"],
        test_code=test_code,
        setup_code=preamble if needs_helpers else "",
        category=categorize(row["prompt"], row["canonical_solution"], entry_point),
        source="humaneval",
    )


def _before(prompt: str, entry_point: str) -> tuple[str, set[str]]:
    """Return the source before the entry point, and the functions that it defines."""
    lines = prompt.splitlines(keepends=True)
    helpers: set[str] = set()
    for node in parse(prompt).body:
        if isinstance(node, ast.FunctionDef):
            if node.name == entry_point:
                return "".join(lines[: node.lineno - 1]), helpers
            helpers.add(node.name)
    raise ValueError(f"the prompt does not define {entry_point}")
