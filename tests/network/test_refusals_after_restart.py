"""What was refused is refused after a restart too, and stays counted, ``kill -9`` included."""

import json
import signal
import socket
from pathlib import Path

import pytest

from knexa.network import messages
from knexa.network.refusals import Refusals, RefusedError
from knexa.network.transport import RemoteRefusalError
from tests.network.matchmaker_process import SETTINGS, MatchmakerProcess, agreement, wide_profile
from tests.network.rounds import Moved
from tests.network.servers import DATA, DIRECTIVE, INCARNATION, Receiving, registration, tcp


def test_counts_are_on_disk_before_the_caller_is_answered(tmp_path: Path) -> None:
    a1 = Receiving(refusals=Refusals(tmp_path))
    written = tmp_path / "refusals.json"
    assert json.loads(written.read_bytes()) == {}
    chunks = a1.chunks()
    a1.send(chunks)
    for number in range(1, 4):
        with pytest.raises(RemoteRefusalError, match="replayed"):
            a1.send(chunks)
        assert json.loads(written.read_bytes()) == {"replayed": number}
    a1.server.stop()


def test_counts_go_on_from_those_of_the_process_before(tmp_path: Path) -> None:
    for number in range(1, 4):
        a1 = Receiving(refusals=Refusals(tmp_path))
        with pytest.raises(RemoteRefusalError, match="truncated"):
            a1.send([])
        with tcp(a1.port) as end:
            end.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert end.recv(1) == b""
        a1.server.stop()
        expected = {"handshake": number, "truncated": number}
        assert json.loads((tmp_path / "refusals.json").read_bytes()) == expected
        assert a1.server.counts() == expected


def test_handshakes_that_failed_are_counted_and_told_while_the_server_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Moved()
    a1 = Receiving(refusals=Refusals(tmp_path, now=clock), now=clock, handshake_s=10.0)
    for _ in range(7):
        with tcp(a1.port) as end:
            end.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert end.recv(1) == b""
        clock.time += 6.0
    # The third told of two, the fifth and the seventh are within its minute, and count.
    told = [record.getMessage() for record in caplog.records]
    assert told == ["refused 2 connections without a valid certificate or a call"]
    assert json.loads((tmp_path / "refusals.json").read_bytes()) == {"handshake": 4}
    a1.server.stop()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"replayed": "x"}', b"\xff"])
def test_a_damaged_file_is_said_to_be_and_does_not_keep_a_member_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "refusals.json").write_bytes(content)
    refusals = Refusals(tmp_path)
    (record,) = caplog.records
    assert "refusals.json is damaged: refusals are counted from 0 again" in record.getMessage()
    refusals.count(RefusedError("profile", "x"), "a0")
    assert Refusals(tmp_path).counts() == {"profile": 1}


def test_a_package_that_was_taken_before_is_refused_by_a_restarted_student() -> None:
    """The student expects the directive anew, and the wire brings the old package first."""
    before = Receiving()
    chunks, other = before.chunks(), before.chunks(round=2)
    assert before.refusal(other) == "unexpected"
    before.send(chunks)
    assert before.refusal(chunks) == "replayed"
    before.server.stop()
    after = Receiving()
    assert after.inbox.is_expected(DIRECTIVE.id, "a0")
    assert after.refusal(chunks) == "tampered"  # sealed to a key that ended with its process
    assert after.refusal(other) == "unexpected"
    assert after.inbox.arrived([DIRECTIVE.id]) == {}
    after.send(after.chunks())
    assert after.inbox.arrived([DIRECTIVE.id]) == {DIRECTIVE.id: DATA}
    after.server.stop()


@pytest.mark.slow
def test_a_matchmaker_that_is_killed_refuses_the_same_again_and_counts_on(tmp_path: Path) -> None:
    alike, profile = agreement(SETTINGS), wide_profile("a0", 0)
    old, new = b"old process", b"new process"

    def refuse_all(cpm: MatchmakerProcess) -> None:
        beat = messages.Heartbeat(incarnation=old)
        bad = messages.Profile(incarnation=new, round=1, features=[1e9] * len(profile))
        for method, request, reason in (
            ("Beat", beat, "a newer process speaks for a0"),
            ("Register", registration("a0", agreement="else"), "disagreement"),
            ("Register", registration("a3"), "registers as"),
            ("SubmitProfile", bad, "profile: "),
        ):
            with pytest.raises(RemoteRefusalError, match=reason):
                cpm.call("a0", method, request)

    with MatchmakerProcess(tmp_path / "here") as cpm:
        cpm.start()
        for incarnation in (old, new):
            shown = registration("a0", agreement=alike, profile=profile, incarnation=incarnation)
            cpm.call("a0", "Register", shown)
        for number in (1, 2, 3):
            refuse_all(cpm)
            assert cpm.end(signal.SIGKILL)[0] == -signal.SIGKILL
            counted = json.loads(cpm.refusals())
            assert counted == {"disagreement": number, "identity": 2 * number, "profile": number}
            cpm.start()
        assert cpm.end(signal.SIGTERM)[0] == 143
        assert json.loads(cpm.refusals()) == counted


@pytest.mark.slow
def test_nothing_that_strangers_send_prints_more_than_a_line(tmp_path: Path) -> None:
    """The gRPC library's own lines are kept out, too: they go past Python's loggers."""
    with MatchmakerProcess(tmp_path / "here") as cpm:
        cpm.start()
        for _ in range(30):
            for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 4, b"\x16\x03\x01"):
                with socket.create_connection(("127.0.0.1", cpm.port)) as end:
                    end.sendall(data)
            with pytest.raises(RemoteRefusalError):
                cpm.call("a0", "Beat", messages.Heartbeat(incarnation=INCARNATION))
        code, printed = cpm.end(signal.SIGTERM)
        assert code == 143
        lines = printed.splitlines()
        assert len([line for line in lines if "refused a0 " in line]) == 1
        assert len([line for line in lines if "connections without a valid" in line]) == 1
        assert len(lines) == 4, printed  # and two of its end
