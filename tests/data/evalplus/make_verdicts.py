"""Makes verdicts.jsonl.gz: programs for HumanEval+ and MBPP+ with EvalPlus' own verdicts.

The verdicts are those of evalplus 0.3.1 on HumanEval+ v0.1.10 and MBPP+ v0.2.0, on Python 3.11. The
package lives in an environment of its own, and reads the two files unpacked:

    python -m venv DIR && DIR/bin/pip install evalplus==0.3.1
    HUMANEVAL_OVERRIDE_PATH=HumanEvalPlus.jsonl MBPP_OVERRIDE_PATH=MbppPlus.jsonl \\
        DIR/bin/python tests/data/evalplus/make_verdicts.py

A program is a canonical solution (HumanEval: MIT, MBPP: CC BY 4.0, EvalPlus: Apache-2.0), most
often changed by one of ``MUTATIONS``. What is kept covers both verdicts of both kinds of tests:
most of all programs that pass the original tests alone, and those of the problems that EvalPlus
judges by other means than equality. Slow programs, whose verdict may be the machine's, are left
out.
"""

import ast
import contextlib
import copy
import gzip
import json
import random
import signal
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


def main() -> None:
    rng, began = random.Random(17), time.monotonic()
    rows: dict[tuple[str, str], list[dict]] = defaultdict(list)
    for dataset, problems in (("humaneval", get_human_eval_plus()), ("mbpp", get_mbpp_plus())):
        for task_id, problem in problems.items():
            name = problem["entry_point"]
            whole = problem["prompt"] + problem["canonical_solution"]
            source = undocumented(whole)
            if not is_quick(problem, source):
                continue
            programs = list(dict(map(reversed, variants(problem, source, rng))).items())
            if name not in SPECIAL:
                programs = programs[:1] + rng.sample(programs[1:], min(5, len(programs) - 1))
            expected = {
                part: trusted_exec(
                    whole,
                    problem[f"{part}_input"],
                    name,
                    record_time=True,
                    output_not_none=name in oracle.MBPP_OUTPUT_NOT_NONE_TASKS,
                )
                for part in ("base", "plus")
            }
            for program, kind in programs:
                if is_quick(problem, program):
                    verdicts = judged(dataset, problem, program, expected)
                    row = {"task_id": task_id, "kind": kind, "base": verdicts[0]}
                    row |= {"plus": verdicts[1], "solution": program, "name": name}
                    rows[verdicts].append(row)
            print(f"{time.monotonic() - began:.0f} s {task_id}", flush=True)
    kept = []
    for verdicts, found in rows.items():
        special = [row for row in found if row["name"] in SPECIAL]
        others = [row for row in found if row["name"] not in SPECIAL]
        rng.shuffle(others)
        rng.shuffle(special)
        kept += (special[: NUM_KEPT[verdicts] // 3] + others)[: NUM_KEPT[verdicts]]
        print(verdicts, len(found), len(special))
    print(Counter((row["base"], row["plus"]) for row in kept), Counter(r["kind"] for r in kept))
    order = sorted(kept, key=lambda row: (row["task_id"][0], int(row["task_id"].split("/")[1])))
    lines = [json.dumps({k: v for k, v in row.items() if k != "name"}) + "\n" for row in order]
    with OUTPUT.open("wb") as file, gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
        packed.write("".join(lines).encode())
    print(len(kept), "programs,", OUTPUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
