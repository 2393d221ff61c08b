"""``data=codelets``: HumanEval-style problems from a seeded generator, for the tiny backbones.

Twelve categories of eight templates each; an instance of a template chooses function name, argument
names, wording and constants. No two instances share a body up to renaming, so train, test and
transfer are disjoint.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar

from pydantic import Field

from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.codelets import (
    templates_numbers,
    templates_sequences,
    templates_structures,
    templates_text,
)
from knexa.data.codelets.template import Template, instantiate
from knexa.data.problem import CATEGORIES, Problem
from knexa.seeding import derive_seed

GENERATOR_VERSION = 2
"""Incremented with every change to templates or generator that changes a problem."""

_POOL_SEED = 0  # the pool of problems does not depend on the split

TEMPLATES: dict[str, tuple[Template, ...]] = {
    "arithmetic": templates_numbers.ARITHMETIC,
    "number_theory": templates_numbers.NUMBER_THEORY,
    "conditionals": templates_numbers.CONDITIONALS,
    "aggregation": templates_sequences.AGGREGATION,
    "filtering": templates_sequences.FILTERING,
    "mapping": templates_sequences.MAPPING,
    "ordering": templates_sequences.ORDERING,
    "string_building": templates_text.STRING_BUILDING,
    "string_queries": templates_text.STRING_QUERIES,
    "dictionaries": templates_structures.DICTIONARIES,
    "sets_tuples": templates_structures.SETS_TUPLES,
    "recurrences": templates_structures.RECURRENCES,
}
"""Templates of each category."""


@dataclass(frozen=True, kw_only=True)
class Codelets(Dataset):
    """The generated benchmark, split by template instance.

    Attributes:
        num_train: Problems of the agents' training pool.
        num_test: Problems of the global test set, for reporting only.
        num_transfer: Problems of the transfer set, which teachers answer.
        num_variants: How many operators, directions and the like a template may use; with 1 its
            instances differ in names, wording and constants only. More is harder to learn.
        split_seed: Which instances go to which set; the problems themselves do not depend on it.
    """

    name: ClassVar[str] = "codelets"

    num_train: Annotated[int, Field(ge=12)] = 348
    num_test: Annotated[int, Field(ge=12)] = 116
    num_transfer: Annotated[int, Field(ge=12)] = 128
    num_variants: Annotated[int, Field(ge=1, le=4)] = 1
    split_seed: Annotated[int, Field(ge=0)] = 42

    def __post_init__(self) -> None:
        capacity = min(
            sum(len(kind.choices(self.num_variants)) for kind in kinds)
            for kinds in TEMPLATES.values()
        ) * len(CATEGORIES)
        total = self.num_train + self.num_test + self.num_transfer
        if total > capacity - len(CATEGORIES):
            raise ValueError(
                f"num_train + num_test + num_transfer is {total}, but the generator has "
                f"{capacity - len(CATEGORIES)} distinct problems in equal shares; lower one of them"
            )

    def fingerprint(self) -> str:
        """Return generator version and a digest of every problem and of the split."""
        benchmark = self.load()
        digest = hashlib.sha256()
        for part in (benchmark.train, benchmark.test, benchmark.transfer):
            for p in part:
                text = (p.task_id, p.prompt, p.canonical_solution, p.test_code)
                digest.update("\x1f".join(text).encode())
            digest.update(b"\x1e")
        return f"codelets-v{GENERATOR_VERSION}-{digest.hexdigest()[:16]}"

    def load(self) -> Benchmark:
        """Generate the three sets; every category is in each of them in equal share."""
        sizes = self.num_train, self.num_test, self.num_transfer
        return _load(*sizes, self.num_variants, self.split_seed)

    def all_problems(self) -> tuple[Problem, ...]:
        """Return train, test and transfer problems, in this order."""
        benchmark = self.load()
        return benchmark.train + benchmark.test + benchmark.transfer


@lru_cache(maxsize=4)
def _load(
    num_train: int, num_test: int, num_transfer: int, num_variants: int, split_seed: int
) -> Benchmark:
    sets: dict[str, list[Problem]] = {"test": [], "transfer": [], "train": []}
    # Extra problems of the three sets start at different categories, which keeps totals even.
    quotas = {
        "test": _shares(num_test, 0),
        "transfer": _shares(num_transfer, num_test),
        "train": _shares(num_train, num_test + num_transfer),
    }
    for category in range(len(CATEGORIES)):
        size = sum(quota[category] for quota in quotas.values())
        pool = _pool(category, size, num_variants)
        rng = random.Random(derive_seed(split_seed, "codelets split", category))
        ordered = _round_robin(pool, rng)
        for name, quota in quotas.items():
            sets[name] += [next(ordered) for _ in range(quota[category])]
    for name, problems in sets.items():
        random.Random(derive_seed(split_seed, "codelets order", name)).shuffle(problems)
    return Benchmark(
        name="codelets",
        train=tuple(sets["train"]),
        test=tuple(sets["test"]),
        transfer=tuple(sets["transfer"]),
    )


def _shares(total: int, start: int) -> list[int]:
    """Split ``total`` over the categories; those after ``start`` get the remainder."""
    num = len(CATEGORIES)
    extra = {(start + i) % num for i in range(total % num)}
    return [total // num + (category in extra) for category in range(num)]


def _pool(category: int, size: int, num_variants: int) -> list[list[Problem]]:
    """Return ``size`` problems of one category, listed by template, as evenly as slots allow."""
    kinds = TEMPLATES[CATEGORIES[category]]
    choices = []
    for kind in kinds:
        rng = random.Random(derive_seed(_POOL_SEED, "codelets slots", category, kind.name))
        options = kind.choices(num_variants)
        rng.shuffle(options)
        choices.append(options)
    pool: list[list[Problem]] = [[] for _ in kinds]
    index = 0
    while sum(map(len, pool)) < size:
        for kind, options, problems in zip(kinds, choices, pool, strict=True):
            if index < len(options) and sum(map(len, pool)) < size:
                seed = derive_seed(_POOL_SEED, "codelets", category, kind.name, index)
                problems.append(
                    instantiate(kind, category, options[index], index, random.Random(seed))
                )
        index += 1
    return pool


def _round_robin(pool: list[list[Problem]], rng: random.Random) -> Iterator[Problem]:
    """Yield one problem of each template, then the next of each: any slice covers all templates."""
    stacks = [rng.sample(problems, len(problems)) for problems in pool]
    while any(stacks):
        turn = [stack.pop() for stack in stacks if stack]
        rng.shuffle(turn)
        yield from turn
