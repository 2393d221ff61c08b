"""What vetting may cost: in proportion to the text, whatever the text is.

Items are vetted one by one, so a package costs what its items do; an item has at most 32 KiB of
characters. ``python benchmarks/guardrail.py worst`` prints seconds for whole packages.
"""

import ast
import time
from collections.abc import Callable

import pytest

from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import DEFAULT_LIMITS, TextItem
from tests.exchange.guardrail.hostile_texts import FRAGMENTS, filled

LONGEST = DEFAULT_LIMITS.max_completion
ORDINARY = "def f(values, limit):\n    return [v + 1 for v in values if v < limit]\n"


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of a call, the least of three."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


def cost(text: str) -> float:
    guardrail, items = Guardrail(), [TextItem(task_id="t", completion=text)]
    return seconds(lambda: guardrail.vet(items))


@pytest.fixture(scope="module")
def parse() -> float:
    """Seconds of one ast.parse of as much ordinary code as an answer may hold."""
    code = filled("", ORDINARY, LONGEST)
    return seconds(lambda: ast.parse(code))


@pytest.mark.parametrize(("opening", "fragment"), FRAGMENTS, ids=lambda part: ascii(part))
def test_no_text_costs_more_than_in_proportion_to_its_length(
    opening: str, fragment: str, parse: float
) -> None:
    text = filled(opening, fragment, LONGEST)
    whole = cost(text)
    quarter = cost(filled(opening, fragment, LONGEST // 4))
    # Packages are bounded in bytes. The worst known takes 4 of them.
    assert whole < 8 * parse * len(text.encode()) / LONGEST
    assert whole < 8 * quarter + parse / 4  # 4 times is linear, 16 quadratic
