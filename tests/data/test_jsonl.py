import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from knexa.data.jsonl import Jsonl
from knexa.data.problem import CATEGORIES
from knexa.errors import UserError


def line(index: int, **changes: Any) -> dict[str, Any]:
    row = {
        "task_id": f"mine/{index}",
        "prompt": f'def add_{index}(x):\n    """Add {index} to x."""\n',
        "entry_point": f"add_{index}",
        "canonical_solution": f"    return x + {index}\n",
        "test_code": f"assert candidate(1) == {index + 1}\n",
        **changes,
    }
    return {name: value for name, value in row.items() if value is not ...}


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_lines_without_split_are_drawn_by_the_fractions_and_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", [line(index) for index in range(20)])
    benchmark = Jsonl(path=path, test_fraction=0.25, transfer_fraction=0.1).load()
    assert benchmark.name == "mine"
    assert [len(part) for part in benchmark.roles().values()] == [13, 5, 2, 0]
    assert Jsonl(path=path, test_fraction=0.25, transfer_fraction=0.1).load() == benchmark
    other = Jsonl(path=path, test_fraction=0.25, transfer_fraction=0.1, split_seed=1).load()
    assert other.test != benchmark.test


def test_split_and_category_of_a_line_are_obeyed(tmp_path: Path) -> None:
    rows = [
        line(0, split="train", category="ordering"),
        line(1, split="test", category=11),
        line(2, split="transfer"),
    ]
    benchmark = Jsonl(path=write(tmp_path / "mine.jsonl", rows)).load()
    assert [p.task_id for p in benchmark] == ["mine/0", "mine/1", "mine/2"]
    assert [CATEGORIES[p.category] for p in benchmark] == ["ordering", "recurrences", "arithmetic"]


def test_gzipped_file_has_the_same_problems_and_fingerprint(tmp_path: Path) -> None:
    plain = write(tmp_path / "mine.jsonl", [line(index) for index in range(10)])
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(plain).read_bytes()))
    assert Jsonl(path=plain).load() == Jsonl(path=str(packed)).load()
    assert Jsonl(path=plain).fingerprint() == Jsonl(path=str(packed)).fingerprint()


def test_setup_code_is_kept_and_a_prompt_without_newline_gets_one(tmp_path: Path) -> None:
    rows = [line(index) for index in range(9)]
    rows.append(line(9, setup_code="import math\n", prompt="def add_9(x):", split="test"))
    problem = Jsonl(path=write(tmp_path / "mine.jsonl", rows)).load().test[0]
    assert problem.setup_code == "import math\n"
    assert problem.prompt == "def add_9(x):\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ...}, "field prompt is missing"),
        ({"prompt": 3}, "field prompt must be str, not 3"),
        ({"test_code": " "}, "field test_code is empty"),
        ({"entry_point": "f"}, "field entry_point: prompt and canonical_solution define no"),
        ({"canonical_solution": "    return ("}, "field canonical_solution: not Python after"),
        ({"test_code": "assert ("}, "field test_code: not Python ("),
        ({"setup_code": 7}, "field setup_code must be str"),
        ({"category": "sorting"}, "field category is 'sorting'"),
        ({"category": 12}, "field category is 12"),
        ({"category": True}, "field category is True"),
        ({"split": "dev"}, "field split is 'dev'; use one of train, test, transfer"),
        ({"catgory": "ordering"}, "unknown field catgory; did you mean category?"),
        ({"task_id": "mine/0"}, "task_id 'mine/0' stands on line 1 already"),
        ({"prompt": 'def add_1(x):\n    """return x + 1"""\n'}, "holds the canonical solution"),
    ],
)
def test_a_bad_line_is_one_line_with_file_line_and_field(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "mine.jsonl", [line(0), line(1, **changes), line(2)])
    with pytest.raises(UserError) as error:
        Jsonl(path=path).load()
    assert str(error.value).startswith(f"{path}:2: ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no train problems"),
        ([line(0), line(1, split="test")], "no transfer problems; mark some with split=transfer"),
        (
            [
                line(0, split="train"),
                line(1, split="test", **{k: line(0)[k] for k in ("prompt", "entry_point")}),
                line(2, split="transfer"),
            ],
            "a prompt may stand in one set only",
        ),
    ],
)
def test_sets_that_are_empty_or_overlap_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        Jsonl(path=write(tmp_path / "mine.jsonl", rows)).load()


def test_missing_path_or_file_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.path=FILE"):
        Jsonl()
    with pytest.raises(UserError, match="no such file"):
        Jsonl(path=str(tmp_path / "absent.jsonl")).fingerprint()


def test_fractions_that_leave_no_training_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to train on"):
        Jsonl(path="mine.jsonl", test_fraction=0.6, transfer_fraction=0.4)
