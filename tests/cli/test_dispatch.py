"""One command line: the commands are found by their names, and all of them end alike."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from knexa.cli import doctor
from knexa.cli.commands import run_command_line
from knexa.cli.help import COMMANDS
from knexa.errors import MachineError, UserError

MODULES = {
    "knexa.agent": "join",
    "knexa.certs": "certs",
    "knexa.cpm": "serve",
    "knexa.doctor": "doctor",
    "knexa.evaluation": "score",
    "knexa.export": "export",
    "knexa.membership_inference": "audit",
    "knexa.report": "report",
}
"""What ``python -m`` takes beside ``knexa`` itself."""


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_page_with_its_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"usage: knexa {name}")
    assert f"\n    knexa {name}" in page


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_required_or_tells_its_default(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([name, "--help"]) == 0
    _, _, options = capsys.readouterr().out.partition("\noptions:\n")
    for option in options.replace("\n" + " " * 12, " ").split("\n  -"):
        text = " ".join(option.split())
        if text and not text.startswith("-h"):
            assert "required" in text or "(default: " in text, text


@pytest.mark.parametrize("name", ["init", "request", "sign", "issue", "revoke"])
def test_parts_of_a_command_have_pages_too(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["certs", name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: knexa certs {name}")


def test_the_page_of_the_whole_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    page = capsys.readouterr().out
    commands, _, rest = page.partition("\nKeys:\n")
    for name, summary in COMMANDS.items():
        assert f"  {name} " in commands
        assert summary in commands
    assert "*linucb" in rest


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("repotr", "report"),
        ("exprot", "export"),
        ("scores", "score"),
        ("cert", "certs"),
        ("docter", "doctor"),
        ("server", "serve"),
        ("jion", "join"),
        ("audti", "audit"),
    ],
)
@pytest.mark.parametrize("rest", [(), ("outputs/table4",), ("--to", "report")])
def test_a_near_miss_says_which_command_was_meant(
    capsys: pytest.CaptureFixture[str], typed: str, meant: str, rest: Sequence[str]
) -> None:
    assert run_command_line([typed, *rest]) == 2
    assert capsys.readouterr().err == (
        f"error: {typed}: no such command (did you mean {meant}?); "
        f"commands are {', '.join(COMMANDS)}\n"
    )


@pytest.mark.parametrize(
    "first", ["seed", "regret", "data", "+report=1", "~scores", "reports=1", "--exports"]
)
def test_what_hydra_takes_is_no_misspelt_command(
    run_app: Callable[..., int], capsys: pytest.CaptureFixture[str], first: str
) -> None:
    assert run_app(first) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "no such command" not in error
    assert first.lstrip("+~-").partition("=")[0] in error


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("knexa ", {*COMMANDS, "matchmaker=", "seed="}),
        ("knexa rep", {"report"}),
        ("knexa matchmaker=lin", {"matchmaker=linucb"}),
        ("knexa seed=1 matchmaker=lin", {"matchmaker=linucb"}),
        ("knexa report out", set()),
    ],
)
def test_tab_offers_commands_and_what_hydra_knows(
    monkeypatch: pytest.MonkeyPatch, line: str, offered: set[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = run_module("knexa", "-sc", "query=bash")
    assert (done.returncode, done.stderr) == (0, "")
    begun = "" if line.endswith(" ") else line.split()[-1]
    found = {word for word in done.stdout.split() if word.startswith(begun)}
    assert found >= offered
    assert offered or not found


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_commands_as_well(module: str) -> None:
    done = run_module(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: knexa {MODULES[module]}")
    assert run_module(module, "--nonsense").returncode == 2


def test_a_command_loads_no_other_command() -> None:
    code = (
        "import json, sys; from knexa.cli.commands import run_command_line\n"
        "assert run_command_line(['export', 'nowhere', '--agent', '0', '--to', 'x']) == 2\n"
        "print(json.dumps([n for n in sys.modules if n.startswith('knexa.cli.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("knexa.cli.") for name in json.loads(done.stdout)}
    assert loaded == {"commands", "exit_codes", "export", "help", "interrupts", "parser"}


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("a mistake\nof two lines"), 2, "error: a mistake of two lines"),
        (MachineError("no room"), 1, "error: no room"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "make room"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, "a/b: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "a/b: Permission denied"),
        (FileNotFoundError("No such file or directory: a/b"), 2, "No such file or directory: a/b"),
        (KeyboardInterrupt(), 130, "interrupted: type the same command again"),
    ],
    ids=repr,
)
def test_what_ends_a_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    told: str,
) -> None:
    def fails(arguments: Sequence[str]) -> int:
        raise error

    monkeypatch.setattr(doctor, "main", fails)
    assert run_command_line(["doctor"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    "arguments", [["knexa", "--help"], ["knexa", "--version"], ["knexa.doctor"]]
)
def test_a_reader_that_went_away_costs_no_traceback(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_ends_a_waiting_command_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "samples.jsonl")
    process = subprocess.Popen(
        [sys.executable, "-m", "knexa", "score", "samples.jsonl", "--data", "codelets"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Opening the pipe for writing waits until the command has opened it for reading.
    with (tmp_path / "samples.jsonl").open("w"):
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=120)
    assert (process.returncode, output) == (130, "")
    assert error == "interrupted: type the same command again to resume\n"
