"""Packages on their way: the teacher's sender, the student's server and inbox."""

import itertools
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from knexa.agents.exchange_protocol import Topics
from knexa.exchange.package import DEFAULT_LIMITS
from knexa.network import messages
from knexa.network.identity import Identity
from knexa.network.refusals import RefusedError
from knexa.network.sealing import (
    Opener,
    ReplayWindow,
    SealedChunk,
    SealingContext,
    SealingKey,
    check_key,
    seal,
)
from knexa.network.timing import Backoff, Clock
from knexa.network.transport import (
    Handler,
    NotYetError,
    RemoteRefusalError,
    RpcClient,
    is_transient,
)

MAX_PACKAGE_BYTES: Final = DEFAULT_LIMITS.max_bytes + 64 * 1024
"""The largest package of text, plus the message around it."""

_HOLD_S: Final = 5.0
_CALL_S: Final = 15.0
_STREAM_S: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDirective:
    """A directive as its agents receive it: teacher and student by name.

    ``topics`` are categories of transfer problems; None is all of them. ``missing`` are the
    problems on them, by place in the transfer set, that a student asks about under ``ask=missing``.
    """

    id: str
    teacher: str
    student: str
    address: str
    round: int
    attempt: int = 0
    topics: Topics = None
    missing: tuple[int, ...] = ()

    @classmethod
    def of(cls, message: Any) -> "NamedDirective":
        """Read a directive from the matchmaker's message."""
        fields = {name: getattr(message, name) for name in cls.__dataclass_fields__}
        lists = {"topics": tuple(message.topics) or None, "missing": tuple(message.missing)}
        return cls(**{**fields, **lists})


class PackageInbox:
    """The packages that an agent awaits: one a directive, from its teacher only. Thread-safe."""

    def __init__(self) -> None:
        self._awaited: dict[str, NamedDirective] = {}
        self._arrived: dict[str, bytes] = {}
        self._changed = threading.Condition()

    def expect(self, directive: NamedDirective) -> None:
        """Begin to accept the package of a directive."""
        with self._changed:
            self._awaited.setdefault(directive.id, directive)
            self._changed.notify_all()

    def is_expected(self, directive_id: str, teacher: str, wait_s: float = 0.0) -> bool:
        """Return whether this teacher's package is expected now or within ``wait_s``."""
        with self._changed:
            return self._changed.wait_for(lambda: self._awaits(directive_id, teacher), wait_s)

    def _awaits(self, directive_id: str, teacher: str) -> bool:
        awaited = self._awaited.get(directive_id)
        return (
            awaited is not None and awaited.teacher == teacher and directive_id not in self._arrived
        )

    def _check_awaited(self, directive_id: str, teacher: str) -> None:
        if not self._awaits(directive_id, teacher):
            raise RefusedError("unexpected", f"nobody waits for {directive_id!r:.40}")

    def round_of(self, directive_id: str, teacher: str) -> int:
        """Return the round of a directive whose package is expected.

        Raises:
            RefusedError: It is not expected.
        """
        with self._changed:
            self._check_awaited(directive_id, teacher)
            return self._awaited[directive_id].round

    def put(self, directive_id: str, teacher: str, data: bytes) -> None:
        """Store a verified package.

        Raises:
            RefusedError: It is not expected any more.
        """
        with self._changed:
            self._check_awaited(directive_id, teacher)
            self._arrived[directive_id] = data
            self._changed.notify_all()

    def arrived(self, directive_ids: Collection[str], wait_s: float = 0.0) -> dict[str, bytes]:
        """Return these directives' packages, once all are there or ``wait_s`` is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived.keys() >= set(directive_ids), wait_s)
            return {id_: self._arrived[id_] for id_ in directive_ids if id_ in self._arrived}

    def keep_only(self, directive_ids: set[str]) -> None:
        """Drop all other directives."""
        with self._changed:
            for packages in (self._awaited, self._arrived):
                for id_ in set(packages) - directive_ids:
                    del packages[id_]


class PackageServer:
    """The service ``Peer``: hands out the agent's sealing key and accepts sealed packages."""

    def __init__(self, identity: Identity, key: SealingKey, inbox: PackageInbox) -> None:
        self._identity, self._key, self._inbox = identity, key, inbox
        self._window, self._lock = ReplayWindow(), threading.Lock()
        self._introduction = introduction(identity, key)

    def handlers(self) -> dict[str, Handler]:
        """Return the methods of the service ``Peer``."""
        return {"Introduce": self.introduce, "Deliver": self.deliver}

    def introduce(self, name: str, hello: Any) -> Any:
        """Answer a teacher with the sealing key, once its package is expected."""
        if hello.protocol_version != messages.PROTOCOL_VERSION:
            raise RefusedError(
                "disagreement",
                f"version {hello.protocol_version}, spoken here is {messages.PROTOCOL_VERSION}",
            )
        # A teacher may learn of a directive a moment before its student does.
        if not self._inbox.is_expected(hello.directive_id, name, _HOLD_S):
            raise NotYetError("no package of that directive is waited for")
        return self._introduction

    def deliver(self, name: str, stream: Iterator[Any]) -> Any:
        """Open a package and put it into the inbox.

        Raises:
            RefusedError: It is incomplete, for another agent, not from the caller, not expected, or
                a replay.
        """
        first = next(stream, None)
        if first is None or not first.HasField("envelope"):
            raise RefusedError("truncated", "the stream has no envelope")
        envelope = first.envelope
        context, opener = self._open(name, envelope)
        for chunk in itertools.chain((first,), stream):
            opener.feed(SealedChunk(chunk.index, chunk.last, chunk.sealed))
        data = opener.finish()
        with self._lock:
            self._window.take(name, envelope.sender.sealing_key, context.counter)
        self._inbox.put(context.directive, name, data)
        return messages.Receipt()

    def _open(self, name: str, envelope: Any) -> tuple[SealingContext, Opener]:
        """Check an envelope; return its context and the opener of its package."""
        if envelope.sender_name != name:
            raise RefusedError("identity", f"{name} brings a package of another's")
        if envelope.receiver_name != self._identity.name:
            raise RefusedError("wrong receiver", f"for {envelope.receiver_name!r:.40}")
        sender = envelope.sender
        check_key(
            self._identity,
            certificate=sender.certificate,
            name=name,
            sealing_key=sender.sealing_key,
            signature=sender.signature,
        )
        with self._lock:
            self._window.check(name, sender.sealing_key, envelope.counter)
        context = SealingContext(
            sender=name,
            receiver=self._identity.name,
            round=self._inbox.round_of(envelope.directive_id, name),
            directive=envelope.directive_id,
            counter=envelope.counter,
        )
        if envelope.round != context.round:
            raise RefusedError("unexpected", f"{context.directive!r:.40} is of another round")
        opener = Opener(
            context,
            self._key,
            sender_key=sender.sealing_key,
            ephemeral_key=envelope.ephemeral_key,
            max_bytes=MAX_PACKAGE_BYTES,
        )
        return context, opener


class PackageSender:
    """Seals an agent's packages and sends them to its students."""

    def __init__(
        self,
        identity: Identity,
        key: SealingKey,
        *,
        backoff: Backoff,
        clock: Clock,
        rng: np.random.Generator,
        connect: Callable[..., RpcClient] = RpcClient,
    ) -> None:
        self._identity, self._key = identity, key
        self._backoff, self._clock, self._rng, self._connect = backoff, clock, rng, connect
        self._counter = itertools.count()
        self._introduction = introduction(identity, key)

    def deliver(self, directive: NamedDirective, package: bytes) -> None:
        """Send a package to its student; one that has arrived before counts as delivered.

        Raises:
            RefusedError: The peer at the address is not the student.
            RemoteRefusalError: The student refuses the package.
            grpc.RpcError: The student could not be reached in time.
        """
        with self._connect(self._identity, directive.address, directive.student, "Peer") as student:
            self._backoff.retry(
                lambda: self._try(student, directive, package),
                is_transient=is_transient,
                clock=self._clock,
                rng=self._rng,
            )

    def _try(self, student: RpcClient, directive: NamedDirective, package: bytes) -> None:
        hello = messages.Hello(
            protocol_version=messages.PROTOCOL_VERSION, directive_id=directive.id
        )
        shown = student.call("Introduce", hello, _CALL_S)
        check_key(
            self._identity,
            certificate=shown.certificate,
            name=directive.student,
            sealing_key=shown.sealing_key,
            signature=shown.signature,
        )
        try:
            student.call("Deliver", self._chunks(directive, package, shown), _STREAM_S)
        except RemoteRefusalError as error:
            if not error.already:
                raise

    def _chunks(self, directive: NamedDirective, package: bytes, shown: Any) -> Iterator[Any]:
        context = SealingContext(
            sender=self._identity.name,
            receiver=directive.student,
            round=directive.round,
            directive=directive.id,
            counter=next(self._counter),
        )
        ephemeral, chunks = seal(package, context, self._key, shown.sealing_key)
        envelope = messages.Envelope(
            sender=self._introduction,
            sender_name=context.sender,
            receiver_name=context.receiver,
            round=context.round,
            directive_id=context.directive,
            counter=context.counter,
            ephemeral_key=ephemeral,
        )
        for chunk in chunks:
            head = {"envelope": envelope} if chunk.index == 0 else {}
            yield messages.Chunk(index=chunk.index, last=chunk.last, sealed=chunk.data, **head)


def introduction(identity: Identity, key: SealingKey) -> Any:
    """Return the message that binds a sealing key to the member's certificate."""
    return messages.Introduction(
        certificate=identity.certificate_der, sealing_key=key.public, signature=key.vouch(identity)
    )


def read_package(data: bytes) -> Any:
    """Parse an opened package.

    Raises:
        RefusedError: It is no package message.
    """
    try:
        return messages.Package.FromString(data)
    except DecodeError:
        raise RefusedError("malformed", "a package is no message") from None
