from collections.abc import Iterator

import pytest

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits

# A third of a second of CPU decides; nothing here needs more than a few milliseconds.
QUICK = Limits(cpu_s=0.4, wall_s=4.0, memory_mb=128)


@pytest.fixture(scope="session")
def executor() -> Iterator[Executor]:
    with Executor(limits=QUICK) as executor:
        yield executor


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
