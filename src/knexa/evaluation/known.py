"""What is peculiar in the public benchmarks, by name and with the reason."""

KNOWN_BAD: dict[str, str] = {}
"""Problems whose canonical solution fails its own tests: none of HumanEval's 164 or MBPP's 974."""

SLOW: dict[str, float] = {
    "MBPP/123": 7.0,  # sums amicable numbers below 9999 by trial division: 4-8 s, no wrong answer
}
"""Problems whose canonical solution needs this many times the usual CPU and wall limits."""
