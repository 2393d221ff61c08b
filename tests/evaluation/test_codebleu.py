import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.evaluation.codebleu import comparable, floors, score
from tests.sandbox.conftest import make_problem

PAIRS = Path(__file__).parents[1] / "data" / "codebleu" / "pairs.jsonl.gz"
FUNCTION = """\
def total(values):
    result = 0
    for v in values:
        result += v
    return result
"""


def stored_pairs() -> list[dict[str, Any]]:
    with gzip.open(PAIRS, "rt") as file:
        rows = [json.loads(line) for line in file]
    # What Python's tokenizer makes of broken code differs between its versions.
    return [row for row in rows if row["tokenizes"] or sys.version_info[:2] == (3, 11)]


def test_compat_equals_the_published_package_on_stored_pairs() -> None:
    rows = stored_pairs()
    assert len(rows) >= 500
    for row in rows:
        ours = score(row["candidate"], row["reference"])
        for mine, theirs in (
            (ours.compat, row["codebleu"]),
            (ours.ngram, row["ngram_match_score"]),
            (ours.weighted_ngram, row["weighted_ngram_match_score"]),
            (ours.syntax, row["syntax_match_score"]),
            (ours.dataflow or 0, row["dataflow_match_score"]),
        ):
            assert mine == pytest.approx(theirs, abs=1e-9), row


def test_stored_pairs_cover_every_part_of_the_scale() -> None:
    rows = stored_pairs()
    for key in ("codebleu", "ngram_match_score", "syntax_match_score", "dataflow_match_score"):
        values = [row[key] for row in rows]
        assert min(values) < 0.2
        assert max(values) == pytest.approx(1.0)
        assert len({round(value, 6) for value in values}) > 50


def test_perfect_answer_scores_one_in_both_forms() -> None:
    same = score(FUNCTION, FUNCTION)
    assert same.compat == pytest.approx(1.0)
    assert same.fixed == pytest.approx(1.0)


def test_empty_answer_has_a_floor_in_compat_and_none_in_fixed() -> None:
    empty = score("", FUNCTION)
    assert empty.compat == 0.25
    assert empty.fixed == 0.0
    assert empty.dataflow == 0.0


def test_undefined_data_flow_is_left_out_of_fixed_and_counts_one_in_compat() -> None:
    each = score("pass", "def f():\n    pass\n")
    assert each.dataflow is None
    parts = each.fixed_ngram + each.fixed_weighted_ngram + each.syntax
    assert each.fixed == pytest.approx(parts / 3)
    assert each.compat == pytest.approx((each.ngram + each.weighted_ngram + each.syntax + 1) / 4)


def test_renaming_variables_keeps_syntax_and_data_flow() -> None:
    renamed = score(FUNCTION.replace("result", "acc").replace("v ", "w "), FUNCTION)
    assert renamed.syntax == 1.0
    assert renamed.dataflow is not None
    assert renamed.dataflow > 0.5
    assert renamed.fixed < 1.0


def test_spacing_costs_compat_tokens_but_not_fixed_ones() -> None:
    dense = score(FUNCTION.replace("result = 0", "result=0"), FUNCTION)
    assert dense.ngram < 1.0
    assert dense.fixed_ngram == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "(" * 30000,
        "(" * 1500 + ")" * 1500,
        "-" * 30000 + "1",
        "a" + ".b" * 9000,
        "\n".join(" " * i + f"for a{i} in b:" for i in range(60)),
        "x = 1\n" * 30000,
        "\0" * 50,
        "\ud800 = '\u00e9'",
        "x = '\u00e9\u00e9'\ny = x\n",
        "a\rb\r\nc\x0c",
        "\t if x:\n  y",
        "f'{x!r:>{w}}'",
        '"""',
        'def f(x):\n    x.y = "z"\n    return x\n',  # each side has three children
        "def f(x):\n    while x:\n        a, b = ''\n    return x\n",
    ],
    ids=lambda text: repr(text[:12]),
)
def test_no_text_is_an_error(text: str) -> None:
    for each in (score(text, FUNCTION), score(FUNCTION, text)):
        assert 0 <= each.fixed <= 1
        assert 0 <= each.compat <= 1


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="abx =:()[],'\"\n\t#+if", max_size=80), st.text(max_size=30))
def test_scores_stay_in_range(candidate: str, reference: str) -> None:
    each = score(candidate, reference)
    assert 0 <= each.fixed <= 1 + 1e-12
    assert 0 <= each.compat <= 1 + 1e-12


def test_comparable_text_leaves_out_the_docstring_and_keeps_whole_programs() -> None:
    problem = make_problem("", canonical_solution="    return x\n")
    assert comparable(problem, "    return x\n") == "def solve(x):\n    return x\n"
    whole = 'def solve(x):\n    """Own."""\n    return x\n'
    assert comparable(problem, whole) == whole


def test_floors_name_the_empty_answer_and_the_copied_prompt() -> None:
    prompt = 'def solve(values):\n    """Return the sum of the values."""\n'
    solution = "    s = 0\n    for v in values:\n        s += v\n    return s\n"
    found = floors([make_problem("", prompt=prompt, canonical_solution=solution)])
    assert found["empty"] == {"compat": 0.25, "fixed": 0.0}
    assert found["prompt_copy"]["compat"] > 0.25
    assert 0 < found["prompt_copy"]["fixed"] < 0.5
    # A candidate is scored without the prompt's docstring, and so is its floor.
    copied = score("def solve(values):\n", "def solve(values):\n" + solution)
    assert found["prompt_copy"] == {"compat": copied.compat, "fixed": copied.fixed}
    with pytest.raises(ValueError, match="no problems"):
        floors([])
