"""Sandboxed execution, Pass@k and CodeBLEU."""

from knexa.evaluation.sandbox.executor import (
    Execution,
    Executor,
    Limits,
    Outcome,
    count_outcomes,
    program,
)

__all__ = ["Execution", "Executor", "Limits", "Outcome", "count_outcomes", "program"]
