"""Errors in a command, or of the machine, are one line with the fix."""

from pathlib import Path

import numpy as np
import pytest

from knexa.cli import join
from knexa.cli.commands import run_command_line
from knexa.cli.organisation import organisation_settings
from tests.network.trial import copy_of_certificates

JOIN = ["join", "--name", "alice", "--certificates", "c", "--cpm", "h:1", "--listen", "h:2"]
JOIN += ["--state", "s"]
SERVE = ["serve", "--certificates", "c", "--listen", "h:1", "--state", "s"]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        (SERVE, "--beat-s", "0"),
        (SERVE, "--beat-s", "0.01"),
        (SERVE, "--beat-s", "61"),
        (SERVE, "--exchange-s", "-1"),
        (SERVE, "--exchange-s", "nan"),
        (JOIN, "--package-s", "0"),
        (JOIN, "--package-s", "soon"),
    ],
)
def test_times_that_would_lose_everything_are_refused(
    command: list[str], option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*command, option, value]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"argument {option}: {value} is no number of seconds from " in error


@pytest.mark.parametrize("address", ["127.0.0.1", "7450", "127.0.0.1:1x", "127.0.0.1:99999"])
@pytest.mark.parametrize(
    ("command", "option"), [(SERVE, "--listen"), (JOIN, "--listen"), (JOIN, "--cpm")]
)
def test_an_address_without_a_port_is_refused(
    command: list[str], option: str, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line([*command, option, address]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"argument {option}: {address} is no HOST:PORT" in error


def test_problems_that_are_not_there_are_named_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_of_certificates(tmp_path)
    given = ["join", "--name", "a0", "--certificates", str(folder), "--cpm", "127.0.0.1:1"]
    given += ["--listen", "127.0.0.1:7451", "--state", str(tmp_path / "state")]
    given += ["--problems", str(tmp_path / "none.jsonl")]
    assert run_command_line([*given, "roster.agents=[{name: a0, backbone: tiny-qwen2}]"]) == 2
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
    given = ["join", "--name", "a0", "--certificates", str(folder), "--cpm", "127.0.0.1:1"]
    given += ["--listen", listen, "--state", str(tmp_path / "state")]
    given += [] if address is None else ["--address", address]
    assert run_command_line([*given, "roster.agents=[{name: a0, backbone: tiny-qwen2}]"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{address or listen}: peers cannot reach" in error
    assert "--address HOST:PORT" in error
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:7451", "alice.example.org:1", "[2001:db8::1]:7451"])
def test_an_address_that_peers_can_reach_is_not(address: str) -> None:
    assert join._reachable(address) == address


def test_the_noise_of_a_network_agents_profile_is_its_own() -> None:
    """Whoever knows the run's seed, as every member does, cannot subtract it."""
    settings = organisation_settings(["privacy=gaussian", "privacy.min_family=1", "seed=3"])
    zeros_NF = np.zeros((settings.roster.num_agents, len(settings.profile.feature_names)))
    one, two = (join._release(settings)(zeros_NF, 1) for _ in range(2))
    assert not np.array_equal(one, two)
