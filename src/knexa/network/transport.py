"""gRPC with mutual TLS, and no other way in: servers and clients of one federation.

A handler gets the caller's name from its certificate, never from a message. What a handler refuses
is counted and answered with a status that the other side reads back as ``RemoteRefusalError``.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from knexa.errors import UserError
from knexa.network.authority import pem_of
from knexa.network.identity import Identity
from knexa.network.messages import PACKAGE, method
from knexa.network.refusals import Reason, Refusals, RefusedError

log = logging.getLogger(__name__)

Handler = Callable[[str, Any], Any]
MAX_MESSAGE_BYTES: Final = 256 * 1024
_STREAMED: Final = {("Peer", "Deliver")}
_MOST_PEERS: Final = 4096
_MOST_AT_ONCE: Final = 4
_LONGEST_S: Final = 300.0
_ALREADY: Final[frozenset[Reason]] = frozenset({"replayed", "unexpected"})
_WHO: Final[frozenset[Reason]] = frozenset({"certificate", "revoked", "identity"})
_REFUSING: Final = {
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.UNIMPLEMENTED,
}


class NotYetError(Exception):
    """What is asked for is not there yet; the caller may try again, and nothing is counted."""


class RemoteRefusalError(Exception):
    """The other side refused: trying again would not help."""

    def __init__(self, text: str, *, already: bool) -> None:
        super().__init__(text)
        self.already = already


def is_passing(error: Exception) -> bool:
    """Return whether a call that failed may succeed when it is made again.

    A server that stops says so in many ways (cancelled, internal, unknown), so all that is no
    refusal may pass.
    """
    return isinstance(error, grpc.RpcError) and error.code() not in _REFUSING


class Server:
    """Serves methods to members of the federation, and to nobody else.

    Args:
        identity: Whose certificate is shown, and who may call.
        address: ``host:port``; port 0 takes a free one.
        service: The service's name in the proto file.
        handlers: By method, what answers.
        num_threads: Calls that are answered at a time.
        refusals: Where refusals are counted.

    Raises:
        UserError: The address cannot be had.
    """

    def __init__(
        self,
        identity: Identity,
        address: str,
        service: str,
        handlers: Mapping[str, Handler],
        *,
        num_threads: int,
        refusals: Refusals,
    ) -> None:
        self._identity, self._refusals = identity, refusals
        self._handshakes, self._turns = Handshakes(), _Turns()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(num_threads, thread_name_prefix="serve"),
            maximum_concurrent_rpcs=2 * num_threads,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),  # two servers on one port would take turns
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
            ],
        )
        methods = {name: self._method(service, name, call) for name, call in handlers.items()}
        handler = grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", methods)
        self._server.add_generic_rpc_handlers((handler,))
        try:
            self.port: int = self._server.add_secure_port(address, self._credentials())
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise UserError(f"cannot listen on {address}: it is in use, or not this machine's")

    def _credentials(self) -> Any:
        # The variant that asks before every handshake, for the sake of counting them.
        pair = (pem_of(self._identity.key), self._identity.certificate_pem)
        own = grpc.ssl_server_certificate_configuration([pair], self._identity.ca_pem)
        return grpc.dynamic_ssl_server_credentials(own, self._handshakes.begin, True)

    def _method(self, service: str, name: str, call: Handler) -> Any:
        request, response = method(service, name)
        # A single message is read as a stream of one: otherwise it would be waited for before any
        # line here asks whose it is.
        take = call if (service, name) in _STREAMED else _of_one(call)
        return grpc.stream_unary_rpc_method_handler(
            self._guarded(name, take),
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )

    def _guarded(self, method_name: str, call: Handler) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Any:
            who = str(context.peer())
            try:
                name = self._caller(context)
                who = f"{name} ({who})"
                remaining = context.time_remaining()
                if remaining is None or remaining > _LONGEST_S:
                    raise RefusedError(
                        "malformed", f"a call has a deadline within {_LONGEST_S:g} s"
                    )
                with self._turns.of(name):
                    return call(name, request)
            except RefusedError as refused:
                self._refusals.count(refused, who)
                code, text = _status(refused), str(refused)
            except NotYetError as error:
                code, text = grpc.StatusCode.UNAVAILABLE, str(error)
            except Exception:
                log.exception("%s failed for %s", method_name, who)
                code, text = grpc.StatusCode.INTERNAL, "this call failed here"
            context.abort(code, text)

        return answer

    def _caller(self, context: Any) -> str:
        """Return the name in the certificate that the caller has proved to own."""
        shown = context.auth_context().get("x509_pem_cert", ())
        if len(shown) != 1:
            raise RefusedError("certificate", "the caller shows none")
        certificate = x509.load_pem_x509_certificate(shown[0])
        self._handshakes.end(str(context.peer()))
        name, _ = self._identity.check(certificate.public_bytes(serialization.Encoding.DER))
        return name

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self, grace_s: float = 0.0) -> None:
        """Answer no more calls; those under way have so long."""
        self._server.stop(grace_s).wait()

    def counts(self) -> dict[str, int]:
        """Return how often what was refused, handshakes included."""
        counts, failed = self._refusals.counts(), self._handshakes.failed()
        return counts | ({"handshake": failed} if failed else {})


class Handshakes:
    """Counts handshakes that led to nothing.

    gRPC refuses strangers before any code of ours runs. It says when a handshake begins; one that
    is followed by no call has failed, or will.
    """

    def __init__(self) -> None:
        self._begun, self._called = 0, 0
        self._peers: dict[str, None] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count a handshake; called by gRPC, which takes None as no new certificate."""
        with self._lock:
            self._begun += 1

    def end(self, peer: str) -> None:
        """Count a connection that calls came through, once."""
        with self._lock:
            if peer not in self._peers:
                self._called += 1
                self._peers[peer] = None
                if len(self._peers) > _MOST_PEERS:
                    del self._peers[next(iter(self._peers))]

    def failed(self) -> int:
        """Return how many led to nothing so far."""
        with self._lock:
            return max(0, self._begun - self._called)


class _Turns:
    """Lets one member have so many calls answered at a time, so that it cannot take all threads."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Be one of the member's calls.

        Raises:
            NotYetError: It has too many under way.
        """
        with self._lock:
            if self._running[name] >= _MOST_AT_ONCE:
                raise NotYetError(f"{name} has {_MOST_AT_ONCE} calls under way")
            self._running[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1


class Client:
    """Calls one member's service; a context manager.

    Args:
        identity: Who calls.
        address: Where the member is said to be.
        name: The member that must answer there.
        service: The service's name in the proto file.
    """

    def __init__(self, identity: Identity, address: str, name: str, service: str) -> None:
        self._service = service
        credentials = grpc.ssl_channel_credentials(
            identity.ca_pem, pem_of(identity.key), identity.certificate_pem
        )
        self._channel = grpc.secure_channel(
            address,
            credentials,
            options=[
                # Addresses move; what must match is the name in the certificate.
                ("grpc.ssl_target_name_override", name),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 10_000),  # a link that was cut says nothing
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5_000),
                ("grpc.enable_http_proxy", 0),
            ],
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def call(self, name: str, request: Any, timeout_s: float) -> Any:
        """Return the answer of a method, for a message or an iterator of them.

        Raises:
            RemoteRefusalError: The member refuses.
            grpc.RpcError: The call failed; ``is_passing`` says whether to make it again.
        """
        asked, answered = method(self._service, name)
        streamed = (self._service, name) in _STREAMED
        make = self._channel.stream_unary if streamed else self._channel.unary_unary
        invoke = make(
            f"/{PACKAGE}.{self._service}/{name}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        try:
            return invoke(request, timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() not in _REFUSING:
                raise
            already = error.code() is grpc.StatusCode.ALREADY_EXISTS
            raise RemoteRefusalError(str(error.details())[:300], already=already) from None


def received(stream: Iterator[Any]) -> Iterator[Any]:
    """Yield what a caller streams.

    Raises:
        RefusedError: The stream broke off.
    """
    try:
        yield from stream
    except grpc.RpcError:
        raise RefusedError("truncated", "the stream broke off") from None


def _of_one(call: Handler) -> Handler:
    """Return the handler of a single message as one of a stream of them."""

    def answer(name: str, stream: Iterator[Any]) -> Any:
        for request in received(stream):
            return call(name, request)
        raise RefusedError("malformed", "a call without a message")

    return answer


def _status(refused: RefusedError) -> Any:
    if refused.reason in _ALREADY:
        return grpc.StatusCode.ALREADY_EXISTS
    if refused.reason in _WHO:
        return grpc.StatusCode.PERMISSION_DENIED
    if refused.reason == "no list":  # no fault of the caller's
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INVALID_ARGUMENT
