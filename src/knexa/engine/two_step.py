"""Phases in two steps: submit programs to the sandbox, then read their outcomes.

Between the steps of one phase another agent's phase can use the model. A two-step phase is written
as a generator that yields once, after it has submitted its programs. Called, it runs both steps.
"""

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def two_step(phase: Callable[P, Generator[None, None, R]]) -> Callable[P, R]:
    """Turn a generator function that yields at most once into a phase."""

    @functools.wraps(phase)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        result = second_step(_advanced(phase(*args, **kwargs)))
        return result  # type: ignore[no-any-return]

    whole.generator = phase  # type: ignore[attr-defined]
    return whole


def first_step(phase: Callable[..., Any], *args: Any) -> Any:
    """Run a phase's first step; return a generator for ``second_step``, or the final result."""
    generator = getattr(phase, "generator", None)
    return phase(*args) if generator is None else _advanced(generator(*args))


def _advanced(steps: Generator[None, None, Any]) -> Any:
    """Run a generator to its yield and return it, or its result if it ends before."""
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    return steps


def second_step(begun: Any) -> Any:
    """Return the phase's result, given what ``first_step`` returned."""
    if not isinstance(begun, Generator):
        return begun
    try:
        next(begun)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a phase has at most two steps")
