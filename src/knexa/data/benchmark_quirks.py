"""Exceptions that single problems of the public benchmarks need, with the reasons."""

KNOWN_BAD: dict[str, str] = {}
"""Problems whose canonical solution fails its own tests: none of HumanEval's 164 or MBPP's 974."""

CANONICAL_CPU_S: dict[str, float] = {
    "HumanEval/75": 0.27,  # tries all triples of the primes below 100, once per test
    "MBPP/123": 4.6,  # sums amicable numbers below 9999 by trial division
}
"""CPU seconds of the canonical solutions that take more than ``LISTED_FROM_S``.

Measured by ``python benchmarks/sandbox.py costs`` (start-up of the fork included); the median is
0.004 s on HumanEval, MBPP and the codelets alike.
"""
LISTED_FROM_S = 0.05
