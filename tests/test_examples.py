"""Every file of ``examples/`` runs as its first line says, from outside the repository."""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from knexa.agents.exchange_protocol import ExchangeContext, ExchangeRuntime, OutgoingPackage
from knexa.config.build import COMPONENT_GROUPS
from knexa.exchange.package import PackageError

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "extending.md"
TUTORIAL = ROOT / "docs" / "tutorial_matchmaker.md"
OPTIONS = sorted(str(path.relative_to(EXAMPLES)) for path in EXAMPLES.glob("*/*.yaml"))
CLASSES = sorted(path.name for path in EXAMPLES.glob("*.py"))
NOT_SHOWN = {"federation", "topics", "guardrail", "privacy", "training", "evaluation", "regret"}
"""Groups whose options are new values, or whose classes are parts of the method itself."""


def command_of(file: str) -> str:
    return (EXAMPLES / file).read_text().splitlines()[0].removeprefix("# ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the examples, somewhere else."""
    copy = tmp_path / "mine"
    shutil.copytree(EXAMPLES, copy, ignore=shutil.ignore_patterns("outputs", "__pycache__"))
    return copy


def run(folder: Path, command: str, code: int = 0) -> str:
    """Run a command as typed in the folder; return what it printed."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def exchanges_of(run_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_path / "exchanges.jsonl").read_text().splitlines()]


def slow_where_models_train(file: str) -> object:
    return pytest.param(file, marks=[pytest.mark.slow] if "smoke" in command_of(file) else [])


@pytest.mark.parametrize("file", [slow_where_models_train(file) for file in OPTIONS])
def test_an_example_runs_as_its_first_line_says(folder: Path, file: str) -> None:
    group, name = Path(file).parent.name, Path(file).stem
    command = command_of(file)
    assert f"{group}={name}" in shlex.split(command)
    shorter = " evaluation.max_new_tokens=40 logger=csv" if "smoke" in command else ""
    output = run(folder, command + shorter)
    (run_path,) = folder.glob("outputs/*/*")
    assert (run_path / "DONE").exists()
    documents = [(run_path / name).read_text() for name in ("config.yaml", "environment.json")]
    assert group == "roster" or f"{name}." in "".join(documents)
    if group == "matchmaker":
        assert run_path.name.startswith("best_first-s0-")
    elif group == "exchange":
        rows = exchanges_of(run_path)
        assert any(row["items_kept"] for row in rows)
        for row in rows:  # ids of at most 60 characters a problem, and no program
            assert row["items_kept"] == row["items_sent"]
            assert 0 <= row["kilobytes"] * 1024 < 60 * max(row["items_sent"], 1)
    elif group == "data":
        assert "sums: 60 train, 20 test, 20 transfer" in output
    elif group == "roster":
        assert re.search(r"ada +tiny-qwen2", output)
        assert re.search(r"bob +tiny-gpt2", output)
    elif group == "logger":
        title, *rounds = (run_path / "diary.txt").read_text().splitlines()
        assert title == f"{run_path.name}: exchange/reward"
        assert [line.partition(":")[0] for line in rounds] == [str(i) for i in range(101)]
        assert f"the diary is in {run_path / 'diary.txt'}" in output.replace("\n", "")
    elif group == "engine":
        assert re.search(r"half of \d+ core", output)


@pytest.mark.parametrize(
    ("payload", "kept"),
    [(b"", []), (b"a", ["a"]), (b"b\nb", ["b"]), (b"a\nc", None), (b"\xff\n[", None)],
)
def test_the_example_of_an_exchange_takes_no_strangers_word(
    monkeypatch: pytest.MonkeyPatch, payload: bytes, kept: list[str] | None
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    protocol = importlib.import_module("hints").Hints()
    monkeypatch.delitem(sys.modules, "hints")
    asked = [SimpleNamespace(task_id=name, canonical_solution=name.upper()) for name in "ab"]
    runtime = SimpleNamespace(benchmark=SimpleNamespace(transfer=asked))
    context = ExchangeContext(cast(ExchangeRuntime, runtime), 1)
    package = OutgoingPackage(teacher=0, payload=payload, items_sent=1)
    if kept is None:
        with pytest.raises(PackageError, match="was not asked for"):
            protocol.receive(context, package)
    else:
        received = protocol.receive(context, package)
        assert [(t.task_id, t.completion) for t in received.texts] == [(k, k.upper()) for k in kept]


def test_each_kind_of_component_has_an_example() -> None:
    assert {Path(file).parent.name for file in OPTIONS} == set(COMPONENT_GROUPS) - NOT_SHOWN


@pytest.mark.parametrize("file", CLASSES)
def test_class_and_settings_are_short_and_begin_with_one_command(file: str) -> None:
    (option,) = (each for each in OPTIONS if Path(each).stem == Path(file).stem)
    assert command_of(file) == command_of(option)
    assert len((EXAMPLES / file).read_text().splitlines()) < 30


@pytest.mark.parametrize("file", [*CLASSES, *OPTIONS])
def test_the_page_shows_the_file_as_it_is(file: str) -> None:
    shown = re.findall(
        rf"\(\.\./examples/{re.escape(file)}\)[^`]*\n```\w+\n(.*?)```",
        PAGE.read_text(),
        flags=re.DOTALL,
    )
    assert shown == [(EXAMPLES / file).read_text()]


def test_the_tutorial_shows_the_matchmaker_of_the_examples() -> None:
    shown = re.search(r"```python\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)
    assert shown is not None
    code = (EXAMPLES / "best_first.py").read_text()
    assert shown[1].splitlines()[1:] == code.splitlines()[1:]


def test_a_class_that_python_does_not_find_is_told_from_one_that_fails(folder: Path) -> None:
    arguments = "-cd mine matching=lottery federation=synthetic 'trusted_modules=[lottery]'"
    output = run(folder.parent, f"python -m knexa {arguments}", code=2)
    assert "is the folder that holds it in PYTHONPATH?" in output
    (folder / "lottery.py").write_text("import nothing_of_that_name\n")
    output = run(folder, command_of("matching/lottery.yaml"), code=2)
    assert "nothing_of_that_name" in output
    assert "PYTHONPATH" not in output


def test_formulas_refuse_a_profile_with_features_of_its_own(folder: Path) -> None:
    command = command_of("profile/with_memory.yaml")
    overrides = command.replace("roster=duo debug=smoke", "federation=synthetic")
    output = run(folder, overrides, code=2)
    assert "the profile has the feature 'memory'" in output
    assert "Traceback" not in output


def test_an_example_from_a_stranger_is_not_run(folder: Path) -> None:
    command = command_of("matching/lottery.yaml").partition(" 'trusted_modules")[0]
    assert "set trusted_modules=[lottery]" in run(folder, command, code=2)
