"""Runs hidden tests, for reports alone."""

from collections.abc import Sequence
from dataclasses import replace

from knexa.data.problem import HiddenTests
from knexa.sandbox.executor import Executor
from knexa.sandbox.outcome import Execution, Limits

MOST_OUTPUT_KB = 16 << 10
"""Largest answer to a hidden input, in KiB: HumanEval+ has right ones of 12 MiB."""
_TIME_FACTOR = 5.0


def hidden_limits(limits: Limits) -> Limits:
    """Return the limits of a program on hidden tests, which are some eighty times as many."""
    return replace(
        limits,
        cpu_s=_TIME_FACTOR * limits.cpu_s,
        wall_s=_TIME_FACTOR * limits.wall_s,
        output_kb=MOST_OUTPUT_KB,
    )


def run_hidden(
    limits: Limits,
    candidates: Sequence[tuple[HiddenTests, str]],
    *,
    num_workers: int,
    is_strict: bool,
) -> list[Execution]:
    """Return one execution for each (hidden tests, completion), in order.

    Args:
        limits: Those of a program on public tests.
        candidates: Completions that pass the public tests.
        num_workers: Programs run at once.
        is_strict: Whether a missing layer of the sandbox is an error.

    Raises:
        UserError: A layer is missing, and ``is_strict``.
    """
    with Executor(
        limits=hidden_limits(limits), num_workers=num_workers, is_strict=is_strict
    ) as executor:
        return executor.run(candidates)
