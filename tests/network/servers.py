"""Servers on loopback with real TLS: a matchmaker, and an agent that waits for a package."""

import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest

from knexa.network import authority, messages
from knexa.network.authority import MATCHMAKER
from knexa.network.identity import Identity
from knexa.network.matchmaker import MatchmakerService
from knexa.network.packages import NamedDirective, PackageInbox, PackageServer, introduction
from knexa.network.refusals import Refusals
from knexa.network.sealing import SealingContext, SealingKey, seal
from knexa.network.timing import MonotonicClock
from knexa.network.transport import RemoteRefusalError, RpcClient, RpcServer
from tests.network.rounds import Harness, profile
from tests.network.trial import identity

CALL_S = 10.0
INCARNATION = b"1"


class Served:
    """A matchmaker on loopback, its certificates in a folder that the test may change."""

    def __init__(self, folder: Path, *, routed: bool = False, **server: Any) -> None:
        self.me, self.harness, self.clock = (
            identity(MATCHMAKER, folder),
            Harness(routed=routed),
            MonotonicClock(),
        )
        self.service = MatchmakerService(self.harness.coordinator, self.me, self.clock)
        self.server = RpcServer(
            self.me,
            "127.0.0.1:0",
            "Matchmaker",
            self.service.handlers(),
            num_threads=6,
            **{"refusals": Refusals()} | server,
        )
        self.server.start()
        self.port = self.server.port

    def call(self, who: Identity, method: str, request: Any, name: str = MATCHMAKER) -> Any:
        with RpcClient(who, f"127.0.0.1:{self.port}", name, "Matchmaker") as client:
            return client.call(method, request, CALL_S)


def registration(name: str, **changes: Any) -> Any:
    values = {
        "protocol_version": messages.PROTOCOL_VERSION,
        "name": name,
        "address": "127.0.0.1:1",
        "incarnation": INCARNATION,
        "agreement": "alike",
        "nonce": b"nonce",
        "profile": profile(name, 0),
    }
    return messages.Registration(**(values | changes))


def credentials_of(who: Identity) -> Any:
    key = authority.pem_of(who.key)
    return grpc.ssl_channel_credentials(identity("a0").ca_pem, key, who.certificate_pem)


def open_channel(port: int, credentials: Any, name: str = MATCHMAKER) -> Any:
    """Return a connection that checks nothing which gRPC does not."""
    options = [("grpc.ssl_target_name_override", name)]
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options)


def tls(port: int, *, with_certificate: bool, http2: bool = True) -> socket.socket:
    me = identity("a0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=me.ca_pem.decode())
    context.check_hostname = False
    if with_certificate:
        context.load_cert_chain(me.folder / "a0.pem", me.folder / "a0.key")
    if http2:
        context.set_alpn_protocols(["h2"])
    return context.wrap_socket(tcp(port))


def tcp(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port))
    plain.settimeout(CALL_S)
    return plain


DIRECTIVE = NamedDirective(id="r1-0", teacher="a0", student="a1", address="", round=1)
CONTEXT = SealingContext(sender="a0", receiver="a1", round=1, directive="r1-0", counter=0)
DATA = b"lesson" * 30_000


class Receiving:
    """The agent a1 on loopback, waiting for a package of a0."""

    def __init__(self, **server: Any) -> None:
        me, self.key, self.inbox = identity("a1"), SealingKey(), PackageInbox()
        self.inbox.expect(DIRECTIVE)
        handlers = PackageServer(me, self.key, self.inbox).handlers()
        self.server = RpcServer(
            me,
            "127.0.0.1:0",
            "Peer",
            handlers,
            num_threads=4,
            **{"refusals": Refusals()} | server,
        )
        self.server.start()
        self.port = self.server.port
        self.sender_key = SealingKey()

    def chunks(
        self,
        context: SealingContext = CONTEXT,
        data: bytes = DATA,
        *,
        vouched_by: str = "a0",
        **envelope: Any,
    ) -> list[Any]:
        """Return a package of a0's, with what the envelope says changed."""
        ephemeral, sealed = seal(data, context, self.sender_key, self.key.public)
        fields = {
            "sender": introduction(identity(vouched_by), self.sender_key),
            "sender_name": context.sender,
            "receiver_name": context.receiver,
            "round": context.round,
            "directive_id": context.directive,
            "counter": context.counter,
            "ephemeral_key": ephemeral,
        }
        head = messages.Envelope(**(fields | envelope))
        made = [messages.Chunk(index=c.index, last=c.last, sealed=c.data) for c in sealed]
        made[0].envelope.CopyFrom(head)
        return made

    def send(self, chunks: list[Any], who: str = "a0") -> None:
        address = f"127.0.0.1:{self.port}"
        with RpcClient(identity(who), address, "a1", "Peer") as client:
            client.call("Deliver", iter(chunks), CALL_S)

    def refusal(self, chunks: list[Any], who: str = "a0") -> str:
        """Return the one reason that was counted for a package that must not arrive."""
        before = self.server.counts()
        with pytest.raises(RemoteRefusalError):
            self.send(chunks, who)
        after = self.server.counts()
        (reason,) = [kind for kind in after if after[kind] != before.get(kind, 0)]
        assert after[reason] == before.get(reason, 0) + 1
        return reason
