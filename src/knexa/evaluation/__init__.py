"""Sandboxed execution, Pass@k and CodeBLEU."""

from knexa.evaluation.metrics import BenchmarkReport, check_problems, pass_at_k
from knexa.sandbox.executor import Executor
from knexa.sandbox.outcome import Execution, Limits, Outcome, count_outcomes, program

__all__ = [
    "BenchmarkReport",
    "Execution",
    "Executor",
    "Limits",
    "Outcome",
    "check_problems",
    "count_outcomes",
    "pass_at_k",
    "program",
]
