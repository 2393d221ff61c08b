"""Errors in a command, or of the machine, are one line with the fix."""

import argparse
import errno
import threading
from pathlib import Path

import pytest
from trial import copy_of_certificates

from knexa import agent, cpm
from knexa.party import run_party

AGENT = ["--name", "alice", "--certificates", "c", "--cpm", "h:1", "--listen", "h:2"]
AGENT += ["--state", "s"]
CPM = ["--certificates", "c", "--listen", "h:1", "--state", "s"]


@pytest.mark.parametrize(
    ("parser", "option", "value"),
    [
        (cpm._parser(), "--beat-s", "0"),
        (cpm._parser(), "--beat-s", "0.01"),
        (cpm._parser(), "--beat-s", "61"),
        (cpm._parser(), "--exchange-s", "-1"),
        (cpm._parser(), "--exchange-s", "nan"),
        (agent._parser(), "--package-s", "0"),
        (agent._parser(), "--package-s", "soon"),
    ],
)
def test_times_that_would_lose_everything_are_refused(
    parser: object, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = AGENT if option == "--package-s" else CPM
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([*given, option, value])  # type: ignore[attr-defined]
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: {value} is no number of seconds from " in error


@pytest.mark.parametrize("address", ["127.0.0.1", "7450", "127.0.0.1:1x", "127.0.0.1:99999"])
@pytest.mark.parametrize(
    ("parser", "given", "option"),
    [
        (cpm._parser(), CPM, "--listen"),
        (agent._parser(), AGENT, "--listen"),
        (agent._parser(), AGENT, "--cpm"),
    ],
)
def test_an_address_without_a_port_is_refused(
    parser: argparse.ArgumentParser,
    given: list[str],
    option: str,
    address: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        parser.parse_args([*given, option, address])
    assert caught.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {option}: {address} is no HOST:PORT" in error


def test_problems_that_are_not_there_are_named_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of_certificates(tmp_path)
    given = ["--name", "a0", "--certificates", str(folder), "--cpm", "127.0.0.1:1"]
    given += ["--listen", "127.0.0.1:7451", "--state", str(tmp_path / "state")]
    given += ["--problems", str(tmp_path / "none.jsonl")]
    assert agent.main([*given, "roster.agents=[{name: a0, backbone: tiny-qwen2}]"]) == 2
    assert "none.jsonl: no such file" in capsys.readouterr().err
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:7451", None),
        ("[::]:7451", None),
        (":7451", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:7451", "0.0.0.0:7451"),
        ("127.0.0.1:7451", "alice.example.org"),
        ("127.0.0.1:7451", "alice.example.org:x"),
    ],
)
def test_an_address_that_no_peer_can_reach_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listen: str, address: str | None
) -> None:
    folder = copy_of_certificates(tmp_path)
    given = ["--name", "a0", "--certificates", str(folder), "--cpm", "127.0.0.1:1"]
    given += ["--listen", listen, "--state", str(tmp_path / "state")]
    given += [] if address is None else ["--address", address]
    assert agent.main([*given, "roster.agents=[{name: a0, backbone: tiny-qwen2}]"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{address or listen}: peers cannot reach" in error
    assert "--address HOST:PORT" in error
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:7451", "alice.example.org:1", "[2001:db8::1]:7451"])
def test_an_address_that_peers_can_reach_is_not(address: str) -> None:
    assert agent._reachable(address) == address


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "make room"),
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), 1, "a/b: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "a/b: Permission denied"),
        (FileNotFoundError("No such file or directory: a/b"), 2, "No such file or directory: a/b"),
    ],
)
def test_what_the_machine_does_not_grant_is_one_line(
    capsys: pytest.CaptureFixture[str], error: OSError, code: int, told: str
) -> None:
    def fails(stop: threading.Event) -> None:
        raise error

    assert run_party(fails) == code
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert told in line
    assert line.count("\n") == 1
