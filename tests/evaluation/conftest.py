import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits

# A third of a second of CPU decides; nothing here needs more than a few milliseconds.
QUICK = Limits(cpu_s=0.4, wall_s=4.0, memory_mb=128)


@pytest.fixture(scope="session")
def executor() -> Iterator[Executor]:
    with Executor(limits=QUICK) as executor:
        yield executor


@pytest.fixture(scope="session")
def benchmark_folder() -> Path:
    """The folder with HumanEval.jsonl.gz and mbpp.jsonl.gz; KNEXA_BENCHMARKS overrides it."""
    beside = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("KNEXA_BENCHMARKS", beside))
    if not (folder / "HumanEval.jsonl.gz").exists():
        message = f"no benchmark data in {folder}; set KNEXA_BENCHMARKS to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


def make_problem(test_code: str, **fields: str) -> Problem:
    values = {
        "task_id": "toy/0",
        "prompt": 'def solve(x):\n    """Solve it."""\n',
        "entry_point": "solve",
        "canonical_solution": "    return x\n",
        "source": "toy",
        **fields,
    }
    return Problem(test_code=test_code, category=0, **values)


@pytest.fixture(scope="session")
def double() -> Problem:
    """Return twice the argument; one argument of the tests is nowhere but there."""
    return make_problem(
        "assert candidate(2) == 4\nassert solve(-7) == -14\nassert candidate('ab') == 'abab'\n",
        task_id="toy/double",
        canonical_solution="    return x * 2\n",
    )
