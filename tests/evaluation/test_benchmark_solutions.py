"""Every canonical solution of the public benchmarks passes; an empty answer passes nothing."""

from pathlib import Path

import pytest

from knexa.data import load_problems
from knexa.evaluation import Executor, Limits, gate
from knexa.evaluation.known import KNOWN_BAD, SLOW


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_problems"), [("humaneval", 164), ("mbpp", 974)])
def test_gate_lets_the_whole_benchmark_through(
    benchmarks: Path, name: str, num_problems: int
) -> None:
    problems = load_problems(name, benchmarks)
    assert len(problems) == num_problems
    with Executor(limits=Limits(cpu_s=4.0, wall_s=40.0), num_workers=2) as executor:
        report = gate(executor, problems)
    assert set(report.excluded) == {name for name in KNOWN_BAD if name in report.excluded}
    assert report.num_none_passed == 0


def test_slow_problems_are_named_for_a_reason(benchmarks: Path) -> None:
    known = {problem.task_id for problem in load_problems("mbpp", benchmarks)}
    assert set(SLOW) <= known
    assert set(KNOWN_BAD) <= known
