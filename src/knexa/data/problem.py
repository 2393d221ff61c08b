"""A programming problem, and the twelve categories of all benchmarks."""

from dataclasses import dataclass

from knexa.data.benchmark_quirks import CANONICAL_CPU_S, HIDDEN_CPU_S

CATEGORIES: tuple[str, ...] = (
    "arithmetic",  # formulas on a few numbers
    "number_theory",  # digits, primes, divisors, bases
    "conditionals",  # comparisons, clamping, classification by cases
    "aggregation",  # one value from a sequence: sums, counts, extremes
    "filtering",  # the elements of a sequence that satisfy something
    "mapping",  # a sequence with every element changed
    "ordering",  # sorting, ranking, reversing, rotating
    "string_building",  # joining, repeating, padding, changing case
    "string_queries",  # counting, finding, testing text
    "dictionaries",  # building, inverting, querying mappings
    "sets_tuples",  # sets, tuples, pairs
    "recurrences",  # loops that carry state: running totals, sequences, recursion, matrices
)
"""The bins of the profile's 12-bin data histogram, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One executable programming problem.

    ``prompt + completion`` is a program; a completion that itself defines ``entry_point`` at top
    level is the whole program and replaces the prompt.

    Attributes:
        task_id: Unique name, e.g. ``HumanEval/0``, ``codelets/aggregation/sum_above/3``.
        prompt: The text that a model continues: imports, signature, docstring, without any part of
            the solution; ends with a newline.
        entry_point: The function that the tests call.
        canonical_solution: A completion that passes (continues the prompt or is a whole program).
        test_code: Trusted source that calls ``candidate`` (also bound to the name ``entry_point``)
            and raises where an answer is wrong; never enters the process of the completion.
        setup_code: Trusted source that program and tests execute first: imports, helper classes.
        conventions: What the prompt means to each group of agents, where their conventions differ:
            the same problem with the group's own solution and tests. The problem itself is then
            group 0's. Empty where all agree.
        category: Index into the benchmark's ``categories``.
        source: The benchmark the problem belongs to.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test_code: str
    category: int
    source: str
    setup_code: str = ""
    conventions: "tuple[Problem, ...]" = ()

    def as_meant_by(self, group: int) -> "Problem":
        """Return what the problem means to a group of agents."""
        return self.conventions[group] if self.conventions else self

    @property
    def canonical_cpu_s(self) -> float:
        """CPU seconds of the canonical solution where they are many; 0 where nobody listed them."""
        return CANONICAL_CPU_S.get(self.task_id, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenTests:
    """Further tests of a problem, which the final report alone runs: a ``sandbox.outcome.Task``.

    They are no part of a ``Problem``, so nothing that agents are given holds them.

    Attributes:
        problem: The problem with its public tests.
        test_code: Trusted source, as ``Problem.test_code``.
    """

    problem: Problem
    test_code: str

    @property
    def task_id(self) -> str:
        """The problem's name."""
        return self.problem.task_id

    @property
    def prompt(self) -> str:
        """What a completion continues."""
        return self.problem.prompt

    @property
    def entry_point(self) -> str:
        """The function that the tests call."""
        return self.problem.entry_point

    @property
    def setup_code(self) -> str:
        """Trusted source that program and tests need."""
        return self.problem.setup_code

    @property
    def canonical_cpu_s(self) -> float:
        """CPU seconds of the canonical solution on these tests, where they are many."""
        return HIDDEN_CPU_S.get(self.task_id, 0.0)
