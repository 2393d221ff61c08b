"""What the guardrail stops of generated credentials, and what vetting costs.

    OMP_NUM_THREADS=1 python benchmarks/guardrail.py recall|cost|clean

``recall``: the share of the tests' seeded credentials that do not pass, by kind and by carrier.
``cost``: microseconds for a package of 128 answers, as a ratio to one ast.parse of each answer and
to detect-secrets, its default plugins and filters on each answer as a file. ``clean``: what is
blocked, redacted and counted of programs without secrets. ``cost`` and ``clean`` need the public
benchmark files, see KNEXA_BENCHMARKS in benchmarks/README.md. Times are the least processor time of
alternating repetitions.
"""

import argparse
import ast
import gzip
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

sys.path.insert(0, str(Path(__file__).parents[1]))  # the corpus is among the tests

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from tests.exchange.guardrail.credential_corpus import CARRIERS, KINDS, LONG_CARRIERS, corpus, leaks

from knexa.data.codelets import Codelets
from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import TextItem
from sandbox import benchmark_folder

PACKAGE = 128  # answers


def benchmark_solutions() -> list[str]:
    """Return HumanEval's and MBPP's canonical solutions."""
    folder, texts = benchmark_folder(), []
    for file, key in (("HumanEval.jsonl.gz", "canonical_solution"), ("mbpp.jsonl.gz", "code")):
        with gzip.open(folder / file, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)[key] for line in lines]
    return texts


def codelet_solutions() -> list[str]:
    """Return the canonical solutions of all codelets."""
    return [problem.canonical_solution for problem in Codelets().all_problems()]


def clean_programs() -> dict[str, list[str]]:
    """Return programs without secrets, by where they are from."""
    return {"codelets": codelet_solutions(), "HumanEval and MBPP": benchmark_solutions()}


def detect_secrets_finds(file: Path, text: str) -> bool:
    """Say whether detect-secrets finds anything in a file of that text."""
    file.write_text(text)
    return any(True for _ in scan_file(str(file)))


def recall(per_cell: int, file: Path) -> None:
    """Print the share of credentials that do not pass."""
    guardrail, tried, stopped, theirs = Guardrail(), Counter(), Counter(), Counter()
    for kind in KINDS:
        for carrier in CARRIERS | LONG_CARRIERS:
            number = per_cell if carrier in CARRIERS else 1
            for index, (secret, text) in enumerate(corpus(kind, carrier, number)):
                for name in ("all", kind, carrier):
                    tried[name] += 1
                    stopped[name] += not leaks(guardrail, secret, text)
                if index == 0 and carrier in CARRIERS:  # it takes seconds for a long text
                    for name in ("all", kind, carrier):
                        theirs["tried", name] += 1
                        theirs["found", name] += detect_secrets_finds(file, text)
    print(f"{'':<26}{'tried':>8}{'stopped':>10}{'share':>9}{'detect-secrets':>16}")
    for name, number in tried.items():
        share = theirs["found", name] / (theirs["tried", name] or float("nan"))
        print(
            f"{name:<26}{number:>8}{stopped[name]:>10}{stopped[name] / number:>9.2%}{share:>16.1%}"
        )


def clean(file: Path) -> None:
    """Print what is found in clean programs."""
    corpora = clean_programs()
    print(
        f"{'':<30}{'programs':>10}{'blocked':>9}{'redacted':>10}{'counted':>9}{'detect-secrets':>16}"
    )
    for name, texts in corpora.items():
        items = [TextItem(task_id=str(i), completion=text) for i, text in enumerate(texts)]
        report = Guardrail().vet(items).report
        theirs = sum(detect_secrets_finds(file, text) for text in texts)
        print(
            f"{name:<30}{len(texts):>10}{report.blocked:>9}{report.redacted:>10}"
            f"{report.counted:>9}{theirs:>16}"
        )


def parsed(text: str) -> ast.Module | None:
    """Parse an answer, a function's body."""
    try:
        return ast.parse(dedent(text))
    except SyntaxError:
        return None


def cost(repeat: int, file: Path) -> None:
    """Print microseconds a package and ratios."""
    guardrail = Guardrail()
    for name, texts in clean_programs().items():
        sample = texts[:: len(texts) // PACKAGE][:PACKAGE]
        items = [TextItem(task_id=str(i), completion=text) for i, text in enumerate(sample)]
        rivals: dict[str, Callable[[], object]] = {
            "ast.parse of each answer": lambda sample=sample: [parsed(text) for text in sample],
            "guardrail": lambda items=items: guardrail.vet(items),
            "detect-secrets": lambda sample=sample: [
                detect_secrets_finds(file, text) for text in sample
            ],
        }
        best = dict.fromkeys(rivals, float("inf"))
        for _ in range(repeat):
            for rival, run in rivals.items():
                begin = time.process_time()
                run()
                best[rival] = min(best[rival], time.process_time() - begin)
        print(f"\n{len(items)} answers of {name}")
        floor = best["ast.parse of each answer"]
        for rival, seconds in best.items():
            print(f"  {rival:<26}{seconds * 1e6:>12,.0f} us{seconds / floor:>9.2f}x")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", choices=("recall", "cost", "clean"))
    parser.add_argument("--repeat", type=int, default=7, help="repetitions of a timing")
    parser.add_argument("--per-cell", type=int, default=25, help="credentials a kind and carrier")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, default_settings():
        scratch = Path(folder) / "answer.py"
        if options.study == "recall":
            recall(options.per_cell, scratch)
        elif options.study == "clean":
            clean(scratch)
        else:
            cost(options.repeat, scratch)
