"""Phases that pause while the sandbox runs their programs, so that another's model may work then.

Such a phase is written as a generator that yields once, when its programs are on their way; what
comes after only reads what came of them. Called, it is a phase like any other.
"""

import functools
from collections.abc import Callable, Generator
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def pausing(phase: Callable[P, Generator[None, None, R]]) -> Callable[P, R]:
    """Make a phase of a generator function that yields at most once."""

    @functools.wraps(phase)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        result = resumed(begun(phase(*args, **kwargs)))
        return result  # type: ignore[no-any-return]

    whole.pauses = phase  # type: ignore[attr-defined]
    return whole


def to_pause(phase: Callable[..., Any], *args: Any) -> Any:
    """Run a phase; return its result, or the generator that ``resumed`` takes where it paused."""
    pauses = getattr(phase, "pauses", None)
    return phase(*args) if pauses is None else begun(pauses(*args))


def begun(work: Generator[None, None, Any]) -> Any:
    """Run a generator; return it where it paused, else its result."""
    try:
        next(work)
    except StopIteration as end:
        return end.value
    return work


def resumed(found: Any) -> Any:
    """Return the result of a phase that may have paused."""
    if not isinstance(found, Generator):
        return found
    try:
        next(found)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a phase pauses once")
