"""HumanEval+ and MBPP+ in the sandbox: what passes is what passes in EvalPlus."""

import gzip
import json
from collections import Counter
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import pytest

from knexa.cli.commands import run_command_line
from knexa.data.benchmark_quirks import ANSWERS_TOO_LARGE, HIDDEN_CPU_S, HIDDEN_LISTED_FROM_S
from knexa.data.evalplus import MBPP_PLUS, WITH_HIDDEN
from knexa.data.rows import read_rows
from knexa.evaluation import Executor, Limits, Outcome, check_problems
from knexa.evaluation.hidden_tests import MOST_OUTPUT_KB, hidden_limits, run_hidden
from tests.hidden_tests_example import HIDDEN

VERDICTS = Path(__file__).parents[1] / "data" / "evalplus" / "verdicts.jsonl.gz"
LIMITS = Limits(cpu_s=3.0, wall_s=60.0)


def verdicts() -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(VERDICTS.read_bytes()).splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "num_problems"), [("humaneval_plus", 164), ("mbpp_plus", 378)])
def test_every_canonical_solution_passes_both_kinds_of_tests(
    evalplus_files: Path, references: None, name: str, num_problems: int
) -> None:
    hidden = WITH_HIDDEN[name](evalplus_files)
    problems = [each.problem for each in hidden]
    assert len(problems) == num_problems
    with Executor(limits=LIMITS, num_workers=2) as executor:
        report = check_problems(executor, problems)
    assert report.excluded == {}
    assert report.num_none_passed == 0
    solutions = [(each, each.problem.canonical_solution) for each in hidden]
    ran = run_hidden(LIMITS, solutions, num_workers=2, is_strict=False)
    failed = {each.task_id: run for each, run in zip(hidden, ran, strict=True) if not run.passed}
    assert failed == {}
    for each, run in zip(hidden, ran, strict=True):
        assert each.task_id in HIDDEN_CPU_S or run.cpu_s < 3 * HIDDEN_LISTED_FROM_S


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["humaneval_plus", "mbpp_plus"])
def test_scores_of_stored_programs_are_those_of_evalplus(
    evalplus_files: Path, references: None, tmp_path: Path, name: str
) -> None:
    """The verdicts were made by the package; ``tests/data/evalplus/make_verdicts.py`` says how."""
    prefix = "HumanEval/" if name == "humaneval_plus" else "Mbpp/"
    programs = [row for row in verdicts() if row["task_id"].startswith(prefix)]
    samples = tmp_path / "samples.jsonl"
    samples.write_text(
        "".join(
            json.dumps({"task_id": row["task_id"], "solution": row["solution"]}) + "\n"
            for row in programs
        )
    )
    arguments = ["--data", name, "--path", str(evalplus_files), "--k", "1", "--workers", "2"]
    assert run_command_line(["score", str(samples), *arguments]) == 0
    rows = map(json.loads, Path(f"{samples}_results.jsonl").read_text().splitlines())
    differing = {
        (row["task_id"], row["kind"], found["outcome"], found["outcome_plus"])
        for row, found in zip(programs, rows, strict=True)
        if found["passed"] != (row["base"] == "pass")
        or found["passed_plus"] != (row["base"] == row["plus"] == "pass")
    }
    assert differing == set()


def test_stored_programs_tell_the_tests_apart() -> None:
    rows = verdicts()
    assert len(rows) >= 300
    counts = Counter((row["base"], row["plus"]) for row in rows)
    assert min(counts["pass", "pass"], counts["pass", "fail"], counts["fail", "fail"]) >= 60
    by_benchmark = Counter(row["task_id"].split("/")[0] for row in rows)
    assert min(by_benchmark.values()) >= 80
    assert len({row["kind"] for row in rows}) >= 15
    assert len({row["task_id"] for row in rows}) >= 200


def test_answers_that_are_left_out_cannot_cross(evalplus_files: Path) -> None:
    """Each is a list of combinations: so many tuples of so many texts of a few bytes."""
    rows = {row["task_id"]: row for _, row in read_rows(MBPP_PLUS.file(evalplus_files))}
    ((name, places),) = ANSWERS_TOO_LARGE.items()
    sizes = [
        _num_combinations(len(colours), number) * number * len('"Red", ')
        for colours, number in rows[name]["plus_input"]
    ]
    assert {place for place, size in enumerate(sizes) if size > MOST_OUTPUT_KB << 10} == places


def _num_combinations(num_kinds: int, number: int) -> int:
    return comb(num_kinds + number - 1, number) if num_kinds and number > 0 else 0


def test_hidden_tests_decide_alone() -> None:
    completions = ["    return 2 * x\n", "    return x + 2\n", "    return 4\n"]
    found = run_hidden(
        LIMITS, [(HIDDEN, text) for text in completions], num_workers=1, is_strict=False
    )
    assert [each.outcome for each in found] == [Outcome.PASSED, Outcome.FAILED, Outcome.FAILED]


def test_answers_to_hidden_tests_may_be_large_and_slow() -> None:
    large = replace(HIDDEN, test_code="assert len(candidate('x' * 2**20)) == 2**21\n")
    assert large.canonical_cpu_s == 0.0
    with Executor(limits=LIMITS) as executor:
        (public,) = executor.run([(large, "    return 2 * x\n")])
    (hidden,) = run_hidden(LIMITS, [(large, "    return 2 * x\n")], num_workers=1, is_strict=False)
    assert (public.outcome, hidden.outcome) == (Outcome.FAILED, Outcome.PASSED)
    assert hidden_limits(LIMITS).cpu_s > LIMITS.cpu_s


EQUAL_TO_ALL = """    class Equal({base}):
        def __eq__(self, other): return True
        def __ne__(self, other): return False
        def __hash__(self): return 0
        def __sub__(self, other): return 0.0
        __rsub__ = __sub__
        def __abs__(self): return 0.0
        def __le__(self, other): return True
        __lt__ = __ge__ = __gt__ = __le__
    return Equal()
"""
PATCHED = """    import builtins, math
    math.isclose = lambda *given, **named: True
    builtins.abs = lambda number: 0
    builtins.all = lambda values: True
    return None
"""


@pytest.mark.slow
def test_answers_that_claim_to_be_equal_pass_nowhere(
    evalplus_files: Path, references: None
) -> None:
    hidden = {each.task_id: each for each in WITH_HIDDEN["humaneval_plus"](evalplus_files)}
    bases = ("object", "list", "float", "str", "int", "tuple", "dict")
    completions = [
        *(EQUAL_TO_ALL.format(base=base) for base in bases),
        PATCHED,
        "    return float('nan')\n",
        "    return float('inf')\n",
        "    import os; os._exit(0)\n",
    ]
    # A truth, strings, a float, a mean, the root of a polynomial, numbers.
    tasks = [f"HumanEval/{number}" for number in (0, 1, 2, 4, 32, 21)]
    answers = [(hidden[task], completion) for task in tasks for completion in completions]
    ran = run_hidden(LIMITS, answers, num_workers=1, is_strict=False)
    assert not any(run.passed for run in ran)
    solutions = [(hidden[task], hidden[task].problem.canonical_solution) for task in tasks]
    assert all(run.passed for run in run_hidden(LIMITS, solutions, num_workers=1, is_strict=False))
