"""``data=hub``: a data set's columns become problems."""

import json
from pathlib import Path
from typing import Any

import pytest

from knexa.data import hub
from knexa.data.hub import Hub
from knexa.errors import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def humaneval_rows(number: int) -> list[dict[str, Any]]:
    return [
        {
            "name": f"own/{n}",
            "prompt": f'def add_{n}(x):\n    """Return x and {n} added."""\n',
            "entry_point": f"add_{n}",
            "canonical_solution": f"    return x + {n}\n",
            "checks": f"def check(candidate):\n    assert candidate(1) == {n + 1}\n",
        }
        for n in range(number)
    ]


def mbpp_rows(number: int) -> list[dict[str, Any]]:
    return [
        {
            "task_id": n,
            "prompt": f"Write a function to add {n}.",
            "code": f"def add_{n}(x):\n    return x + {n}\n",
            "test_list": [f"assert add_{n}(1) == {n + 1}"],
        }
        for n in range(number)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of ten problems in a folder, which ``datasets`` reads with its cache elsewhere."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = tmp_path / "own"
    found.mkdir()
    lines = [json.dumps(row) + "\n" for row in humaneval_rows(10)]
    (found / "train.jsonl").write_text("".join(lines[:6]))
    (found / "test.jsonl").write_text("".join(lines[6:]))
    return found


NAMED = {"task_id": "name", "test": "checks"}


def test_folder_becomes_problems_in_disjoint_sets(folder: Path) -> None:
    data = Hub(path=str(folder), columns=NAMED)
    benchmark = data.load()
    sizes = {role: len(problems) for role, problems in benchmark.roles().items()}
    assert sizes == {"train": 6, "test": 2, "transfer": 2, "probe": 0}
    assert {each.task_id for each in benchmark} == {f"own/{n}" for n in range(10)}
    (problem,) = [each for each in benchmark if each.task_id == "own/3"]
    assert problem.canonical_solution == "    return x + 3\n"
    assert problem.test_code.endswith("check(candidate)\n")
    assert Hub(path=str(folder), columns=NAMED, split_seed=1).load().test != benchmark.test


def test_one_split_alone_can_be_read(folder: Path) -> None:
    data = Hub(path=str(folder), columns=NAMED, split="train", test_fraction=0.34)
    assert {each.task_id for each in data.load()} == {f"own/{n}" for n in range(6)}
    with pytest.raises(UserError, match=r"data\.split=dev: no such split; there are "):
        Hub(path=str(folder), columns=NAMED, split="dev").load()


def test_identity_of_a_folder_is_its_content(folder: Path, tmp_path: Path) -> None:
    before = Hub(path=str(folder), columns=NAMED).fingerprint()
    moved = folder.rename(tmp_path / "moved")
    assert Hub(path=str(moved), columns=NAMED).fingerprint() == before
    with (moved / "test.jsonl").open("a") as file:
        file.write("\n")
    assert Hub(path=str(moved), columns=NAMED).fingerprint() != before


def test_data_set_of_the_hub_is_read_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(*arguments: Any, **more: Any) -> list[dict[str, Any]]:
        asked.append((*arguments, more["split"]))
        return mbpp_rows(10)

    monkeypatch.setattr(hub, "hub_rows", read)
    data = Hub(
        path="me/mine", revision=COMMIT, form="mbpp", split="test", columns={"text": "prompt"}
    )
    problems = {each.task_id: each for each in data.load()}
    assert asked == [("me/mine", None, COMMIT, "test")]
    assert data.fingerprint() == f"hub:me/mine@{COMMIT}"
    assert "Write a function to add 7." in problems["7"].prompt
    assert problems["7"].prompt.startswith("def add_7(x):")
    assert problems["7"].test_code == "assert add_7(1) == 8\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "path is not set; set data.path=OWNER/NAME, or a folder"),
        ({"path": "me/mine"}, "pin the data set's commit: data.revision=<40"),
        (
            {"path": "me/mine", "revision": COMMIT, "columns": {"tests": "checks"}},
            r"columns.tests: the form humaneval has no such field; did you mean test\?",
        ),
        (
            {"path": "me/mine", "revision": COMMIT, "test_fraction": 0.9},
            "leave nothing to train on",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hub(**settings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "row 0: field prompt must be str"),
        ({"entry_point": "other"}, "row 0: the prompt does not define other; form=humaneval"),
        ({"name": "own/1"}, "row 1: task_id 'own/1' occurs twice"),
    ],
)
def test_bad_row_is_one_line(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    rows = humaneval_rows(10)
    rows[0] |= change
    monkeypatch.setattr(hub, "hub_rows", lambda *_, **__: rows)
    with pytest.raises(UserError, match=message):
        Hub(path="me/mine", revision=COMMIT, columns=NAMED).load()


def test_missing_column_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "hub_rows", lambda *_, **__: humaneval_rows(10))
    with pytest.raises(UserError, match="me/mine row 0: field test is missing"):
        Hub(path="me/mine", revision=COMMIT).load()
