"""Malformed messages are one log line a peer and minute, a refusal each, and harm nobody else."""

import logging
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from knexa.network import authority, messages
from knexa.network.packages import NamedDirective, PackageInbox, PackageServer
from knexa.network.refusals import LINE_EVERY_S, LineLimit, Refusals, RefusedError
from knexa.network.reports import report_message
from knexa.network.sealing import SealingKey
from knexa.network.transport import RemoteRefusalError, RpcClient, RpcServer, is_transient
from tests.network.rounds import Moved, profile, report
from tests.network.servers import (
    CALL_S,
    CONTEXT,
    DATA,
    INCARNATION,
    Receiving,
    Served,
    credentials_of,
    open_channel,
    registration,
    tcp,
    tls,
)
from tests.network.trial import AGENTS, copy_of_certificates, identity

MATCHMAKER_CALLS: dict[str, Any] = {
    "Register": registration("a0"),
    "Await": messages.Status(incarnation=INCARNATION, received=["r1-0"], wait_s=0.0),
    "SubmitProfile": messages.Profile(incarnation=INCARNATION, round=1, features=profile("a0", 1)),
    "SubmitFeedback": messages.Feedback(
        incarnation=INCARNATION,
        reports=[
            messages.Report(
                directive_id="r1-0",
                reward=0.1,
                guardrail={"blocked": 1},
                answers=[messages.TopicAnswers(category=3, asked=2, right=2, new=1)],
            )
        ],
    ),
    "Beat": messages.Heartbeat(incarnation=INCARNATION),
}


class Lines:
    """Records of all loggers, the ones of gRPC included, while a test runs."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.WARNING)
        self._caplog = caplog

    def take(self) -> list[str]:
        found = [record for record in self._caplog.records if record.levelno >= logging.WARNING]
        assert not any(record.exc_info for record in found), self._caplog.text
        self._caplog.clear()
        return [record.getMessage() for record in found]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(caplog)


@pytest.fixture
def clock() -> Moved:
    return Moved()


@pytest.fixture
def served(tmp_path: Path, clock: Moved) -> Iterator[Served]:
    here = Served(copy_of_certificates(tmp_path), refusals=Refusals(now=clock), now=clock)
    yield here
    here.server.stop()


@pytest.fixture
def a1(clock: Moved) -> Iterator[Receiving]:
    here = Receiving(refusals=Refusals(now=clock), now=clock)
    yield here
    here.server.stop()


def send(channel: Any, path: str, *sent: bytes, **options: Any) -> grpc.StatusCode:
    """Send bytes to a method; return the status of the answer."""
    call = channel.stream_unary(path)
    try:
        call(iter(sent), timeout=CALL_S, **options)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def harm(good: bytes, rng: random.Random) -> bytes:
    """Return bytes that are not what was meant, and perhaps no message."""
    kind = rng.choice(["noise", "cut", "flip", "twice", "repeat", "text"])
    if kind == "noise":
        return rng.randbytes(rng.randrange(1, 200))
    if kind == "cut":
        return good[: rng.randrange(len(good))]
    if kind == "flip":
        harmed = bytearray(good)
        for _ in range(rng.randrange(1, 5)):
            harmed[rng.randrange(len(harmed))] = rng.randrange(256)
        return bytes(harmed)
    if kind == "twice":
        at = rng.randrange(len(good))
        return good[:at] + good[at // 2 :]
    if kind == "repeat":
        return good * rng.randrange(2, 50)
    return b"\x0a\x04\xff\xfe\xfd\xfc" + good  # a string that is no UTF-8


REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.ALREADY_EXISTS,
}


def test_a_thousand_malformed_messages_are_one_line_of_the_peer_and_harm_nobody(
    served: Served, clock: Moved, lines: Lines
) -> None:
    rng = random.Random(0)
    served.call(identity("a1"), "Register", registration("a1"))
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        codes = [
            send(channel, f"/knexa.v1.Matchmaker/{name}", harm(good.SerializeToString(), rng))
            for name, good in rng.choices(list(MATCHMAKER_CALLS.items()), k=1000)
        ]
        assert set(codes) <= {*REFUSED, grpc.StatusCode.OK}
        refused = sum(code is not grpc.StatusCode.OK for code in codes)
        assert refused > 500
        assert sum(served.server.counts().values()) == refused
        (line,) = lines.take()
        assert line.startswith("refused a0 (ipv4:127.0.0.1:")

        served.call(identity("a1"), "Beat", messages.Heartbeat(incarnation=INCARNATION))
        with pytest.raises(RemoteRefusalError, match="registers as"):
            served.call(identity("a1"), "Register", registration("a2"))
        (line,) = lines.take()  # another peer's minute is its own
        assert line.startswith("refused a1 ")
        assert "registers as 'a2'" in line

        clock.time += LINE_EVERY_S
        assert send(channel, "/knexa.v1.Matchmaker/Beat", b"\xff") in REFUSED
        (line,) = lines.take()
        assert line.endswith(f"; {refused - 1} more of a0 since its last line")
    assert served.service.failed is None
    assert "a1" in served.harness.coordinator.members


def test_an_agents_own_port_takes_no_more_from_malformed_messages(
    a1: Receiving, lines: Lines
) -> None:
    rng = random.Random(1)
    chunks = [chunk.SerializeToString() for chunk in a1.chunks()]
    hello = messages.Hello(protocol_version=99, directive_id="r1-0").SerializeToString()
    with open_channel(a1.port, credentials_of(identity("a2")), "a1") as channel:
        for _ in range(200):
            harmed = [harm(rng.choice(chunks)[:3000], rng) for _ in range(rng.randrange(1, 4))]
            assert send(channel, "/knexa.v1.Peer/Deliver", *harmed) in REFUSED
            assert send(channel, "/knexa.v1.Peer/Introduce", harm(hello, rng)) in REFUSED
    (line,) = lines.take()
    assert line.startswith("refused a2 (ipv4:127.0.0.1:")
    a1.send([messages.Chunk.FromString(chunk) for chunk in chunks])
    assert a1.inbox.arrived(["r1-0"]) == {"r1-0": DATA}


@pytest.mark.parametrize(
    "path", ["/knexa.v1.Matchmaker/Nothing", "/knexa.v1.Peer/Deliver", "/x", "/" + "x" * 4000]
)
def test_a_method_that_is_none_is_refused_and_counted(
    served: Served, lines: Lines, path: str
) -> None:
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        assert send(channel, path, b"") in REFUSED
        assert send(channel, path) in REFUSED
    assert served.server.counts() == {"malformed": 2}
    assert len(lines.take()) == 1


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages_are_not_read(
    served: Served, lines: Lines, algorithm: grpc.Compression
) -> None:
    """A bomb of 60 MB is 60 KB on the wire; an honest agent compresses nothing."""
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        for size in (10, 60_000_000):
            code = send(
                channel, "/knexa.v1.Matchmaker/Register", bytes(size), compression=algorithm
            )
            assert code is grpc.StatusCode.UNIMPLEMENTED
    assert len(lines.take()) <= 1


def test_headers_without_end_are_cut_off(served: Served, lines: Lines) -> None:
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        path, headers = "/knexa.v1.Matchmaker/Beat", [("x", "y" * 100_000)]
        assert send(channel, path, b"", metadata=headers) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(lines.take()) <= 1
    served.call(identity("a0"), "Register", registration("a0"))


def test_messages_over_the_limit_are_cut_off_and_one_line(served: Served, lines: Lines) -> None:
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        for _ in range(4):
            code = send(channel, "/knexa.v1.Matchmaker/Register", bytes(300_000))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(lines.take()) <= 1
    served.call(identity("a0"), "Register", registration("a0"))


def test_an_honest_agents_messages_pass_beside_its_own_line_limit(
    served: Served, clock: Moved, lines: Lines
) -> None:
    """Lines are held back, never calls: the same member is served between its malformed calls."""
    with open_channel(served.port, credentials_of(identity("a0"))) as channel:
        for _ in range(50):
            assert send(channel, "/knexa.v1.Matchmaker/Beat", b"\xff") in REFUSED
            served.call(identity("a0"), "Register", registration("a0"))
    assert len(lines.take()) == 1


@pytest.mark.parametrize("to", ["a0\n12:00 INFO all is well", "\x1b[2Jgone", "unix:/run/sock:1"])
def test_an_address_that_is_no_host_and_port_is_refused(served: Served, to: str) -> None:
    """It is handed to teachers: gRPC would open sockets of other kinds, and logs would print it."""
    with pytest.raises(RemoteRefusalError, match="HOST:PORT"):
        served.call(identity("a0"), "Register", registration("a0", address=to))
    assert served.harness.coordinator.members == {}


def test_what_is_kept_of_a_member_is_bounded(served: Served) -> None:
    with pytest.raises(RemoteRefusalError, match="32 bytes"):
        served.call(identity("a0"), "Register", registration("a0", incarnation=bytes(200_000)))
    assert served.harness.coordinator.members == {}


# Bytes that are no TLS, or TLS without a certificate


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GARBAGE: dict[str, tuple[Callable[[int], socket.socket], bytes]] = {
    "plain HTTP": (tcp, b"GET / HTTP/1.1\r\n\r\n"),
    "plain HTTP/2": (tcp, PREFACE + bytes(200)),
    "noise": (tcp, random.Random(2).randbytes(5000)),
    "no certificate": (lambda port: tls(port, with_certificate=False), PREFACE),
    "no ALPN": (lambda port: tls(port, with_certificate=True, http2=False), b"x"),
    "HTTP/1 in TLS": (lambda port: tls(port, with_certificate=True), b"GET / HTTP/1.1\r\n\r\n"),
    "broken frames": (lambda port: tls(port, with_certificate=True), PREFACE + b"\xff" * 500),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_on_the_port_ends_its_connection_and_is_one_line(
    served: Served, clock: Moved, lines: Lines, kind: str
) -> None:
    connect, data = GARBAGE[kind]
    for _ in range(20):
        with suppress(ConnectionError, ssl.SSLError), connect(served.port) as end:
            end.sendall(data)
            while end.recv(4096):  # a timeout would fail the test
                pass
        clock.time += 1.0
    assert len(lines.take()) <= 1
    assert served.server.counts() == {"handshake": 20}
    served.call(identity("a0"), "Register", registration("a0"))
    assert len(lines.take()) <= 1


# An answer may be malformed, too


@pytest.mark.parametrize("answer", [b"\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x08"])
def test_a_student_that_answers_with_no_message_is_refused(lines: Lines, answer: bytes) -> None:
    server = _raw_server("a1", lambda request, context: answer)
    with (
        RpcClient(identity("a0"), f"127.0.0.1:{server.port}", "a1", "Peer") as client,
        pytest.raises(RefusedError, match="malformed: a1 answers Introduce with no message"),
    ):
        client.call("Introduce", messages.Hello(), CALL_S)
    assert lines.take() == []
    server.stop(0).wait()


def test_a_students_text_forges_no_line_in_its_teachers_log() -> None:
    def refuse(request: Any, context: Any) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no\n12:00 ERROR the disk is full\x1b[2J")

    server = _raw_server("a1", refuse)
    with (
        RpcClient(identity("a0"), f"127.0.0.1:{server.port}", "a1", "Peer") as client,
        pytest.raises(RemoteRefusalError) as caught,
    ):
        client.call("Introduce", messages.Hello(), CALL_S)
    assert str(caught.value) == "no 12:00 ERROR the disk is full [2J"
    server.stop(0).wait()


def test_a_compressed_answer_is_not_read(lines: Lines) -> None:
    def bomb(request: Any, context: Any) -> bytes:
        context.set_compression(grpc.Compression.Gzip)
        return bytes(60_000_000)

    server = _raw_server("a1", bomb)
    with (
        RpcClient(identity("a0"), f"127.0.0.1:{server.port}", "a1", "Peer") as client,
        pytest.raises(grpc.RpcError) as caught,
    ):
        client.call("Introduce", messages.Hello(), CALL_S)
    assert is_transient(caught.value)
    assert lines.take() == []
    server.stop(0).wait()


def _raw_server(name: str, answer: Callable[[Any, Any], Any]) -> Any:
    """Start a server that answers every method as it likes, with a valid certificate."""
    from concurrent import futures

    class Anything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    me = identity(name)
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((Anything(),))
    pair = (authority.pem_of(me.key), me.certificate_pem)
    credentials = grpc.ssl_server_credentials([pair], me.ca_pem, require_client_auth=True)
    server.port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    return server


# The limit itself


def test_a_peer_has_one_line_a_minute_and_the_next_says_how_many_were_held_back() -> None:
    clock = Moved()
    limit = LineLimit(clock)
    assert [limit.admit("a0") for _ in range(4)] == [0, None, None, None]
    assert limit.admit("a1") == 0
    clock.time += LINE_EVERY_S - 0.1
    assert limit.admit("a0") is None
    clock.time += 0.1
    assert [limit.admit("a0"), limit.admit("a0")] == [4, None]


def test_a_flood_of_peers_takes_bounded_memory_and_lines() -> None:
    clock = Moved()
    limit = LineLimit(clock)
    told = sum(limit.admit(f"ipv4:{number}") is not None for number in range(20_000))
    assert told == len(limit._peers) <= 1001
    clock.time += LINE_EVERY_S
    assert limit.admit("ipv4:99999") == 0  # whose minute is over makes room
    assert len(limit._peers) <= 1001


def test_a_handler_that_fails_is_one_traceback_a_minute(
    clock: Moved, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of ours is worth its traceback, and a peer that finds one cannot fill the disk."""

    class Failing(PackageServer):
        def introduce(self, name: str, hello: Any) -> Any:
            raise ZeroDivisionError

    handlers = Failing(identity("a1"), SealingKey(), PackageInbox()).handlers()
    server = RpcServer(
        identity("a1"),
        "127.0.0.1:0",
        "Peer",
        handlers,
        num_threads=2,
        refusals=Refusals(now=clock),
    )
    server.start()
    with open_channel(server.port, credentials_of(identity("a0")), "a1") as channel:
        for _ in range(10):
            assert send(channel, "/knexa.v1.Peer/Introduce", b"") is grpc.StatusCode.INTERNAL
    (record,) = caplog.records
    assert record.exc_info
    server.stop()


def test_calls_for_what_is_anothers_are_refused(served: Served) -> None:
    """A member calls every method for rounds and directives that are not its own."""
    harness = served.harness
    for name in AGENTS:
        served.call(identity(name), "Register", registration(name))
    for name in AGENTS:
        shown = messages.Profile(incarnation=INCARNATION, round=1, features=profile(name, 1))
        served.call(identity(name), "SubmitProfile", shown)
    assignment, *_ = harness.coordinator.assignments.values()
    id_ = assignment.directive.id
    outsider = next(n for n in AGENTS if n not in (assignment.teacher, assignment.student))
    feedback = messages.Feedback(
        incarnation=INCARNATION, reports=[messages.Report(directive_id=id_, reward=1.0)]
    )
    for liar in (outsider, assignment.teacher):
        with pytest.raises(RemoteRefusalError, match=f"{liar} is not the student of"):
            served.call(identity(liar), "SubmitFeedback", feedback)
    status = messages.Status(incarnation=INCARNATION, prepared_round=1, received=[id_])
    served.call(identity(outsider), "Await", status)
    assert not assignment.received
    for round_number in (0, 2, 2**32 - 1):
        late = messages.Profile(
            incarnation=INCARNATION, round=round_number, features=[1.0] * 4, noted=[id_]
        )
        served.call(identity(outsider), "SubmitProfile", late)
    assert harness.coordinator.members[outsider].prepared_round == 1
    feedback.reports[0].directive_id = "r9-9"
    assert not served.call(identity(outsider), "SubmitFeedback", feedback).counts
    assert assignment.report is None
    assert served.service.failed is None


def test_forged_counts_are_refused_in_one_line_and_the_honest_are_served(
    tmp_path: Path, clock: Moved, lines: Lines
) -> None:
    """In a routed round: a liar's feedback changes nothing, whatever it says of its answers."""
    refusals = Refusals(now=clock)
    served = Served(copy_of_certificates(tmp_path), routed=True, refusals=refusals, now=clock)
    for name in AGENTS:
        served.call(identity(name), "Register", registration(name))
    for name in AGENTS:
        shown = messages.Profile(incarnation=INCARNATION, round=1, features=profile(name, 1))
        served.call(identity(name), "SubmitProfile", shown)
    order = served.call(identity("a0"), "Await", messages.Status(incarnation=INCARNATION))
    assert order.kind == messages.Order.PREPARE  # of a0's newer profile: it says it has none
    status = messages.Status(incarnation=INCARNATION, prepared_round=1)
    order = served.call(identity("a0"), "Await", status)
    mine = [each for each in order.directives if each.student == "a0"]
    anothers = [each for each in order.directives if each.student != "a0"]
    assert [list(each.topics) for each in mine] == [[0], [3]]
    honest = [report_message(each.id, report(each.id, each.topics)) for each in mine]

    def forged(of: int = 0, **changes: int) -> list[Any]:
        told = [messages.Report.FromString(each.SerializeToString()) for each in honest]
        for name, value in changes.items():
            setattr(told[of].answers[0], name, value)
        return told

    huge = [messages.TopicAnswers(category=number) for number in range(10_000)]
    attempts = [
        forged(new=2**32 - 1, right=2**32 - 1, asked=2**32 - 1),
        forged(right=honest[0].answers[0].asked + 1),
        forged(category=3),
        forged(category=99),
        [*honest, honest[0]],
        [messages.Report(directive_id=honest[0].directive_id, reward=1.0, answers=huge)],
        [messages.Report(directive_id=anothers[0].id, answers=honest[0].answers), *honest],
        [],
    ]
    for reports in attempts:
        told = messages.Feedback(incarnation=INCARNATION, reports=reports)
        with pytest.raises(RemoteRefusalError):
            served.call(identity("a0"), "SubmitFeedback", told)
    assert served.server.counts() == {"feedback": len(attempts) - 1, "identity": 1}
    (line,) = lines.take()
    assert line.startswith("refused a0 ")
    assignments = served.harness.coordinator.assignments.values()
    assert {assignment.report for assignment in assignments} == {None}
    told = messages.Feedback(incarnation=INCARNATION, reports=honest)
    assert served.call(identity("a0"), "SubmitFeedback", told).counts
    assert served.service.failed is None
    served.server.stop()


def test_a_package_of_anothers_directive_is_refused_whatever_its_sender_signs(
    a1: Receiving,
) -> None:
    a1.inbox.expect(NamedDirective(id="r1-1", teacher="a3", student="a1", address="", round=1))
    for who, directive in (("a2", "r1-0"), ("a0", "r1-1"), ("a3", "r1-0"), ("a2", "r1-1")):
        context = type(CONTEXT)(sender=who, receiver="a1", round=1, directive=directive, counter=0)
        assert a1.refusal(a1.chunks(context, vouched_by=who), who) == "unexpected"
    assert a1.inbox.arrived(["r1-0"]) == {}
    a1.send(a1.chunks())
