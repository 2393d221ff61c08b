"""Pass@k, and the check of benchmark problems before anything is scored with them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from knexa.data.problem import Problem
from knexa.sandbox.executor import Executor
from knexa.sandbox.outcome import Outcome

_log = logging.getLogger(__name__)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased pass@k from ``c`` right among ``n`` samples (Chen et al. 2021).

    1 - C(n-c, k) / C(n, k), in its numerically stable product form.

    Raises:
        ValueError: Not 1 <= k <= n, or not 0 <= c <= n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, there are {n}")
    if not 0 <= c <= n:
        raise ValueError(f"{c} right samples of {n} is not a count")
    if n - c < k:
        return 1.0
    wrong = 1.0
    for i in range(n - c + 1, n + 1):
        wrong *= 1.0 - k / i
    return 1.0 - wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkReport:
    """The result of ``check_problems``.

    Attributes:
        problems: The problems that may be scored, in the given order.
        excluded: By task id of an excluded problem, the reason.
        num_canonical_passed: Canonical solutions that passed, of all problems given.
        num_none_passed: Problems that an always-``None`` body passes.
        layers: The names of the sandbox layers in force.
    """

    problems: tuple[Problem, ...]
    excluded: dict[str, str] = field(default_factory=dict)
    num_canonical_passed: int
    num_none_passed: int
    layers: tuple[str, ...]


def always_none(problem: Problem) -> str:
    """Return a program whose entry point always returns ``None``."""
    return f"def {problem.entry_point}(*args, **kwargs):\n    return None\n"


def check_problems(executor: Executor, problems: Sequence[Problem]) -> BenchmarkReport:
    """Exclude problems on which Pass@k would be wrong.

    Every canonical solution must pass and an always-``None`` body must not; a problem that violates
    either is excluded, and the reason logged.

    Raises:
        RuntimeError: The sandbox itself failed on a problem, twice.
    """
    canonical = executor.run([(problem, problem.canonical_solution) for problem in problems])
    none = executor.run([(problem, always_none(problem)) for problem in problems])
    excluded: dict[str, str] = {}
    for problem, right, wrong in zip(problems, canonical, none, strict=True):
        for execution in (right, wrong):
            if execution.outcome is Outcome.INFRASTRUCTURE_ERROR:
                raise RuntimeError(f"the sandbox failed on {problem.task_id}: {execution.detail}")
        if not right.passed:
            reason = f"its canonical solution ends as {right.outcome}: {right.detail}"
            excluded[problem.task_id] = reason
        elif wrong.passed:
            excluded[problem.task_id] = "an answer that is always None passes its tests"
    for name, reason in excluded.items():
        _log.warning("excluded %s: %s", name, reason)
    return BenchmarkReport(
        problems=tuple(problem for problem in problems if problem.task_id not in excluded),
        excluded=excluded,
        num_canonical_passed=sum(execution.passed for execution in canonical),
        num_none_passed=sum(execution.passed for execution in none),
        layers=executor.layers,
    )
