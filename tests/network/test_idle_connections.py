"""Connections that say nothing are closed by the server, and no honest agent notices.

The limits are short here, and nothing sleeps: the tests wait for the end of the stream.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from knexa.network import messages
from knexa.network.authority import MATCHMAKER
from knexa.network.transport import HANDSHAKE_S, IDLE_S, RpcClient, RpcServer
from tests.network.servers import (
    CALL_S,
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
from tests.network.trial import copy_of_certificates, identity

LIMITS = {"handshake_s": 0.3, "idle_s": 0.3}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"knexa-12"
HALF_A_CALL = bytes([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83])  # headers that never end


@pytest.fixture(params=["matchmaker", "agent"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "matchmaker":
        here: Any = Served(copy_of_certificates(tmp_path), **LIMITS)
    else:
        here = Receiving(**LIMITS)
    yield here
    here.server.stop()


def _after_handshake(*sent: bytes) -> Callable[[int], socket.socket]:
    def connect(port: int) -> socket.socket:
        end = tls(port, with_certificate=True)
        for data in sent:
            end.sendall(data)
        return end

    return connect


def _half_a_hello(port: int) -> socket.socket:
    end = tcp(port)
    end.sendall(bytes.fromhex("16030102000100"))
    return end


SILENT: dict[str, Callable[[int], socket.socket]] = {
    "nothing at all": tcp,
    "half a handshake": _half_a_hello,
    "a handshake": _after_handshake(),
    "half a preface": _after_handshake(PREFACE[:10]),
    "no call": _after_handshake(PREFACE),
    "a ping": _after_handshake(PREFACE, PING),
    "half a call": _after_handshake(PREFACE, HALF_A_CALL),
}


def wait_for_end(end: socket.socket) -> None:
    """Read until the server closes; its own frames are not looked at."""
    with suppress(ConnectionError, ssl.SSLError):
        while end.recv(4096):  # fails after CALL_S
            pass


@pytest.mark.parametrize("kind", SILENT)
def test_a_connection_that_says_nothing_is_closed(server: Any, kind: str) -> None:
    with SILENT[kind](server.port) as end:
        wait_for_end(end)


def test_a_connection_that_says_its_handshake_byte_by_byte_is_closed(server: Any) -> None:
    with tcp(server.port) as end:
        end.settimeout(0.05)
        for byte in bytes.fromhex("160301020001 0001fc 0303") + bytes(int(CALL_S / 0.05)):
            try:
                end.sendall(bytes([byte]))
                if not end.recv(1):
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("it is still open")


def test_five_hundred_silent_connections_are_closed_and_agents_served_meanwhile(
    tmp_path: Path,
) -> None:
    served = Served(copy_of_certificates(tmp_path), handshake_s=2.0, idle_s=2.0)
    with ExitStack() as stack:
        stack.callback(served.server.stop)
        kinds = [tcp] * 400 + [SILENT["a handshake"]] * 50 + [SILENT["no call"]] * 50
        ends = [stack.enter_context(connect(served.port)) for connect in kinds]
        served.call(identity("a0"), "Register", registration("a0"))
        for end in ends:
            wait_for_end(end)
        served.call(identity("a0"), "Beat", messages.Heartbeat(incarnation=INCARNATION))


def test_a_call_is_not_cut_while_it_waits_longer_than_the_limit(tmp_path: Path) -> None:
    """A long poll says nothing for as long as there is nothing to do."""
    served = Served(copy_of_certificates(tmp_path), handshake_s=0.3, idle_s=0.3)
    a0 = identity("a0")
    served.call(a0, "Register", registration("a0"))
    served.harness.coordinator.members["a0"].prepared_round = 1
    status = messages.Status(incarnation=INCARNATION, wait_s=2.0, prepared_round=1)
    assert served.call(a0, "Await", status).kind == messages.Order.WAIT
    served.server.stop()


def test_an_agent_that_was_cut_for_its_silence_calls_on(tmp_path: Path) -> None:
    served = Served(copy_of_certificates(tmp_path), handshake_s=0.3, idle_s=0.3)
    a0, cut = identity("a0"), threading.Event()
    with RpcClient(a0, f"127.0.0.1:{served.port}", MATCHMAKER, "Matchmaker") as client:
        client.call("Register", registration("a0"), CALL_S)
        client._channel.subscribe(
            lambda state: cut.set() if state is grpc.ChannelConnectivity.IDLE else None
        )
        assert cut.wait(CALL_S), "the connection is still open"
        client.call("Beat", messages.Heartbeat(incarnation=INCARNATION), CALL_S)
    assert served.server.counts() == {}
    served.server.stop()


def test_no_agent_is_silent_for_as_long_as_the_limit() -> None:
    """Heartbeats are at most a minute apart, as ``knexa serve --beat-s`` and agents hold them."""
    from knexa.cli import serve

    longest = 60.0
    option = next(a for a in serve._parser()._actions if "--beat-s" in a.option_strings)
    assert option.type("60") == longest  # type: ignore[operator, misc]
    with pytest.raises(Exception, match="60"):
        option.type("60.1")  # type: ignore[operator, misc]
    assert longest < IDLE_S
    assert HANDSHAKE_S < IDLE_S


def test_a_stream_that_is_never_finished_ends_with_its_deadline_and_blocks_nobody(
    tmp_path: Path,
) -> None:
    """One member opens as many as it may, sends a chunk a stream and then nothing."""
    a1, over = Receiving(), threading.Event()
    chunks = a1.chunks()

    def dribble() -> Iterator[bytes]:
        yield chunks[0].SerializeToString()
        over.wait()

    with open_channel(a1.port, credentials_of(identity("a0")), "a1") as channel:
        call = channel.stream_unary("/knexa.v1.Peer/Deliver")
        slow = [call.future(dribble(), timeout=2.0) for _ in range(3)]
        a1.send(chunks)
        assert a1.inbox.arrived(["r1-0"]) == {"r1-0": DATA}
        codes = {one.code() for one in slow}  # waits for the end of each
        over.set()
    assert codes <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT}
    assert isinstance(a1.server, RpcServer)
    a1.server.stop()
