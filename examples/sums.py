# python -m knexa -cd . data=sums partition=iid roster=duo debug=smoke 'trusted_modules=[sums]'
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.problem import CATEGORIES, Problem


@dataclass(frozen=True, kw_only=True)
class Sums(Dataset):
    """Functions that add a constant, each problem another one."""

    num_train: Annotated[int, Field(ge=1)] = 60

    def load(self) -> Benchmark:
        every = tuple(map(addition, range(40 + self.num_train)))
        return Benchmark(name="sums", test=every[:20], transfer=every[20:40], train=every[40:])


def addition(k: int) -> Problem:
    prompt = f'def plus_{k}(number):\n    """Return number + {k}."""\n'
    tests = f"assert candidate(2) == {2 + k}\nassert candidate(-1) == {k - 1}\n"
    texts = {"prompt": prompt, "canonical_solution": f"    return number + {k}\n"}
    kind = {"category": CATEGORIES.index("arithmetic"), "source": "sums"}
    return Problem(task_id=f"sums/{k}", entry_point=f"plus_{k}", test_code=tests, **texts, **kind)
