"""A full disk at the matchmaker or at an agent is one line, and the same command goes on."""

import errno
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from knexa.network.packages import NamedDirective
from knexa.network.refusals import Refusals, RefusedError
from knexa.network.transport import RemoteRefusalError
from knexa.tracking.run_directory import RunDirectory
from tests.network.matchmaker_process import (
    Disk,
    MatchmakerProcess,
    best_disk,
    wide_profile,
)
from tests.network.rounds import HEARTBEAT_POLICY, expected_rows, told
from tests.network.servers import CALL_S, registration
from tests.network.small_network import Agent, Network
from tests.network.trial import AGENTS

DISKS = list(dict.fromkeys([best_disk(), Disk]))


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.tmp/x")


@pytest.mark.slow
@pytest.mark.parametrize("disk", DISKS, ids=lambda kind: kind.__name__.lower())
def test_a_matchmaker_whose_disk_fills_up_ends_with_one_line_and_goes_on_from_before(
    tmp_path: Path, disk: type[Disk], caplog: pytest.LogCaptureFixture
) -> None:
    with MatchmakerProcess(tmp_path / "undisturbed") as cpm:
        cpm.start()
        for agent in [agent.start() for agent in cpm.agents()]:
            agent.join()
        assert cpm.end(0)[0] == 0
        expected = cpm.rows()
    with MatchmakerProcess(tmp_path / "full", disk) as cpm:
        happened = threading.Lock()

        def fill(directive: NamedDirective) -> None:
            """Fill the disk before the second round's feedback, and let the matchmaker meet it."""
            if directive.round == 2 and happened.acquire(blocking=False):
                assert cpm.process is not None
                cpm.disk.fill(cpm.process.pid)

        cpm.start()
        agents = cpm.agents()
        for agent in agents:
            agent.backend.before_learning = fill
            agent.start()
        code, printed = cpm.end(0)
        found = RunDirectory(cpm.disk.state).latest_checkpoint()
        assert found is not None
        assert found[0] == 2
        cpm.disk.free()
        cpm.start()
        for agent in agents:
            agent.join()
        assert code == 1
        assert "Traceback" not in printed
        (error,) = [line for line in printed.splitlines() if "INFO" not in line]
        assert error.startswith("error: ")
        assert "No space left on device" in error or "File too large" in error
        assert "type the same command again" in error
        assert cpm.end(0)[0] == 0
        assert cpm.rows() == expected
    waiting = [r.getMessage() for r in caplog.records if "does not answer" in r.getMessage()]
    assert waiting
    assert all(line.startswith("cpm does not answer (") for line in waiting)
    assert all(line.endswith("): trying again for 20 s") for line in waiting)


@pytest.mark.slow
def test_a_full_disk_is_one_line_whatever_else_is_to_be_written(tmp_path: Path) -> None:
    """A refusal is counted and answered though its count cannot be written."""
    with MatchmakerProcess(tmp_path / "full", best_disk()) as cpm:
        cpm.start()
        assert cpm.process is not None
        cpm.disk.fill(cpm.process.pid)
        shown = registration("a0", profile=wide_profile("a0", 0))
        with pytest.raises(RemoteRefusalError, match="disagreement"):
            cpm.call("a0", "Register", shown)
        agent = cpm.agents()[0].start()
        code, printed = cpm.end(0)
        agent.close()
        assert code == 1
        unwritten, refused, error = printed.splitlines()
        assert "refusals.json is not written: " in unwritten
        assert "refused a0 (ipv4:127.0.0.1:" in refused
        assert error.startswith("error: ")


@pytest.mark.slow
def test_a_matchmaker_whose_log_cannot_be_written_serves_on(tmp_path: Path) -> None:
    with MatchmakerProcess(tmp_path / "log") as cpm, Path("/dev/full").open("wb") as log:
        cpm.start()
        cpm.end()
        cpm.start(stderr=log.fileno())
        for agent in [agent.start() for agent in cpm.agents()]:
            agent.join()
        assert cpm.rows().count(b"\n") == 6
        assert cpm.end(0)[0] == 0


def test_callers_of_a_matchmaker_with_a_full_disk_are_asked_to_come_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error is raised once, where the process ends; no caller costs a traceback."""
    with Network(heartbeat_policy=HEARTBEAT_POLICY) as network:
        save, broken, has_failed = network.harness._save, threading.Event(), threading.Event()

        def fail(*given: Any) -> None:
            if broken.is_set():
                has_failed.set()
                raise full()
            save(*given)

        network.harness.coordinator._save = fail  # type: ignore[method-assign]
        agents = [Agent(network, name) for name in AGENTS]
        for agent in agents:
            agent.backend.before_learning = lambda directive: broken.set()
            agent.start()
        assert has_failed.wait(CALL_S)
        with pytest.raises(OSError, match="No space left"):
            network.service.tick()
        network.server.stop()
        network.start_matchmaker()
        for agent in agents:
            agent.join()
        assert told(network.harness.rows) == expected_rows()
    assert not [record for record in caplog.records if record.exc_info]


def test_a_full_disk_at_an_agent_ends_it_with_the_error_and_it_comes_back() -> None:
    with Network() as network:
        agents = {name: Agent(network, name) for name in AGENTS}
        first, broken, lock = list[str](), threading.Event(), threading.Lock()

        def fail(directive: NamedDirective) -> None:
            with lock:
                if not first:
                    first.append(directive.student)
                    broken.set()
                    raise full()

        for agent in agents.values():
            agent.backend.before_learning = fail
            agent.start()
        assert broken.wait(CALL_S)
        victim = agents[first[0]]
        with pytest.raises(OSError, match="No space left"):  # which the command line says in a line
            victim.join()
        victim.close()
        agents[victim.name] = Agent(network, victim.name, victim.backend).start()
        for agent in agents.values():
            agent.join()
        assert told(network.harness.rows) == expected_rows()


def test_refusals_that_cannot_be_written_are_one_line_and_counted_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    refusals = Refusals(tmp_path)

    def fail(path: Path, content: bytes) -> None:
        raise full()

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", fail)
        for _ in range(5):
            refusals.count(RefusedError("malformed", "no Beat"), "a0")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'refusals.json'} is not written: No space left on device",
        "refused a0: malformed: no Beat",
    ]
    refusals.count(RefusedError("malformed", "no Beat"), "a0")
    assert Refusals(tmp_path).counts() == {"malformed": 6}
