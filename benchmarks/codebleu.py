"""CodeBLEU pairs a second, with the PyPI package codebleu 0.7.0.

    pip install --target FOLDER codebleu==0.7.0 tree-sitter==0.22.3 tree-sitter-python==0.21.0 \
        'setuptools<81'
    OMP_NUM_THREADS=1 python benchmarks/codebleu.py FOLDER [--run RUN]

Ten candidates for every reference: five mutants of the canonical solution of a codelet, a HumanEval
or an MBPP problem, and five pieces of it that end after a part of its lines, as unfinished answers
do. With --run also what that finished run on codelets generated at its end, where many answers are
equal; the references are then without docstrings, as in a run's own scores.

Both sides get the same texts, batch by batch in turns; ours also computes the ``fixed`` form. The
package runs in an interpreter of its own, which has loaded nothing else. Times are of the
processor. How many scores differ by more than 1e-9 is printed; ``knexa.evaluation.dataflow`` says
of what, and the package's pinned grammar is older than ours. Nothing here is a test.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from knexa.agents.mutants import mutant
from knexa.data.codelets import Codelets
from knexa.data.humaneval_mbpp import PUBLISHED
from knexa.data.problem import Problem
from knexa.evaluation.codebleu import CodeBleuReference, comparable
from knexa.tracking.run_directory import RunDirectory

BATCH = 8  # references
PACKAGE = """
import json, logging, sys, time
sys.path.insert(0, sys.argv[1])
logging.disable(logging.WARNING)  # it warns of references without a data flow
from codebleu import calc_codebleu
for line in sys.stdin:
    work, start = json.loads(line), time.process_time()
    scores = [
        [calc_codebleu([reference], [text], lang="python")["codebleu"] for text in candidates]
        for reference, candidates in work
    ]
    print(json.dumps([time.process_time() - start, scores]), flush=True)
"""

Work = list[tuple[str, list[str]]]


def candidates(problem: Problem, rng: np.random.Generator) -> list[str]:
    """Return ten texts that a model might have answered."""
    lines = problem.canonical_solution.splitlines(keepends=True)
    cuts = [max(1, round(len(lines) * part)) for part in (0.2, 0.4, 0.6, 0.8, 1.0)]
    pieces = ["".join(lines[:cut]).rstrip()[: -1 - index] for index, cut in enumerate(cuts)]
    return [mutant(problem, rng) + f"# {i}\n" for i in range(5)] + pieces


def answers(run: Path) -> Work:
    """Return every agent's samples of every problem of a finished run."""
    problems = {problem.task_id: problem for problem in Codelets().load()}
    samples: dict[str, list[str]] = {}
    for row in RunDirectory(run).read_samples():
        text = comparable(problems[row.task_id], row.completion)
        samples.setdefault(row.task_id, []).append(text)
    return [
        (comparable(problems[task_id], problems[task_id].canonical_solution), texts)
        for task_id, texts in samples.items()
    ]


def ours(work: Work) -> tuple[float, list[list[float]]]:
    """Return the seconds and the scores of knexa."""
    start = time.process_time()
    scores = []
    for reference, texts in work:
        parsed = CodeBleuReference(reference)
        found = {text: parsed.score(text).compat for text in dict.fromkeys(texts)}
        scores.append([found[text] for text in texts])
    return time.process_time() - start, scores


def compare(package: "subprocess.Popen[str]", name: str, work: Work) -> None:
    """Time both sides batch by batch, in turns, and print what came out."""

    def theirs(batch: Work) -> tuple[float, list[list[float]]]:
        assert package.stdin is not None
        assert package.stdout is not None
        print(json.dumps(batch), file=package.stdin, flush=True)
        seconds, scores = json.loads(package.stdout.readline())
        return seconds, scores

    seconds: dict[str, list[float]] = {"package": [], "knexa": []}
    differing = pairs = 0
    for number, begin in enumerate(range(0, len(work), BATCH)):
        batch = work[begin : begin + BATCH]
        sides = {"package": theirs, "knexa": ours}
        found = {}
        for side in list(sides) if number % 2 else list(reversed(sides)):
            spent, found[side] = sides[side](batch)
            seconds[side].append(spent)
        for a, b in zip(found["package"], found["knexa"], strict=True):
            differing += int((np.abs(np.subtract(a, b)) > 1e-9).sum())
            pairs += len(a)
    total = {side: sum(values) for side, values in seconds.items()}
    ratios = [a / b for a, b in zip(seconds["package"], seconds["knexa"], strict=True)]
    print(
        f"{name:<10} {pairs:>6} pairs: package {1e3 * total['package'] / pairs:6.2f} ms, knexa "
        f"{1e3 * total['knexa'] / pairs:6.3f} ms a pair, {total['package'] / total['knexa']:5.1f}x "
        f"(batches: median {statistics.median(ratios):.1f}x); {differing} differ"
    )


def main() -> None:
    """Compare on codelets, and on the public benchmarks where KNEXA_BENCHMARKS says they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="folder that holds codebleu 0.7.0")
    parser.add_argument("--references", type=int, default=160, help="of each benchmark, at most")
    parser.add_argument("--run", type=Path, help="directory of a finished run on codelets")
    options = parser.parse_args()
    folder = os.environ.get("KNEXA_BENCHMARKS")
    names = ("codelets", "humaneval", "mbpp") if folder else ("codelets",)
    command = [sys.executable, "-c", PACKAGE, str(options.package)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as package:
        for name in names:
            problems = list(
                PUBLISHED[name](Path(folder or "")) if name in PUBLISHED else Codelets().load()
            )
            rng = np.random.default_rng(0)
            problems = problems[:: max(1, len(problems) // options.references)]
            work = [(each.canonical_solution, candidates(each, rng)) for each in problems]
            compare(package, name, work)
        if options.run:
            compare(package, "the run", answers(options.run))


if __name__ == "__main__":
    main()
