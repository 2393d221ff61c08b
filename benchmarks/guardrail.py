"""What the guardrail stops of generated credentials, and what vetting costs.

    OMP_NUM_THREADS=1 python benchmarks/guardrail.py recall|evasions|cost|worst|clean

``recall``: the share of the tests' seeded credentials that do not pass, by kind and by carrier.
``evasions``: what is stopped of texts that were chosen to evade, and what is blocked and redacted
of harmless ones, by group, of the corpus that reports and of the one that tunes. ``cost``:
microseconds for a package of 128 answers, as a ratio to one ast.parse of each answer and to
detect-secrets, its default plugins and filters on each answer as a file. ``worst``: seconds for a
package of 4 MiB of each of the costliest fragments that are known, and as multiples of one
ast.parse of as much ordinary code and of one SHA-256 of the package. ``clean``: what is blocked,
redacted and counted of programs without secrets. ``cost`` and ``clean`` need the public benchmark
files, see KNEXA_BENCHMARKS in benchmarks/README.md. Times are processor time, the least of
alternating repetitions but in ``worst``, which makes one.
"""

import argparse
import ast
import gzip
import hashlib
import json
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

sys.path.insert(0, str(Path(__file__).parents[1]))  # the corpus is among the tests

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from tests.exchange.guardrail import evasions_reported, evasions_tuned
from tests.exchange.guardrail.credential_corpus import CARRIERS, KINDS, LONG_CARRIERS, corpus, leaks
from tests.exchange.guardrail.evasions import false_alarms, score
from tests.exchange.guardrail.hostile_texts import FRAGMENTS, filled

from knexa.data.codelets import Codelets
from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import DEFAULT_LIMITS, TextItem
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


def library_functions() -> list[str]:
    """Return the functions of this Python's standard library, of modules at the top level."""
    functions = []
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        source = file.read_text(encoding="utf-8")
        lines = source.split("\n")
        functions += [
            "\n".join(lines[node.lineno - 1 : node.end_lineno])
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef)
        ]
    return [text for text in functions if len(text) <= DEFAULT_LIMITS.max_completion]


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


def evasions() -> None:
    """Print what is stopped of evasions, and the false alarms, by corpus and group."""
    guardrail = Guardrail()
    for name, source in (("reported", evasions_reported), ("tuned", evasions_tuned)):
        print(f"\n{name:<26}{'cases':>8}{'stopped':>10}{'share':>9}")
        for kinds in (source.CREDENTIALS, source.PERSONAL):
            totals = score(kinds, source.GENERATORS, guardrail)
            stopped, number = (sum(column) for column in zip(*totals.values(), strict=True))
            for group, (good, tried) in (*totals.items(), ("all", (stopped, number))):
                print(f"{group:<26}{tried:>8}{good:>10}{good / tried:>9.1%}")
        print(f"{'':<26}{'cases':>8}{'blocked':>10}{'redacted':>10}")
        alarms = false_alarms(source.HARMLESS, source.GENERATORS, guardrail)
        alarms["all"] = tuple(sum(column) for column in zip(*alarms.values(), strict=True))
        for group, (blocked, redacted, tried) in alarms.items():
            print(f"{group:<26}{tried:>8}{blocked:>10}{redacted:>10}")


def worst() -> None:
    """Print what packages of 4 MiB cost that are made of the costliest fragments known."""
    guardrail, size = Guardrail(), DEFAULT_LIMITS.max_bytes
    code = "\n".join(codelet_solutions())
    parse = min(parse_seconds(code) for _ in range(5)) * size / len(code.encode())
    print(f"{'fragment':<44}{'seconds':>9}{'ast.parse':>11}{'SHA-256':>9}")
    for opening, fragment in FRAGMENTS:
        text = filled(opening, fragment, DEFAULT_LIMITS.max_completion)
        number = size // len(text.encode())
        items = [TextItem(task_id=str(i), completion=text) for i in range(number)]
        begin = time.process_time()
        guardrail.vet(items)
        seconds = time.process_time() - begin
        begin = time.process_time()
        hashlib.sha256(text.encode() * number).digest()
        digest = time.process_time() - begin
        print(
            f"{ascii(opening + fragment)[:42]:<44}{seconds:>9.2f}{seconds / parse:>11.1f}"
            f"{seconds / digest:>9,.0f}"
        )


def parse_seconds(code: str) -> float:
    """Return the processor time of one ast.parse of the bodies of functions."""
    begin = time.process_time()
    parsed(code)
    return time.process_time() - begin


def clean(file: Path) -> None:
    """Print what is found in clean programs."""
    corpora = clean_programs() | {"standard library, functions": library_functions()}
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
    parser.add_argument("study", choices=("recall", "evasions", "cost", "worst", "clean"))
    parser.add_argument("--repeat", type=int, default=7, help="repetitions of a timing")
    parser.add_argument("--per-cell", type=int, default=25, help="credentials a kind and carrier")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, default_settings():
        scratch = Path(folder) / "answer.py"
        if options.study == "recall":
            recall(options.per_cell, scratch)
        elif options.study == "evasions":
            evasions()
        elif options.study == "worst":
            worst()
        elif options.study == "clean":
            clean(scratch)
        else:
            cost(options.repeat, scratch)
