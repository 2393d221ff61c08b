"""Every canonical solution of the public benchmarks passes; an empty answer passes nothing."""

from pathlib import Path

import pytest

from knexa.data.benchmark_quirks import CANONICAL_CPU_S, KNOWN_BAD, LISTED_FROM_S
from knexa.data.humaneval_mbpp import PUBLISHED
from knexa.evaluation import Executor, Limits, check_problems


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_problems"), [("humaneval", 164), ("mbpp", 974)])
def test_gate_lets_the_whole_benchmark_through(
    benchmarks: Path, name: str, num_problems: int
) -> None:
    problems = PUBLISHED[name](benchmarks)
    assert len(problems) == num_problems
    with Executor(limits=Limits(cpu_s=4.0, wall_s=40.0), num_workers=2) as executor:
        report = check_problems(executor, problems)
        # Kept by the check: nothing runs again.
        costs = executor.run([(problem, problem.canonical_solution) for problem in problems])
    assert set(report.excluded) == {name for name in KNOWN_BAD if name in report.excluded}
    assert report.num_none_passed == 0
    # Far below each limit at the default of evaluation.cpu_s, and listed where not far below 1 s.
    for problem, cost in zip(problems, costs, strict=True):
        assert 0 < cost.cpu_s < max(1.0, 4 * problem.canonical_cpu_s) / 2
        assert problem.task_id in CANONICAL_CPU_S or cost.cpu_s < 4 * LISTED_FROM_S


def test_costs_are_listed_of_problems_that_exist(benchmarks: Path) -> None:
    names = ("humaneval", "mbpp")
    known = {each.task_id for name in names for each in PUBLISHED[name](benchmarks)}
    assert set(CANONICAL_CPU_S) | set(KNOWN_BAD) <= known
    assert all(cost > LISTED_FROM_S for cost in CANONICAL_CPU_S.values())
