"""Makes verdicts.jsonl.gz: programs for HumanEval+ and MBPP+ with EvalPlus' own verdicts.

The verdicts are those of evalplus 0.3.1 on HumanEval+ v0.1.10 and MBPP+ v0.2.0, on Python 3.11. The
package lives in an environment of its own, and reads the two files unpacked:

    python -m venv DIR && DIR/bin/pip install evalplus==0.3.1
    HUMANEVAL_OVERRIDE_PATH=HumanEvalPlus.jsonl MBPP_OVERRIDE_PATH=MbppPlus.jsonl \\
        DIR/bin/python tests/data/evalplus/make_verdicts.py mutants   # and then: memorised

A program is a canonical solution (HumanEval: MIT, MBPP: CC BY 4.0, EvalPlus: Apache-2.0), most
often changed by one of ``MUTATIONS`` or ``WRAPPERS``; ``memorised`` adds some that answer the
original inputs alone. What is kept covers both verdicts of both kinds of tests, and the problems
that EvalPlus judges by other means than equality. Slow programs, whose verdict may be the
machine's, are left out.
"""

import ast
import contextlib
import copy
import gzip
import json
import random
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from evalplus.data import get_human_eval_plus, get_mbpp_plus
from evalplus.eval import _special_oracle as oracle
from evalplus.eval import untrusted_check
from evalplus.gen.util import trusted_exec

OUTPUT = Path(__file__).with_name("verdicts.jsonl.gz")
NUM_KEPT = {
    ("pass", "pass"): 120,
    ("pass", "fail"): 150,
    ("fail", "fail"): 90,
    ("fail", "pass"): 30,
}
SHARE_MEMORISED = 0.2
MOST_SECONDS = 0.2  # of a program on all inputs of a problem, in plain Python
SPECIAL = {
    *oracle.MBPP_OUTPUT_NOT_NONE_TASKS,
    *oracle.MBPP_OUTPUT_SET_EQ_TASKS,
    *("are_equivalent", "sum_div", "surface_Area", "digit_distance_nums", "find_zero"),
}

WRAPPERS = {
    "as list": "list(found) if isinstance(found, tuple) else found",
    "as tuple": "tuple(found) if isinstance(found, list) else found",
    "as float": "float(found) if type(found) is int else found",
    "as int": "int(found) if type(found) is float else found",
    "as text": "str(found)",
    "as truth": "bool(found)",
    "reversed": "found[::-1] if isinstance(found, (list, tuple)) else found",
    "as set": "set(found) if isinstance(found, (list, tuple)) else found",
    "repeated": "found + found[:1] if isinstance(found, (list, tuple)) else found",
    "a little more": "found + 1e-8 if isinstance(found, float) else found",
    "more": "found + 1e-5 if isinstance(found, float) else found",
    "much more": "found + 1e-2 if isinstance(found, float) else found",
    "a little more in lists": "[x + 1e-8 if isinstance(x, float) else x for x in found]"
    " if isinstance(found, list) else found",
    "zero": "0",
    "None": "None",
    "first argument": "args[0]",
    "an iterator": "iter(found) if isinstance(found, list) else found",
}
"""By name: what a function returns in place of what it ``found``."""


def constants(tree: ast.Module) -> Iterator[ast.Module]:
    """Yield copies with one whole number off by one."""
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            for change in (1, -1):
                changed = copy.deepcopy(tree)
                found = list(ast.walk(changed))[number]
                assert isinstance(found, ast.Constant)
                found.value = node.value + change
                yield changed


SWAPPED = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq},
    **{ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add},
    **{ast.Mult: ast.Add, ast.FloorDiv: ast.Div, ast.Div: ast.FloorDiv, ast.In: ast.NotIn},
}


def operators(tree: ast.Module) -> Iterator[ast.Module]:
    """Yield copies with one operator replaced."""
    for number, node in enumerate(ast.walk(tree)):
        if type(node) in SWAPPED:
            changed = copy.deepcopy(tree)
            for parent in ast.walk(changed):
                for field, value in ast.iter_fields(parent):
                    target = list(ast.walk(changed))[number]
                    if value is target:
                        setattr(parent, field, SWAPPED[type(node)]())
                    elif isinstance(value, list) and target in value:
                        value[value.index(target)] = SWAPPED[type(node)]()
            yield changed


def missing_branches(tree: ast.Module) -> Iterator[ast.Module]:
    """Yield copies without the body of one condition."""
    for number, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.If):
            changed = copy.deepcopy(tree)
            found = list(ast.walk(changed))[number]
            assert isinstance(found, ast.If)
            found.body = [ast.Pass()]
            yield changed


MUTATIONS: dict[str, Callable[[ast.Module], Iterator[ast.Module]]] = {
    "off by one": constants,
    "operator": operators,
    "branch": missing_branches,
}


def variants(problem: dict, source: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield (kind, program) of a problem."""
    name = problem["entry_point"]
    yield "canonical", source
    yield "empty", f"def {name}(*args):\n    pass\n"
    yield "raises", f"def {name}(*args):\n    raise ValueError(args)\n"
    yield "does not parse", source + "\n    return (\n"
    yield "another name", source.replace(name, name + "_")
    tree = ast.parse(source)
    for kind, mutate in MUTATIONS.items():
        found = list(mutate(tree))
        for changed in rng.sample(found, min(3, len(found))):
            yield kind, ast.unparse(changed) + "\n"
    names = list(WRAPPERS) if name in SPECIAL else rng.sample(sorted(WRAPPERS), 5)
    for kind in names:
        wrapped = f"\n\n_found = {name}\n\n\ndef {name}(*args):\n    found = _found(*args)\n"
        yield kind, f"{source}{wrapped}    return {WRAPPERS[kind]}\n"


class _TooSlow(BaseException):
    """The program is too slow."""


def is_quick(problem: dict, program: str) -> bool:
    """Return whether the program answers all inputs quickly, or fails quickly."""

    def stop(*_: object) -> None:
        raise _TooSlow

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    namespace: dict = {}
    try:
        exec(program, namespace)
        for given in copy.deepcopy(problem["base_input"] + problem["plus_input"]):
            with contextlib.suppress(Exception):
                namespace[problem["entry_point"]](*given)
    except _TooSlow:
        return False
    except Exception:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


def undocumented(source: str) -> str:
    """Return the program without docstrings, which only make the file larger."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree) + "\n"


def judged(dataset: str, problem: dict, program: str, expected: dict) -> tuple[str, str]:
    """Return EvalPlus' verdicts (by the original tests, by the others)."""
    found = []
    for part in ("base", "plus"):
        outputs, seconds = expected[part]
        status, _ = untrusted_check(
            dataset,
            program,
            problem[f"{part}_input"],
            problem["entry_point"],
            expected=outputs,
            atol=problem["atol"],
            ref_time=seconds,
            fast_check=True,
        )
        found.append("pass" if status == "pass" else "fail")
    return found[0], found[1]


def memorised(problem: dict, source: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield a program that answers the original inputs alone, for some of the problems."""
    name, known = problem["entry_point"], [repr(tuple(each)) for each in problem["base_input"]]
    if (name in SPECIAL or rng.random() < SHARE_MEMORISED) and len(repr(known)) < 1000:
        wrapped = f"\n\n_found = {name}\n\n\ndef {name}(*args):\n"
        condition = f"repr(args) in {known!r}"
        yield (
            "original inputs",
            f"{source}{wrapped}    return _found(*args) if {condition} else None\n",
        )


def mutants(problem: dict, source: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Yield six programs of a problem, and all of one that is judged by other means."""
    found = [
        (kind, program)
        for program, kind in {p: k for k, p in variants(problem, source, rng)}.items()
    ]
    if problem["entry_point"] in SPECIAL:
        yield from found
    else:
        yield found[0]
        yield from rng.sample(found[1:], min(5, len(found) - 1))


def rows_of(dataset: str, problem: dict, programs: list[tuple[str, str]]) -> Iterator[dict]:
    """Yield a row for each program that is quick."""
    name = problem["entry_point"]
    expected = {
        part: trusted_exec(
            problem["prompt"] + problem["canonical_solution"],
            problem[f"{part}_input"],
            name,
            record_time=True,
            output_not_none=name in oracle.MBPP_OUTPUT_NOT_NONE_TASKS,
        )
        for part in ("base", "plus")
    }
    for kind, program in programs:
        if is_quick(problem, program):
            base, plus = judged(dataset, problem, program, expected)
            row = {"task_id": problem["task_id"], "kind": kind, "base": base, "plus": plus}
            yield row | {"solution": program, "name": name}


def chosen(rows: list[dict], rng: random.Random) -> list[dict]:
    """Return as many rows of each pair of verdicts as are kept."""
    by_verdicts: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for row in rows:
        by_verdicts[row["base"], row["plus"]].append(row)
    kept = []
    for verdicts, found in by_verdicts.items():
        special = [row for row in found if row["name"] in SPECIAL]
        others = [row for row in found if row["name"] not in SPECIAL]
        rng.shuffle(others)
        rng.shuffle(special)
        kept += (special[: NUM_KEPT[verdicts] // 3] + others)[: NUM_KEPT[verdicts]]
    return kept


def main(stage: str) -> None:
    make = {"mutants": mutants, "memorised": memorised}[stage]
    rng, began = random.Random(17), time.monotonic()
    rows: list[dict] = []
    for dataset, problems in (("humaneval", get_human_eval_plus()), ("mbpp", get_mbpp_plus())):
        for task_id, problem in problems.items():
            source = undocumented(problem["prompt"] + problem["canonical_solution"])
            if is_quick(problem, source):
                rows += rows_of(dataset, problem, list(make(problem, source, rng)))
                print(f"{time.monotonic() - began:.0f} s {task_id}", flush=True)
    kept = chosen(rows, rng) if stage == "mutants" else rows
    if stage == "memorised":
        kept += map(json.loads, gzip.decompress(OUTPUT.read_bytes()).splitlines())
    print(Counter((row["base"], row["plus"]) for row in kept), Counter(r["kind"] for r in kept))
    order = sorted(kept, key=lambda row: (row["task_id"][0], int(row["task_id"].split("/")[1])))
    lines = [json.dumps({k: v for k, v in row.items() if k != "name"}) + "\n" for row in order]
    with OUTPUT.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write("".join(lines).encode())
    print(len(kept), "programs,", OUTPUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1])
