"""``data=codelets``: HumanEval-style problems from a seeded generator, for the tiny backbones.

Twelve categories; an instance of a template chooses function name, argument names, wording and
constants. No two instances share a body up to renaming, so train, test, transfer and probe are
disjoint. A category has eight basic templates, and further ones, which come into use one after
another where more problems are asked for than the basic ones have: an agent sees about as many
instances of a template in a large federation as in a small one.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Annotated, ClassVar

from pydantic import Field

from knexa.data.benchmark import Benchmark, Dataset
from knexa.data.codelets import (
    templates_numbers,
    templates_sequences,
    templates_structures,
    templates_text,
)
from knexa.data.codelets.conventions import NUM_CONVENTIONS, private, public
from knexa.data.codelets.further import (
    aggregation,
    arithmetic,
    conditionals,
    dictionaries,
    filtering,
    mapping,
    number_theory,
    ordering,
    recurrences,
    sets_tuples,
    string_building,
    string_queries,
)
from knexa.data.codelets.template import Template, instantiate
from knexa.data.problem import CATEGORIES, Problem
from knexa.recipe import AddedLater
from knexa.seeding import derive_seed

GENERATOR_VERSION = 2
"""Incremented with every change to templates or generator that changes a problem."""

_NUM_SPARE = 6  # of each category: a probe set of 64 has 5 or 6
_Slot = tuple[Template, dict[str, object], int]
"""A template, a choice of its slots, and the number of the instance within the template."""

_POOL_SEED = 0  # the pool of problems does not depend on the split

BASIC: dict[str, tuple[Template, ...]] = {
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
"""The templates of each category that are always in use: eight each."""

FURTHER: dict[str, tuple[Template, ...]] = {
    "arithmetic": arithmetic.TEMPLATES,
    "number_theory": number_theory.TEMPLATES,
    "conditionals": conditionals.TEMPLATES,
    "aggregation": aggregation.TEMPLATES,
    "filtering": filtering.TEMPLATES,
    "mapping": mapping.TEMPLATES,
    "ordering": ordering.TEMPLATES,
    "string_building": string_building.TEMPLATES,
    "string_queries": string_queries.TEMPLATES,
    "dictionaries": dictionaries.TEMPLATES,
    "sets_tuples": sets_tuples.TEMPLATES,
    "recurrences": recurrences.TEMPLATES,
}
"""The others, in the order in which they come into use."""


@dataclass(frozen=True, kw_only=True)
class Codelets(Dataset):
    """The generated benchmark, split by template instance.

    Attributes:
        num_train: Problems of the agents' training pool.
        num_test: Problems of the global test set, for reporting only.
        num_transfer: Problems of the transfer set, which teachers answer.
        num_probe: Problems of the probe set.
        num_variants: How many operators, directions and the like a template may use; with 1 its
            instances differ in names, wording and constants only. More is harder to learn.
        num_conventions: With 2, most problems mean another thing to each of two groups of agents
            (``codelets.conventions``), for ``partition=conventions``.
        split_seed: Which instances go to which set; the problems themselves do not depend on it.
    """

    name: ClassVar[str] = "codelets"

    num_train: Annotated[int, Field(ge=12)] = 348
    num_test: Annotated[int, Field(ge=12)] = 116
    num_transfer: Annotated[int, Field(ge=12)] = 128
    num_probe: Annotated[int, Field(ge=0)] = 64
    num_variants: Annotated[int, Field(ge=1, le=4)] = 1
    num_conventions: Annotated[int, Field(ge=1, le=NUM_CONVENTIONS), AddedLater(1)] = 1
    split_seed: Annotated[int, Field(ge=0)] = 42

    def __post_init__(self) -> None:
        total = self.num_train + self.num_test + self.num_transfer + self.num_probe
        most = num_distinct(self.num_variants)
        if total > most:
            raise ValueError(
                f"num_train + num_test + num_transfer + num_probe is {total}, but the generator "
                f"has {most} distinct problems in equal shares; lower one of them"
            )

    def fingerprint(self) -> str:
        """Return generator version and a digest of the four sets, problem by problem."""
        benchmark = self.load()
        digest = hashlib.sha256()
        for part in benchmark.roles().values():
            for p in part:
                text = (p.task_id, p.prompt, p.canonical_solution, p.test_code)
                digest.update("\x1f".join(text).encode())
                for meant in p.conventions:
                    digest.update(f"{meant.canonical_solution}\x1f{meant.test_code}".encode())
            digest.update(b"\x1e")
        return f"codelets-v{GENERATOR_VERSION}-{digest.hexdigest()[:16]}"

    def load(self) -> Benchmark:
        """Generate the four sets; every category is in each of them in equal share.

        The probe set is of what the others leave, so that its size moves none of them.
        """
        sizes = self.num_train, self.num_test, self.num_transfer, self.num_probe
        return _load(*sizes, self.num_variants, self.split_seed, self.num_conventions)

    def num_groups(self) -> int:
        """Return ``num_conventions``."""
        return self.num_conventions

    def num_train_problems(self) -> int:
        """Return ``num_train``."""
        return self.num_train

    def all_problems(self) -> tuple[Problem, ...]:
        """Return train, test and transfer problems, in this order."""
        benchmark = self.load()
        return benchmark.train + benchmark.test + benchmark.transfer


@lru_cache(maxsize=4)
def _load(
    num_train: int,
    num_test: int,
    num_transfer: int,
    num_probe: int,
    num_variants: int,
    split_seed: int,
    num_conventions: int,
) -> Benchmark:
    sets: dict[str, list[Problem]] = {"test": [], "transfer": [], "train": [], "probe": []}
    quotas = _quotas(num_train, num_test, num_transfer)
    probes = _shares(num_probe, num_train + num_test + num_transfer)
    for category in range(len(CATEGORIES)):
        size = sum(quota[category] for quota in quotas.values())
        pool = _pool(category, size, num_variants)
        rng = random.Random(derive_seed(split_seed, "codelets split", category))
        ordered = _round_robin(pool, rng)
        for name, quota in quotas.items():
            sets[name] += [next(ordered) for _ in range(quota[category])]
        left = islice(_slots(category, size, num_variants), size, size + probes[category])
        sets["probe"] += [_instance(category, *slot) for slot in left]
    for name, problems in sets.items():
        random.Random(derive_seed(split_seed, "codelets order", name)).shuffle(problems)
        if num_conventions > 1:
            problems[:] = map(private if name in {"train", "test"} else public, problems)
    return Benchmark.of_roles("codelets", sets)


@cache
def num_distinct(num_variants: int) -> int:
    """Return how many problems there are in equal shares of the categories."""
    every = [(*BASIC[name], *FURTHER[name]) for name in CATEGORIES]
    least = min(_capacity(kinds, num_variants) for kinds in every)
    return (least - 1) * len(CATEGORIES)  # shares differ by one where a set is no multiple of 12


@cache
def _basic_size(num_variants: int) -> int:
    """Return how many problems of every category the basic templates have."""
    return min(_capacity(kinds, num_variants) for kinds in BASIC.values())


def _capacity(kinds: Sequence[Template], num_variants: int) -> int:
    return sum(len(kind.choices(num_variants)) for kind in kinds)


def _quotas(num_train: int, num_test: int, num_transfer: int) -> dict[str, list[int]]:
    """Return each set's number of problems of every category."""
    # Extra problems of the three sets start at different categories, which keeps totals even.
    return {
        "test": _shares(num_test, 0),
        "transfer": _shares(num_transfer, num_test),
        "train": _shares(num_train, num_test + num_transfer),
    }


def _shares(total: int, start: int) -> list[int]:
    """Split ``total`` over the categories; those after ``start`` get the remainder."""
    num = len(CATEGORIES)
    extra = {(start + i) % num for i in range(total % num)}
    return [total // num + (category in extra) for category in range(num)]


def _pool(category: int, size: int, num_variants: int) -> list[list[Problem]]:
    """Return ``size`` problems of one category, listed by template, as evenly as slots allow."""
    pool: dict[str, list[Problem]] = {}
    for kind, slots, index in islice(_slots(category, size, num_variants), size):
        pool.setdefault(kind.name, []).append(_instance(category, kind, slots, index))
    return list(pool.values())


def _slots(category: int, size: int, num_variants: int) -> Iterator[_Slot]:
    """Yield every instance of a category: first of as few templates as hold ``size`` of them.

    Beyond what the basic ones hold in all categories, as many as hold ``_NUM_SPARE`` more, so that
    the probe set is of templates that are taught.
    Instances of these take turns, one of each template and then the next of each; those of the
    templates that are not needed follow in the same manner.
    """
    name = CATEGORIES[category]
    used, spare = list(BASIC[name]), list(FURTHER[name])
    needed = size if size <= _basic_size(num_variants) else size + _NUM_SPARE
    while _capacity(used, num_variants) < needed and spare:
        used.append(spare.pop(0))
    return chain(_turns(category, used, num_variants), _turns(category, spare, num_variants))


def _turns(category: int, kinds: Sequence[Template], num_variants: int) -> Iterator[_Slot]:
    """Yield the first instance of each template, then the second of each, and so on."""
    choices = []
    for kind in kinds:
        rng = random.Random(derive_seed(_POOL_SEED, "codelets slots", category, kind.name))
        options = kind.choices(num_variants)
        rng.shuffle(options)
        choices.append(options)
    for index in range(max(map(len, choices), default=0)):
        for kind, options in zip(kinds, choices, strict=True):
            if index < len(options):
                yield kind, options[index], index


def _instance(category: int, kind: Template, slots: dict[str, object], index: int) -> Problem:
    seed = derive_seed(_POOL_SEED, "codelets", category, kind.name, index)
    return instantiate(kind, category, slots, index, random.Random(seed))


def _round_robin(pool: list[list[Problem]], rng: random.Random) -> Iterator[Problem]:
    """Yield one problem of each template, then the next of each: any slice covers all templates."""
    stacks = [rng.sample(problems, len(problems)) for problems in pool]
    while any(stacks):
        turn = [stack.pop() for stack in stacks if stack]
        rng.shuffle(turn)
        yield from turn
