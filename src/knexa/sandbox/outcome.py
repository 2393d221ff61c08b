"""Outcomes and limits of programs, and how a completion becomes a program."""

import ast
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Protocol

import pydantic

from .program_run import MAX_PARSED


class Outcome(StrEnum):
    """How a program ended; an ``INFRASTRUCTURE_ERROR`` says nothing about the program."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    SYNTAX_ERROR = "syntax_error"
    INFRASTRUCTURE_ERROR = "infrastructure_error"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Resource limits of one program.

    Attributes:
        cpu_s: CPU seconds of all its threads together.
        wall_s: Wall-clock seconds, for programs that sleep.
        memory_mb: Address space in MiB beyond that of the warm interpreter.
        file_mb: Largest file in MiB that it may write (in its own scratch directory).
        processes: Child processes; 0 denies them all, more leaves them to the kernel's limit.
        output_kb: Largest returned value in KiB, encoded.
    """

    cpu_s: Annotated[float, pydantic.Field(gt=0)] = 3.0
    wall_s: Annotated[float, pydantic.Field(gt=0)] = 15.0
    memory_mb: Annotated[int, pydantic.Field(ge=16)] = 512
    file_mb: Annotated[int, pydantic.Field(ge=0)] = 1
    processes: Annotated[int, pydantic.Field(ge=0)] = 0
    output_kb: Annotated[int, pydantic.Field(ge=1)] = 1024

    def __post_init__(self) -> None:
        if self.wall_s < self.cpu_s:
            raise ValueError(
                f"wall_s={self.wall_s} is below cpu_s={self.cpu_s}; it is the backstop: raise it"
            )


@dataclass(frozen=True, slots=True)
class Execution:
    """One program's outcome, with the reason in ``detail``.

    ``cpu_s`` and ``wall_s`` are the time it took; they are ignored when executions are compared.
    """

    outcome: Outcome
    detail: str = ""
    cpu_s: float = field(default=0.0, compare=False)
    wall_s: float = field(default=0.0, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.outcome is Outcome.PASSED


class Task(Protocol):
    """What a program is to do, and how it is checked (``knexa.data.problem.Problem`` has more)."""

    @property
    def prompt(self) -> str:
        """What a completion continues."""

    @property
    def entry_point(self) -> str:
        """The function that the tests call."""

    @property
    def test_code(self) -> str:
        """Trusted assertions."""

    @property
    def setup_code(self) -> str:
        """Trusted source that program and tests need."""

    @property
    def canonical_cpu_s(self) -> float:
        """CPU seconds of a right program; 0 where they are few."""


def program(problem: Task, completion: str) -> str:
    """Return the program made of prompt and completion.

    A completion that parses and defines ``entry_point`` at top level is the whole program; any
    other continues the prompt. For one too long to be parsed here, a line that looks like the
    definition decides.
    """
    name = re.escape(problem.entry_point)
    if re.search(
        rf"^(?:(?:async\s+)?def\s+{name}\b|class\s+{name}\b|{name}\s*[=:])", completion, re.M
    ):
        if len(completion) > MAX_PARSED:
            return completion
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            if any(_defines(node, problem.entry_point) for node in ast.parse(completion).body):
                return completion
    return problem.prompt + completion


def _defines(node: ast.stmt, name: str) -> bool:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def count_outcomes(executions: Iterable[Execution]) -> dict[str, int]:
    """Return how often each outcome occurs, zeros included."""
    counts = {str(outcome): 0 for outcome in Outcome}
    for execution in executions:
        counts[str(execution.outcome)] += 1
    return counts
