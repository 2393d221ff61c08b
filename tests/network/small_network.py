"""A federation on loopback: real TLS, real gRPC, threads for processes, and agents of a few lines.

A toy agent's package is its name, and what it reports is ``rounds.report``, so the rows must be
``rounds.expected_rows()``.
"""

import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import numpy as np

from knexa.errors import UserError
from knexa.network import messages
from knexa.network.agent_loop import AgentLoop, AgentTimeouts
from knexa.network.authority import MATCHMAKER
from knexa.network.matchmaker import MatchmakerService
from knexa.network.packages import (
    NamedDirective,
    PackageInbox,
    PackageSender,
    PackageServer,
    read_package,
)
from knexa.network.refusals import Refusals
from knexa.network.reports import StudentReport
from knexa.network.sealing import SealingKey
from knexa.network.timing import Backoff, MonotonicClock
from knexa.network.transport import RpcClient, RpcServer
from tests.network.rounds import Harness, profile, report
from tests.network.trial import identity

QUICK = Backoff(first_s=0.02, largest_s=0.1, give_up_s=20.0)
SHORT = Backoff(first_s=0.02, largest_s=0.1, give_up_s=0.5)
TIMEOUTS = AgentTimeouts(
    hold_s=2.0, poll_s=0.05, package_s=20.0, matchmaker_retries=QUICK, student_retries=SHORT
)
SECRET = b"the private lesson of "


class ToyBackend:
    """An agent that remembers what it did."""

    def __init__(self, name: str) -> None:
        self.name, self.prepared_round = name, 0
        self.learned, self.noted = list[str](), dict[str, Any]()
        self.lessons = list[list[str]]()  # what it learned from together, adopted or not
        self.pending: Mapping[str, StudentReport] | None = None
        self.before_learning: Callable[[NamedDirective], None] = lambda directive: None
        self.missing: Sequence[int] = ()

    def first_profile(self) -> list[float]:
        return profile(self.name, self.prepared_round)

    def prepare(self, round_number: int, results: Any) -> tuple[list[float], Sequence[str]]:
        self.noted.update(results)
        self.prepared_round = round_number
        return profile(self.name, round_number), list(results)

    def teach(self, directives: Sequence[NamedDirective]) -> dict[str, bytes]:
        text = SECRET + self.name.encode() + b" " * 100_000
        package = bytes(messages.Package(text=text, items_sent=1).SerializeToString())
        return {directive.id: package for directive in directives}

    def learn(
        self, directives: Sequence[NamedDirective], packages: Mapping[str, bytes]
    ) -> Mapping[str, StudentReport]:
        self.before_learning(directives[0])
        self.pending = {
            directive.id: self._learn(directive, packages.get(directive.id))
            for directive in directives
        }
        self.lessons.append(list(self.pending))
        return self.pending

    def _learn(self, directive: NamedDirective, package: bytes | None) -> StudentReport:
        if package is None:
            return StudentReport(outcome="lost")
        assert read_package(package).text.startswith(SECRET + directive.teacher.encode())
        return report(directive.id, directive.topics)

    def settle(self, *, counts: bool) -> None:
        if counts and self.pending is not None:
            told = self.pending.items()
            self.learned += [id_ for id_, mine in told if mine.outcome == "learned"]
        self.pending = None

    def finish(self, results: Any) -> None:
        self.noted.update(results)


class Forwarder:
    """Passes bytes between two sockets, keeps what it saw, and can be cut."""

    def __init__(self, port: int, host: str = "127.0.0.1", here: str = "127.0.0.1") -> None:
        self._host, self._port = host, port
        self.seen, self._open = bytearray(), list[socket.socket]()
        self._cut = False
        self._listener = socket.create_server((here, 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    if self._cut:
                        raise ConnectionResetError
                    far = socket.create_connection((self._host, self._port))
                except OSError:  # cut, or nobody is there now
                    near.close()
                    continue
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pass, args=ends))
                    self._threads[-1].start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        self._cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._cut = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._open):
            end.close()


class Network:
    """A matchmaker and its agents; a context manager."""

    def __init__(self, **changes: Any) -> None:
        self.harness = Harness(**changes)
        self.clock = MonotonicClock()
        self.harness.clock = self.clock.now  # type: ignore[assignment]
        self.refusals, self.stack, self.port = Refusals(), ExitStack(), 0
        self.start_matchmaker()

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()
        self.server.stop()

    def start_matchmaker(self) -> None:
        """Start a matchmaker on what the one before has saved."""
        harness = self.harness
        if self.port:  # a process that has ended writes nothing more
            self.service.stop()
        state = harness.saved
        harness.coordinator = harness._new()
        if state:
            harness.restart()
        me = identity(MATCHMAKER)
        self.service = MatchmakerService(harness.coordinator, me, self.clock)
        # The port of a server that has ended in this process is free a moment later.
        self.server = QUICK.retry(
            lambda: RpcServer(
                me,
                f"127.0.0.1:{self.port}",
                "Matchmaker",
                self.service.handlers(),
                num_threads=16,
                refusals=self.refusals,
            ),
            is_transient=lambda error: isinstance(error, UserError),
            clock=self.clock,
            rng=np.random.default_rng(0),
        )
        self.server.start()
        self.port = self.server.port

    def client(self, name: str) -> RpcClient:
        """Return a connection of a member to the matchmaker."""
        client = RpcClient(identity(name), f"127.0.0.1:{self.port}", MATCHMAKER, "Matchmaker")
        self.stack.callback(client.close)
        return client


class Agent:
    """One process of an agent, as a thread."""

    def __init__(
        self,
        network: "Network | Any",
        name: str,
        backend: ToyBackend | None = None,
        *,
        forwarded: bool = False,
        agreement: str = "alike",
        timeouts: AgentTimeouts = TIMEOUTS,
    ) -> None:
        self.name, self.backend = name, backend or ToyBackend(name)
        me, key, inbox = identity(name), SealingKey(), PackageInbox()
        self.refusals, self.key, self.inbox = Refusals(), key, inbox
        self.clock, self.stop = MonotonicClock(), threading.Event()
        self.server = RpcServer(
            me,
            "127.0.0.1:0",
            "Peer",
            PackageServer(me, key, inbox).handlers(),
            num_threads=4,
            refusals=self.refusals,
        )
        self.server.start()
        self.forwarder = Forwarder(self.server.port) if forwarded else None
        self.port = self.forwarder.port if self.forwarder else self.server.port
        self.error: BaseException | None = None
        rng = np.random.default_rng(0)
        self.client = network.client(name)
        self.loop = AgentLoop(
            me,
            self.backend,
            self.client,
            PackageSender(me, key, backoff=timeouts.student_retries, clock=self.clock, rng=rng),
            inbox,
            address=f"127.0.0.1:{self.port}",
            agreement=agreement,
            timeouts=timeouts,
            clock=self.clock,
            rng=rng,
            refusals=self.refusals,
        )
        self._threads = [
            threading.Thread(target=self._run, daemon=True),
            threading.Thread(target=self.loop.beat, args=(self.stop,), daemon=True),
        ]
        network.stack.callback(self.close)

    def start(self) -> "Agent":
        for thread in self._threads:
            thread.start()
        return self

    def _run(self) -> None:
        try:
            self.loop.run()
        except BaseException as error:
            self.error = error

    def join(self) -> None:
        self._threads[0].join(timeout=30.0)
        assert not self._threads[0].is_alive(), f"{self.name} is still at it"
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self.stop.set()
        self.clock.stop.set()
        if self._threads[1].ident is not None:
            self._threads[1].join()
        self.client.close()
        if self.forwarder:
            self.forwarder.close()
        self.server.stop()
