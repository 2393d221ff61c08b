"""What can be asked about: the categories of problems, or clusters of public prompts."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from pydantic import Field

from knexa.data.benchmark import Benchmark
from knexa.data.problem import CATEGORIES, Problem
from knexa.data.prompt_clusters import PromptClusters, find_clusters


class Topics(ABC):
    """Base of every component of the config group ``topics``.

    A benchmark's topics are what its problems' ``category`` counts, from loading on: what teachers
    are asked about, what profiles show shares of, and by what a partition is skewed.

    Class attributes:
        of_prompts: Whether they are found among prompts, which a federation of formulas has not.
    """

    of_prompts: ClassVar[bool] = True

    @abstractmethod
    def names(self, public: Sequence[Problem]) -> tuple[str, ...]:
        """Return the topics' names, all different, 12 at most.

        Args:
            public: The transfer set.

        Raises:
            UserError: It has no such topics; one line with the fix.
        """

    @abstractmethod
    def find(self, problems: Sequence[Problem], public: Sequence[Problem]) -> list[int]:
        """Return the topic of each problem, as a place in ``names``.

        Args:
            problems: Public or private.
            public: The transfer set, all that is known of anybody else's problems.
        """

    def assign(self, problems: Iterable[Problem], public: Sequence[Problem]) -> tuple[Problem, ...]:
        """Return the problems with their topics as categories."""
        problems = tuple(problems)
        found = self.find(problems, public)
        return tuple(_moved(each, topic) for each, topic in zip(problems, found, strict=True))

    def of_benchmark(self, benchmark: Benchmark) -> Benchmark:
        """Return the benchmark with topics as categories.

        Raises:
            UserError: As ``names``.
        """
        public = benchmark.transfer
        moved = Benchmark.of_roles(
            benchmark.name,
            {role: self.assign(each, public) for role, each in benchmark.roles().items()},
        )
        return replace(moved, categories=self.names(public), hidden=benchmark.hidden)


@dataclass(frozen=True, kw_only=True)
class Categories(Topics):
    """The categories that the data gives its problems."""

    name: ClassVar[str] = "categories"
    of_prompts: ClassVar[bool] = False

    def names(self, public: Sequence[Problem]) -> tuple[str, ...]:
        """Return the names of the twelve categories."""
        return CATEGORIES

    def find(self, problems: Sequence[Problem], public: Sequence[Problem]) -> list[int]:
        """Return the problems' own categories."""
        return [problem.category for problem in problems]

    def of_benchmark(self, benchmark: Benchmark) -> Benchmark:
        """Return the benchmark as it is."""
        return benchmark


@dataclass(frozen=True, kw_only=True)
class Clusters(Topics):
    """Clusters of the prompts of the transfer set; see ``knexa.data.prompt_clusters``. Ours.

    Everybody computes the same ones from public prompts alone, and the cluster of a private prompt
    without showing it.

    Attributes:
        num_clusters: How many.
    """

    name: ClassVar[str] = "clusters"

    num_clusters: Annotated[int, Field(ge=2, le=len(CATEGORIES))] = len(CATEGORIES)

    def names(self, public: Sequence[Problem]) -> tuple[str, ...]:
        """Return the clusters' most characteristic words."""
        return self._clusters(public).labels

    def find(self, problems: Sequence[Problem], public: Sequence[Problem]) -> list[int]:
        """Return the cluster of each problem's prompt."""
        return self._clusters(public).nearest([problem.prompt for problem in problems])

    def _clusters(self, public: Sequence[Problem]) -> PromptClusters:
        return find_clusters(frozenset(each.prompt for each in public), self.num_clusters)


def _moved(problem: Problem, topic: int) -> Problem:
    """Return the problem in another category, whatever group of agents it is meant for."""
    meant = tuple(_moved(each, topic) for each in problem.conventions)
    return replace(problem, category=topic, conventions=meant)
