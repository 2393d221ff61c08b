"""Whatever befalls a run: the same command goes on, and every file ends up as if nothing had been.

The runs are small but real, and killed by SIGKILL; ``make torture`` kills fifty times.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).parent
GONE_ON = "the same command"


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What every mishap came to: one warm process lives through all of them."""
    done = subprocess.run(
        [sys.executable, HERE / "mishaps.py"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def told(results: dict[str, Any]) -> dict[str, str]:
    """What the run that met all mishaps printed, by mishap."""
    assert "failed" not in results["one run"], results["one run"]["failed"]
    return dict(results["one run"])


def test_ten_kills_at_random_moments_leave_no_trace(results: dict[str, Any]) -> None:
    assert "failed" not in results["kills"], results["kills"]["failed"]
    assert results["kills"]["kills"] == 10
    assert len(results["kills"]["by_moment"]) >= 5
    assert results["kills"]["files_equal"] >= 17


def test_a_full_disk_is_one_line_and_costs_no_more_than_the_round(results: dict[str, Any]) -> None:
    found = results["full disk"]
    assert "failed" not in found, found["failed"]
    error = found["full"].splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(r"No space left on device|File too large", error)
    assert GONE_ON in error
    (goes_on,) = re.findall(r"goes on from (?:round (\d+)|the beginning)$", error)
    assert not goes_on or f"after round {int(goes_on) - 1}" in found["after"]
    assert found["disk"] == "tmpfs" or found["disk"].startswith("RLIMIT_FSIZE")


@pytest.mark.parametrize("where", ["a row", "a checkpoint"])
def test_an_interrupt_in_the_middle_of_writing_is_one_line(
    told: dict[str, str], where: str
) -> None:
    line = told[f"interrupted in {where}"].splitlines()[-1]
    assert line == "interrupted: type the same command again to resume"


def test_a_killed_worker_is_replaced_once_and_said_so(told: dict[str, str]) -> None:
    printed = told["workers killed"]
    assert printed.count("killed (SIGKILL) during learn: a new one starts over") == 1
    error = printed.splitlines()[-1]
    assert error.startswith("error: a worker process was killed (SIGKILL) during update_locally")
    assert GONE_ON in error


def test_a_flipped_bit_costs_a_round_and_a_warning(told: dict[str, str]) -> None:
    rows, checkpoint = told["a bit flipped in the rows"], told["a bit flipped in a checkpoint"]
    assert "rounds.jsonl is damaged" in rows
    assert "agents/0.safetensors does not match its checksum" in checkpoint
    for printed in (rows, checkpoint):
        assert "going on from the checkpoint before the last one" in printed
        assert "after round 0" in printed


def test_a_second_process_is_told_who_has_the_run(told: dict[str, str]) -> None:
    (line,) = [line for line in told["two processes"].splitlines() if line.startswith("error:")]
    assert re.search(r"is in use by process \d+; wait for it, stop it", line)


def test_a_signal_that_ends_a_run_is_in_its_environment(results: dict[str, Any]) -> None:
    found = results["signalled"]
    assert "failed" not in found, found.get("failed")
    assert [(session["status"], session["because"]) for session in found["sessions"]] == [
        ("interrupted", "SIGTERM"),
        ("interrupted", "SIGHUP"),
        ("interrupted", "SIGINT"),
        ("finished", None),
    ]
    for name, printed in found["told"].items():
        by = "" if name == "SIGINT" else f" by {name}"
        last = printed.splitlines()[-1]
        assert last == f"interrupted{by}: type the same command again to resume"


def test_a_run_directory_that_vanishes_is_one_line(results: dict[str, Any]) -> None:
    found = results["vanished"]
    assert "failed" not in found, found.get("failed")
    assert len(found) == 8
    for when, printed in found.items():
        (line,) = [line for line in printed.splitlines() if line.startswith("error:")]
        assert "has vanished while the run was going on" in line, when
        assert "WARNING" not in printed, printed


def test_rows_removed_while_the_run_goes_on_stop_it_at_the_next_row(
    results: dict[str, Any],
) -> None:
    found = results["meddled"]
    assert "failed" not in found, found.get("failed")
    error = found["rows removed"].splitlines()[-1]
    assert "rounds.jsonl has" in error
    assert GONE_ON in error
