"""Shared fixtures: one torch thread, and toy components for the app's tests."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch

import pytest

from knexa.errors import UserError
from knexa.tracking.rows import Summary
from tests.row_examples import score, scores, summary

# A shell that runs the suite in the background lets it, and the runs that it starts, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

TOY_FOLDER = Path(__file__).parent / "toy"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold slow tests, so that no worker is left alone with one."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    """Drop log handlers that an earlier test's run left on that test's captured, closed output."""
    known = [logging.root, *logging.Logger.manager.loggerDict.values()]
    for logger in known:
        for handler in list(getattr(logger, "handlers", ())):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)  # type: ignore[union-attr]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say, quiet or not, which layers this machine puts around programs: tests of others skip."""
    from knexa.evaluation import Executor
    from knexa.sandbox.protection import missing

    with Executor() as executor:
        layers = executor.layers
    lacking = ", ".join(layer.name for layer in missing(layers)) or "none"
    terminalreporter.line(f"sandbox layers missing here: {lacking}; in force: {', '.join(layers)}")


@pytest.fixture
def toy_conf(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the app to the toy configs; their components are ``tests/toy/toy_components.py``."""
    monkeypatch.syspath_prepend(str(TOY_FOLDER))
    monkeypatch.setattr("knexa.config.folders.config_folder", lambda: TOY_FOLDER / "conf")
    return TOY_FOLDER / "conf"


@pytest.fixture
def experiments(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the experiment by a stub that finishes at once; return the settings it was given."""
    seen: list[Any] = []
    module = ModuleType("knexa.federation.experiment")

    def run_experiment(settings: Any, run_directory: Any) -> Summary | None:
        seen.append(settings)
        if settings.dry_run:
            return None
        if settings.seed == 13:
            raise RuntimeError("seed 13 always fails")
        if settings.seed == 14:
            raise UserError("models are missing: set roster.path=...")
        if settings.seed == 15:
            signal.raise_signal(signal.SIGINT)
        if settings.seed == 18:
            settings.matchmaker.propose(None)
        run_directory.write_config(settings.config)
        run_directory.write_summary(summary(scores=scores(pass_at={1: score(0.25)})))
        run_directory.mark_done()
        return run_directory.read_summary()

    module.run_experiment = run_experiment  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return seen


@pytest.fixture
def run_app(toy_conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs a command line in an empty folder and returns the exit code."""
    from knexa.cli.commands import run_command_line

    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return lambda *arguments: run_command_line(arguments)


def _folder_with(*names: str) -> Path:
    """Return the folder with the public benchmark files; in CI their absence is a failure."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("KNEXA_BENCHMARKS", default))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        message = f"no {missing[0]} in {folder}; set KNEXA_BENCHMARKS to a folder that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def benchmarks() -> Path:
    """The folder with HumanEval and MBPP."""
    return _folder_with("HumanEval.jsonl.gz", "mbpp.jsonl.gz")


@pytest.fixture(scope="session")
def evalplus_files(benchmarks: Path) -> Path:
    """The same folder, with HumanEval+ and MBPP+ too."""
    return _folder_with("HumanEvalPlus.jsonl.gz", "MbppPlus.jsonl.gz")


@pytest.fixture
def references(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep reference outputs, a minute of work, from one run of the tests to the next."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(request.config.cache.mkdir("knexa")))
