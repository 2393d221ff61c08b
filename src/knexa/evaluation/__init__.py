"""Sandboxed execution, Pass@k and CodeBLEU."""

from knexa.evaluation.metrics import GateReport, gate, pass_at_k
from knexa.sandbox.executor import Executor
from knexa.sandbox.outcome import (
    Execution,
    Limits,
    Outcome,
    count_outcomes,
    program,
)

__all__ = [
    "Execution",
    "Executor",
    "GateReport",
    "Limits",
    "Outcome",
    "count_outcomes",
    "gate",
    "pass_at_k",
    "program",
]
