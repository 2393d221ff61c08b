"""Scores a file of completions by executing them: pass@k.

    knexa score samples.jsonl --data humaneval --path DIR --k 1,10

Reads lines of {"task_id", "completion"} (or EvalPlus' "solution", a whole program), writes them
again to SAMPLES.jsonl_results.jsonl with passed and outcome added to each, and prints one JSON
object last on standard output: pass@k with 95 % intervals by problem. Infrastructure errors are
counted and left out, never scored as wrong (their passed is null).

Where problems have hidden tests (humaneval_plus, mbpp_plus), programs that pass the public ones run
them too: passed_plus and outcome_plus of each (null where they were not run), and pass@k_plus, for
which a program must pass both.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knexa.cli.parser import Parser
from knexa.data.benchmark import Dataset
from knexa.data.problem import HiddenTests, Problem
from knexa.errors import UserError
from knexa.evaluation.hidden_tests import run_hidden
from knexa.evaluation.metrics import pass_at_k
from knexa.sandbox.executor import Executor
from knexa.sandbox.outcome import Execution, Limits, Outcome, count_outcomes
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean

_DEFAULT_KS = (1, 5, 10)


def main(arguments: Sequence[str]) -> int:
    """Score a file; return the exit code."""
    print(json.dumps(_score(_parse(arguments))))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("knexa score", __doc__)
    parser.add_argument("samples", type=Path, metavar="SAMPLES.jsonl", help="the completions")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="settings of an option of data=, such as data.split_seed=1",
    )
    whole = (
        "the benchmark whose problems they solve: humaneval, mbpp, humaneval_plus, mbpp_plus, or "
        "an option of data="
    )
    parser.option("--data", "NAME", whole)
    folder = "folder with the benchmark's JSONL, or data.path"
    parser.option("--path", "DIR", folder, Path, otherwise="it is fetched")
    parser.add_argument(
        "-cd",
        "--config-dir",
        metavar="DIR",
        help="folder with options of your own (default: the package's alone)",
    )
    usual = ",".join(map(str, _DEFAULT_KS))
    parser.option("--k", "K,K,...", "tries of pass@k, at most n", otherwise=f"{usual}, up to n")
    parser.option("--workers", "N", "programs run at once", int, default=1)
    cpu_s = Limits().cpu_s
    parser.option("--cpu-s", "SECONDS", "CPU time that a program may use", float, default=cpu_s)
    parser.add_argument(
        "--sandbox",
        choices=("available", "strict"),
        default="available",
        help="strict refuses to run programs where a layer is missing (default: %(default)s)",
    )
    return parser.parse_intermixed_args(arguments)


def _parse_ks(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--k {text!r} is not a list of whole numbers such as 1,5,10") from None
    if min(ks) < 1:
        raise UserError(f"--k {text!r}: every k must be at least 1")
    return ks


def _score(options: argparse.Namespace) -> dict[str, Any]:
    asked = _parse_ks(options.k)
    if options.workers < 1:
        raise UserError(f"--workers {options.workers} must be at least 1")
    if not 0 < options.cpu_s <= 3600:
        raise UserError(f"--cpu-s {options.cpu_s} must lie between 0 and 3600 seconds")
    samples = _read(options.samples)
    problems, hidden = _problems(options)
    for number, sample in samples:
        if sample["task_id"] not in problems:
            raise UserError(
                f"{options.samples} line {number}: no task {sample['task_id']!r} in "
                f"{options.data}; ids look like {next(iter(problems))!r}"
            )
    ks = _choose_ks(asked, Counter(sample["task_id"] for _, sample in samples))
    limits = Limits(cpu_s=options.cpu_s, wall_s=max(Limits().wall_s, 5 * options.cpu_s))
    is_strict = options.sandbox == "strict"
    with Executor(limits=limits, num_workers=options.workers, is_strict=is_strict) as executor:
        executions = executor.run(
            [(problems[sample["task_id"]], _answer(sample)) for _, sample in samples]
        )
    scored = [
        Scored(sample, execution)
        for (_, sample), execution in zip(samples, executions, strict=True)
    ]
    report = _summarise([(each.task_id, each.public) for each in scored], ks)
    if hidden:
        further = [each for each in scored if each.public.passed and each.task_id in hidden]
        found = run_hidden(
            limits,
            [(hidden[each.task_id], _answer(each.sample)) for each in further],
            num_workers=options.workers,
            is_strict=is_strict,
        )
        for each, execution in zip(further, found, strict=True):
            each.hidden = execution
        both = [(each.task_id, each.of_both) for each in scored if each.task_id in hidden]
        report |= {f"{name}_plus": value for name, value in _summarise(both, ks).items()}
    _write(Path(f"{options.samples}_results.jsonl"), scored, hidden)
    return report


@dataclass
class Scored:
    """A sample, and how it ended on the public and, where they were run, on the hidden tests."""

    sample: dict[str, Any]
    public: Execution
    hidden: Execution | None = None

    @property
    def task_id(self) -> str:
        """The problem that it answers."""
        return str(self.sample["task_id"])

    @property
    def of_both(self) -> Execution:
        """What decides whether it passes all tests."""
        return self.hidden or self.public


def _problems(options: argparse.Namespace) -> tuple[dict[str, Problem], dict[str, HiddenTests]]:
    """Return the problems of a published benchmark, or of an option of ``data=``, by task id.

    The second are the hidden tests that they have.
    """
    from knexa.data.evalplus import WITH_HIDDEN
    from knexa.data.humaneval_mbpp import PUBLISHED

    if options.data in PUBLISHED:
        return {each.task_id: each for each in PUBLISHED[options.data](options.path)}, {}
    if options.data in WITH_HIDDEN:
        hidden = {each.task_id: each for each in WITH_HIDDEN[options.data](options.path)}
        return {task_id: each.problem for task_id, each in hidden.items()}, hidden
    from knexa.config import compose
    from knexa.config.components import instantiate

    place = [] if options.path is None else [f"data.path={options.path}"]
    folder = [] if options.config_dir is None else ["-cd", options.config_dir]
    arguments = [*folder, f"data={options.data}", *place, *options.overrides]
    (job,) = compose.compose(compose.parse_arguments(arguments)).jobs
    dataset: Dataset = instantiate(
        job.config["data"], key="data", trusted_modules=job.config["trusted_modules"]
    )
    benchmark = dataset.load()
    return (
        {problem.task_id: problem for problem in benchmark},
        {each.task_id: each for each in benchmark.hidden},
    )


def _read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return (line number, sample) of every line that is not blank."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    samples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            sample = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} line {number} is not JSON: {error}") from None
        if not isinstance(sample, dict):
            raise UserError(f"{path} line {number} is not an object with task_id and completion")
        for key, value in (("task_id", sample.get("task_id")), ("completion", _answer(sample))):
            if not isinstance(value, str):
                raise UserError(f"{path} line {number}: {key!r} is missing or not a string")
        samples.append((number, sample))
    if not samples:
        raise UserError(f"{path} has no samples; each line is {{'task_id', 'completion'}} as JSON")
    return samples


def _answer(sample: dict[str, Any]) -> Any:
    """Return a sample's program; None where it has none."""
    return sample.get("completion", sample.get("solution"))


def _choose_ks(asked: tuple[int, ...] | None, counts: "Counter[str]") -> tuple[int, ...]:
    """Return the k to report: defaults above n are dropped with a note, others refused."""
    task_id, n = min(counts.items(), key=lambda item: item[1])
    if asked is None:
        ks = tuple(k for k in _DEFAULT_KS if k <= n)
        if ks != _DEFAULT_KS:
            print(f"pass@k for k up to {n} only: {task_id} has {n} samples", file=sys.stderr)
        return ks
    if max(asked) > n:
        raise UserError(
            f"--k {max(asked)} needs at least {max(asked)} samples a problem, {task_id} has {n}; "
            f"lower --k or draw more samples"
        )
    return asked


def _write(path: Path, scored: Sequence[Scored], hidden: Container[str]) -> None:
    """Write the samples with what came of them; ``hidden`` are the tasks with hidden tests."""
    with path.open("w", encoding="utf-8") as file:
        for each in scored:
            row = {**each.sample, "passed": _verdict(each.public)}
            row["outcome"] = str(each.public.outcome)
            if each.task_id in hidden:
                row["passed_plus"] = _verdict(each.of_both)
                row["outcome_plus"] = None if each.hidden is None else str(each.hidden.outcome)
            file.write(json.dumps(row) + "\n")


def _verdict(execution: Execution) -> bool | None:
    """Return whether a program passed; None where the sandbox failed."""
    failed = execution.outcome is Outcome.INFRASTRUCTURE_ERROR
    return None if failed else execution.passed


def _summarise(executions: Sequence[tuple[str, Execution]], ks: tuple[int, ...]) -> dict[str, Any]:
    """Return pass@k over the problems with at least k scored samples.

    ``executions`` are those of (task id, its sample).
    """
    num_scored: Counter[str] = Counter({task_id: 0 for task_id, _ in executions})
    num_right: Counter[str] = Counter()
    for task_id, execution in executions:
        if execution.outcome is not Outcome.INFRASTRUCTURE_ERROR:
            num_scored[task_id] += 1
            num_right[task_id] += execution.passed
    report: dict[str, Any] = {}
    for k in ks:
        values = [pass_at_k(n, num_right[task], k) for task, n in num_scored.items() if n >= k]
        if len(values) < len(num_scored):
            lost = len(num_scored) - len(values)
            print(f"pass@{k} leaves out {lost} problems: infrastructure errors", file=sys.stderr)
        rng = derive_rng(0, "evaluation.bootstrap", k)
        report[f"pass@{k}"] = bootstrap_mean(values, rng=rng).as_dict() if values else None
    report["num_problems"] = len(num_scored)
    report["num_samples"] = len(executions)
    report["outcomes"] = count_outcomes(execution for _, execution in executions)
    return report
