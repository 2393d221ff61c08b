"""gRPC servers and clients with mutual TLS; there is no unauthenticated mode.

A handler gets the caller's name from its certificate, never from a message. A refusal is counted
and answered with a status code that the client raises as ``RemoteRefusalError``. Messages are
parsed here and not by gRPC, which would print a traceback for each that is none.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.protobuf.message import DecodeError

from knexa.errors import UserError
from knexa.network.authority import pem_of
from knexa.network.identity import Identity
from knexa.network.messages import PACKAGE, method
from knexa.network.refusals import Reason, Refusals, RefusedError, printable

Handler = Callable[[str, Any], Any]
MAX_MESSAGE_BYTES: Final = 256 * 1024
HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 120.0
"""A connection without a call is closed after so long; agents beat at least once a minute."""
_STREAMED: Final = {("Peer", "Deliver")}
_MAX_PEERS: Final = 4096
_MAX_CONCURRENT_CALLS: Final = 4
_MAX_DEADLINE_S: Final = 300.0
_DUPLICATE: Final[frozenset[Reason]] = frozenset({"replayed", "unexpected"})
_IDENTITY: Final[frozenset[Reason]] = frozenset({"certificate", "revoked", "identity"})
_REFUSAL_CODES: Final = {
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.UNIMPLEMENTED,
}


class NotYetError(Exception):
    """The result is not available yet: the caller may retry, and no refusal is counted."""


class RemoteRefusalError(Exception):
    """The peer refused the call; a retry would not help."""

    def __init__(self, text: str, *, already: bool) -> None:
        super().__init__(text)
        self.already = already


def is_transient(error: Exception) -> bool:
    """Return whether a failed call may succeed when it is repeated.

    A stopping server answers with many codes (cancelled, internal, unknown), so every error that is
    not a refusal is transient.
    """
    return isinstance(error, grpc.RpcError) and error.code() not in _REFUSAL_CODES


class RpcServer:
    """Serves methods to members of the federation, and to nobody else.

    Args:
        identity: The server's certificate, and the authority that callers are checked against.
        address: ``host:port``; port 0 takes a free one.
        service: The service's name in the proto file.
        handlers: By method, the function that answers.
        num_threads: Calls answered at a time.
        refusals: Counts refusals.
        handshake_s: Connections that take longer for TLS and the first frame of HTTP/2 are closed.
        idle_s: See ``IDLE_S``.
        now: A monotonic clock, in seconds.

    Raises:
        UserError: The address is in use or not this machine's.
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
        handshake_s: float = HANDSHAKE_S,
        idle_s: float = IDLE_S,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._identity, self._refusals = identity, refusals
        self._handshakes = Handshakes(refusals, handshake_s, now)
        self._limit = _ConcurrencyLimit()
        self._server = grpc.server(
            futures.ThreadPoolExecutor(num_threads, thread_name_prefix="serve"),
            maximum_concurrent_rpcs=2 * num_threads,
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),  # else a second server could share the port
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
                ("grpc.server_handshake_timeout_ms", round(1000 * handshake_s)),
                ("grpc.max_connection_idle_ms", round(1000 * idle_s)),
                ("grpc.compression_enabled_algorithms_bitset", 1),  # none but "identity"
            ],
        )
        methods = {
            f"/{PACKAGE}.{service}/{name}": self._method(service, name, call)
            for name, call in handlers.items()
        }
        self._server.add_generic_rpc_handlers((_Methods(methods, self._unknown_method()),))
        try:
            self.port: int = self._server.add_secure_port(address, self._credentials())
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise UserError(f"cannot listen on {address}: it is in use, or not this machine's")

    def _credentials(self) -> Any:
        # The dynamic variant calls back before every handshake, so that they can be counted.
        pair = (pem_of(self._identity.key), self._identity.certificate_pem)
        own = grpc.ssl_server_certificate_configuration([pair], self._identity.ca_pem)
        return grpc.dynamic_ssl_server_credentials(own, self._handshakes.begin, True)

    def _method(self, service: str, name: str, call: Handler) -> Any:
        request, response = method(service, name)
        # Read as a stream even if it is one message: gRPC would otherwise wait for the message
        # before the handler can check who the caller is.
        take = call if (service, name) in _STREAMED else _of_one(call)
        return grpc.stream_unary_rpc_method_handler(
            self._guarded(name, lambda who, stream: take(who, _parsed(stream, request))),
            response_serializer=response.SerializeToString,
        )

    def _unknown_method(self) -> Any:
        def refuse(name: str, stream: Any) -> Any:
            raise RefusedError("malformed", "there is no such method")

        return grpc.stream_unary_rpc_method_handler(self._guarded("an unknown method", refuse))

    def _guarded(self, method_name: str, call: Handler) -> Callable[[Any, Any], Any]:
        def answer(stream: Any, context: Any) -> Any:
            address = str(context.peer())
            peer = address.rpartition(":")[0]  # its host, until it has shown a certificate
            try:
                peer = self._caller(context)
                remaining = context.time_remaining()
                if remaining is None or remaining > _MAX_DEADLINE_S:
                    raise RefusedError(
                        "malformed", f"a call has a deadline within {_MAX_DEADLINE_S:g} s"
                    )
                with self._limit.of(peer):
                    return call(peer, stream)
            except RefusedError as refused:
                self._refusals.count(refused, peer, address)
                code, text = _status(refused), str(refused)
            except NotYetError as error:
                code, text = grpc.StatusCode.UNAVAILABLE, str(error)
            except Exception:
                self._refusals.warn(peer, "%s failed for %s", method_name, peer, exc_info=True)
                code, text = grpc.StatusCode.INTERNAL, "this call failed here"
            context.abort(code, text)

        return answer

    def _caller(self, context: Any) -> str:
        """Return the name in the caller's TLS certificate."""
        shown = context.auth_context().get("x509_pem_cert", ())
        if len(shown) != 1:
            raise RefusedError("certificate", "the caller shows none")
        certificate = x509.load_pem_x509_certificate(shown[0])
        self._handshakes.end(str(context.peer()))
        name, _ = self._identity.check(certificate.public_bytes(serialization.Encoding.DER))
        return name

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()

    def stop(self, grace_s: float = 0.0) -> None:
        """Accept no more calls; running ones have ``grace_s`` seconds to finish."""
        self._server.stop(grace_s).wait()
        self._handshakes.end_all()

    def counts(self) -> dict[str, int]:
        """Return the number of refusals by reason, failed handshakes included."""
        self._handshakes.end_all()
        return self._refusals.counts()


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Handlers by path; one for all other paths."""

    def __init__(self, methods: Mapping[str, Any], otherwise: Any) -> None:
        self._methods, self._otherwise = methods, otherwise

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call; gRPC asks for it."""
        return self._methods.get(handler_call_details.method, self._otherwise)


class Handshakes:
    """Counts failed TLS handshakes.

    gRPC rejects unknown certificates without a callback and only reports that a handshake begins;
    one that no call has followed ``handshake_s`` later is counted as failed.
    """

    def __init__(self, refusals: Refusals, handshake_s: float, now: Callable[[], float]) -> None:
        self._refusals, self._handshake_s, self._now = refusals, handshake_s, now
        self._begun, self._called = 0, 0
        self._earlier, self._earlier_s = 0, now()
        self._peers: dict[str, None] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Count a handshake; gRPC calls this, and reads None as "keep the certificate"."""
        failed = None
        with self._lock:
            if self._now() - self._earlier_s >= self._handshake_s:
                failed = max(0, self._earlier - self._called)
                self._earlier, self._earlier_s = self._begun, self._now()
            self._begun += 1
        if failed is not None:
            self._refusals.count_handshakes(failed)

    def end(self, peer: str) -> None:
        """Count a connection at its first call."""
        with self._lock:
            if peer not in self._peers:
                self._called += 1
                self._peers[peer] = None
                if len(self._peers) > _MAX_PEERS:
                    del self._peers[next(iter(self._peers))]

    def end_all(self) -> None:
        """Count all handshakes that no call has followed so far."""
        with self._lock:
            failed = max(0, self._begun - self._called)
        self._refusals.count_handshakes(failed)


class _ConcurrencyLimit:
    """Limits concurrent calls of each member, so that none can occupy all threads."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Count one running call of the member.

        Raises:
            NotYetError: It has too many running calls.
        """
        with self._lock:
            if self._running[name] >= _MAX_CONCURRENT_CALLS:
                raise NotYetError(f"{name} has {_MAX_CONCURRENT_CALLS} calls under way")
            self._running[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._running[name] -= 1


class RpcClient:
    """Calls another member's service; a context manager.

    Args:
        identity: The caller's certificate and key.
        address: ``host:port`` of the member.
        name: The member whose certificate the server must have.
        service: The service's name in the proto file.
    """

    def __init__(self, identity: Identity, address: str, name: str, service: str) -> None:
        self._name, self._service = name, service
        credentials = grpc.ssl_channel_credentials(
            identity.ca_pem, pem_of(identity.key), identity.certificate_pem
        )
        self._channel = grpc.secure_channel(
            address,
            credentials,
            options=[
                # Certificates hold names, not addresses, which may change.
                ("grpc.ssl_target_name_override", name),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.keepalive_time_ms", 10_000),  # detects a cut connection
                ("grpc.keepalive_timeout_ms", 5_000),
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 5_000),
                ("grpc.enable_http_proxy", 0),
                ("grpc.compression_enabled_algorithms_bitset", 1),
            ],
        )

    def __enter__(self) -> "RpcClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def call(self, name: str, request: Any, timeout_s: float) -> Any:
        """Call a method with a message, or an iterator of messages; return its response.

        Raises:
            RemoteRefusalError: The member refuses.
            RefusedError: It answers with something that is no message.
            grpc.RpcError: The call failed; ``is_transient`` says whether to repeat it.
        """
        asked, answered = method(self._service, name)
        streamed = (self._service, name) in _STREAMED
        make = self._channel.stream_unary if streamed else self._channel.unary_unary
        invoke = make(
            f"/{PACKAGE}.{self._service}/{name}", request_serializer=asked.SerializeToString
        )
        try:
            return answered.FromString(invoke(request, timeout=timeout_s))
        except DecodeError:
            raise RefusedError(
                "malformed", f"{self._name} answers {name} with no message"
            ) from None
        except grpc.RpcError as error:
            if error.code() not in _REFUSAL_CODES:
                raise
            already = error.code() is grpc.StatusCode.ALREADY_EXISTS
            raise RemoteRefusalError(printable(error.details()), already=already) from None


def _parsed(stream: Iterable[bytes], message: Any) -> Iterator[Any]:
    """Yield the messages of a caller's stream.

    Raises:
        RefusedError: The stream broke off, or holds something else.
    """
    try:
        for data in stream:
            yield message.FromString(data)
    except DecodeError:
        raise RefusedError("malformed", f"no {message.DESCRIPTOR.name}") from None
    except grpc.RpcError:
        raise RefusedError("truncated", "the stream broke off") from None


def _of_one(call: Handler) -> Handler:
    """Adapt a handler of one message to a stream that holds one."""

    def answer(name: str, stream: Iterator[Any]) -> Any:
        for request in stream:
            return call(name, request)
        raise RefusedError("malformed", "a call without a message")

    return answer


def _status(refused: RefusedError) -> Any:
    if refused.reason in _DUPLICATE:
        return grpc.StatusCode.ALREADY_EXISTS
    if refused.reason in _IDENTITY:
        return grpc.StatusCode.PERMISSION_DENIED
    if refused.reason == "no list":  # not the caller's fault
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INVALID_ARGUMENT
