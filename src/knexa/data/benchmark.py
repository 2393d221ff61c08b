"""The result of every ``data=`` component: four disjoint sets of problems.

``train`` is partitioned among the agents; ``test`` is held out and for reporting only; ``transfer``
is public: teachers answer it, and students can verify the answers; ``probe`` is public too, and
only measures.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from knexa.data.problem import CATEGORIES, HiddenTests, Problem
from knexa.errors import UserError

_NUM_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Problems in their four roles.

    Attributes:
        name: The benchmark's name in reports.
        train: The pool that is partitioned into the agents' private train and validation data.
        test: The global test set; for reporting only.
        transfer: The public transfer set X_u that teachers answer.
        probe: The public probe set, drawn like the transfer set, but never taught and never sent,
            so that to solve its problems is not to recall them; empty where there is none.
        categories: Names of what the problems' ``category`` counts.
        hidden: Further tests of problems of the test and the transfer set, for the final report
            alone; no agent, reward, profile or verification reads them. Empty where there are none.

    Raises:
        UserError: A set is no tuple, an id occurs twice, a prompt is in two sets, or hidden tests
            belong to no test or transfer problem: names them.
    """

    name: str
    train: tuple[Problem, ...]
    test: tuple[Problem, ...]
    transfer: tuple[Problem, ...]
    probe: tuple[Problem, ...] = ()
    categories: tuple[str, ...] = CATEGORIES
    hidden: tuple[HiddenTests, ...] = ()

    def __post_init__(self) -> None:
        for role, problems in self.roles().items():
            if not isinstance(problems, tuple):
                raise UserError(f"{self.name}: {role} is a {type(problems).__name__}, not a tuple")
        ids = Counter(problem.task_id for problem in self)
        if repeated := [task_id for task_id, count in ids.items() if count > 1]:
            raise UserError(f"a task id may occur once only; repeated: {_some(repeated)}")
        owners: dict[str, tuple[str, str]] = {}
        leaks: list[str] = []
        for role, problems in self.roles().items():
            for problem in problems:
                first_role, first_id = owners.setdefault(problem.prompt, (role, problem.task_id))
                if first_role != role:
                    leaks.append(f"{problem.task_id} ({role}) = {first_id} ({first_role})")
        if leaks:
            raise UserError(f"a prompt may stand in one set only; repeated: {_some(leaks)}")
        reported = {problem.task_id for problem in (*self.test, *self.transfer)}
        if stray := [each.task_id for each in self.hidden if each.task_id not in reported]:
            raise UserError(
                f"hidden tests belong to test and transfer problems only; not so: {_some(stray)}"
            )

    @classmethod
    def of_roles(cls, name: str, sets: Mapping[str, Sequence[Problem]]) -> "Benchmark":
        """Return the benchmark of problems by their role, without hidden tests."""
        train, test, transfer = (tuple(sets[role]) for role in ("train", "test", "transfer"))
        probe = tuple(sets.get("probe", ()))
        return cls(name=name, train=train, test=test, transfer=transfer, probe=probe)

    def __iter__(self) -> Iterator[Problem]:
        """Iterate over all problems: train, test, transfer, probe."""
        for problems in self.roles().values():
            yield from problems

    def __len__(self) -> int:
        """Return the number of problems in all four sets."""
        return sum(map(len, self.roles().values()))

    def roles(self) -> dict[str, tuple[Problem, ...]]:
        """Return the four sets by name."""
        return {
            "train": self.train,
            "test": self.test,
            "transfer": self.transfer,
            "probe": self.probe,
        }


def without_hidden(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark as agents may have it."""
    return replace(benchmark, hidden=())


class Dataset(ABC):
    """Base of every component of the config group ``data``; to construct one reads no file."""

    def fingerprint(self) -> str | None:
        """Return an identifier of the data's content, independent of its path.

        A digest of the files, a pinned hub revision or a generator's version. It enters the run's
        hash instead of the parameter ``path``; None where the parameters say all.

        Raises:
            UserError: If the data is missing.
        """
        return None

    def num_train_problems(self) -> int | None:
        """Return the size of the training pool; None where only loading the data can tell.

        By it a partition that cannot work is refused before anything runs.
        """
        return None

    def num_groups(self) -> int:
        """Return how many groups of agents the problems tell apart (``Problem.conventions``)."""
        return 1

    @abstractmethod
    def load(self) -> Benchmark:
        """Return the four sets, the same on every machine.

        Raises:
            UserError: If the data is missing or damaged.
        """


def _some(names: Iterable[str]) -> str:
    """Join the first few names and count the rest."""
    names = list(names)
    rest = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + rest
