"""A problem whose public test lets a wrong program through, and its hidden tests."""

from knexa.data.problem import HiddenTests, Problem

DOUBLE = Problem(
    task_id="t/0",
    prompt="def double(x):\n",
    entry_point="double",
    canonical_solution="    return 2 * x\n",
    test_code="assert candidate(2) == 4\n",
    category=0,
    source="t",
)
HIDDEN = HiddenTests(problem=DOUBLE, test_code="assert candidate([3]) == [3, 3]\n")
