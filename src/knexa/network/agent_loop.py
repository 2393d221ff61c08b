"""The main loop of an agent's process: ask the matchmaker for orders, carry them out, report.

One thread works; another sends heartbeats. Every call is retried and may be repeated, so a restart
of either side loses nothing that was acknowledged.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import numpy as np

from knexa.errors import UserError
from knexa.network import messages
from knexa.network.agent_backend import AgentBackend
from knexa.network.authority import MATCHMAKER
from knexa.network.identity import Identity
from knexa.network.matchmaker import check_welcome
from knexa.network.packages import NamedDirective, PackageInbox, PackageSender
from knexa.network.refusals import Refusals, RefusedError, printable
from knexa.network.reports import StudentReport, report_message
from knexa.network.timing import Backoff, Clock
from knexa.network.transport import RemoteRefusalError, RpcClient, is_transient

log = logging.getLogger(__name__)

T = TypeVar("T")

_CALL_S: Final = 15.0
_TEMPORARY: Final[frozenset[str]] = frozenset({"no list"})
"""Refusals worth a retry: they end once the revocation list is renewed."""


@dataclass(frozen=True, kw_only=True)
class AgentTimeouts:
    """Timeouts and retries of an agent.

    Attributes:
        hold_s: How long the matchmaker may hold a request for orders (long polling).
        poll_s: How long to wait for a package before asking the matchmaker again.
        package_s: Time after which a directive without a package is reported as lost.
        matchmaker_retries: How long to retry calls to the matchmaker, e.g. while it restarts.
        student_retries: The same for a student; short, since the directive may be given up.
    """

    hold_s: float = 10.0
    poll_s: float = 0.25
    package_s: float = 300.0
    matchmaker_retries: Backoff = Backoff(give_up_s=600.0)  # noqa: RUF009 - frozen
    student_retries: Backoff = Backoff(give_up_s=10.0)  # noqa: RUF009 - frozen


class AgentLoop:
    """One process of an agent.

    Args:
        identity: The agent's certificate and key.
        backend: Carries out the steps of a round.
        matchmaker: A client connected to the matchmaker.
        sender: Sends packages to students.
        inbox: Where packages arrive.
        address: Where peers reach this agent.
        agreement: See ``CoordinatorConfig``.
        timeouts: Timeouts and retries.
        clock: A monotonic clock.
        rng: Jitter of the retries.
        refusals: Counts refusals.
    """

    def __init__(
        self,
        identity: Identity,
        backend: AgentBackend,
        matchmaker: RpcClient,
        sender: PackageSender,
        inbox: PackageInbox,
        *,
        address: str,
        agreement: str,
        timeouts: AgentTimeouts,
        clock: Clock,
        rng: np.random.Generator,
        refusals: Refusals,
    ) -> None:
        self._identity, self._backend, self._matchmaker = identity, backend, matchmaker
        self._sender, self._inbox, self._address = sender, inbox, address
        self._agreement, self._timeouts, self._clock, self._rng = agreement, timeouts, clock, rng
        self._refusals = refusals
        self._incarnation = secrets.token_bytes(16)
        self._certificate: bytes | None = None
        self._is_connected = False
        self._sent: set[tuple[str, int]] = set()
        self._since: dict[str, float] = {}
        self.beat_every_s = 1.0

    def run(self, stop: threading.Event | None = None) -> None:
        """Take part until the last round is over, or ``stop`` is set.

        Raises:
            UserError: The matchmaker cannot be reached, refuses this agent, or has no valid
                certificate.
        """
        try:
            self._retry(self._check_matchmaker)
            pending = self._backend.pending
            if pending is not None:  # the previous process ended before it got the verdict
                self._settle(pending)
            while not (stop is not None and stop.is_set()) and not self._step():
                pass
        except RemoteRefusalError as error:
            raise UserError(f"the matchmaker refuses {self._identity.name}: {error}") from None
        except RefusedError as error:
            raise UserError(f"the matchmaker is refused: {error}") from None
        except grpc.RpcError as error:
            if stop is not None and stop.is_set():
                return
            raise UserError(
                f"the matchmaker cannot be reached, or has no valid certificate: "
                f"{printable(error.details())}"
            ) from None

    def beat(self, stop: threading.Event) -> None:
        """Send heartbeats until ``stop`` is set; one that fails is skipped."""
        while not stop.wait(self.beat_every_s):
            if self._certificate is None:
                continue  # not registered yet
            try:
                self._try("Beat", self._heartbeat(), max(self.beat_every_s, 1.0))
            except (grpc.RpcError, RemoteRefusalError, RefusedError) as error:
                log.debug("a heartbeat failed: %s", error)

    def _heartbeat(self) -> Any:
        return messages.Heartbeat(incarnation=self._incarnation)

    def _check_matchmaker(self) -> None:
        """Check that the connection's certificate is valid; register anew where that is unknown.

        It is unknown at first, after a lost connection, and when the certificate has expired or
        was revoked, since it may have been renewed.
        """
        if self._is_connected and self._is_valid(self._certificate):
            return
        if self._certificate is not None:
            # Registering would displace a newer process of this agent; a heartbeat is refused.
            self._matchmaker.call("Beat", self._heartbeat(), _CALL_S)
        self._register()

    def _is_valid(self, certificate: bytes | None) -> bool:
        try:
            self._identity.check(certificate or b"")
        except RefusedError:
            return False
        return True

    def _register(self) -> None:
        nonce = secrets.token_bytes(32)
        welcome = self._matchmaker.call(
            "Register",
            messages.Registration(
                protocol_version=messages.PROTOCOL_VERSION,
                name=self._identity.name,
                address=self._address,
                incarnation=self._incarnation,
                agreement=self._agreement,
                nonce=nonce,
                profile=self._backend.first_profile(),
            ),
            _CALL_S,
        )
        check_welcome(self._identity, welcome, nonce)
        self._certificate, self._is_connected = welcome.certificate, True
        self.beat_every_s = min(max(welcome.beat_every_s, 0.05), 60.0)
        log.info("registered with %s; %d rounds", MATCHMAKER, welcome.num_rounds)

    def _step(self) -> bool:
        """Carry out one order; return whether the federation is done."""
        order = self._ask(self._timeouts.hold_s)
        results = {
            r.directive_id: {"reward": r.reward, "items_kept": r.items_kept} for r in order.results
        }
        if order.kind == messages.Order.PREPARE:
            features, noted = self._backend.prepare(order.round, results)
            profile = messages.Profile(
                incarnation=self._incarnation,
                round=order.round,
                features=features,
                noted=noted,
                missing=self._backend.missing,
            )
            self._call("SubmitProfile", profile)
            log.info("round %d: updated", order.round)
        elif order.kind == messages.Order.EXCHANGE:
            self._exchange([NamedDirective.of(directive) for directive in order.directives])
        elif order.kind == messages.Order.FINISHED:
            self._backend.finish(results)
            return True
        return False

    def _ask(self, wait_s: float) -> Any:
        status = messages.Status(
            incarnation=self._incarnation,
            prepared_round=self._backend.prepared_round,
            received=self._received(),
            wait_s=wait_s,
        )
        return self._call("Await", status)

    def _received(self) -> list[str]:
        """Return the directives whose package has arrived."""
        return sorted(self._inbox.arrived(self._since))

    def _exchange(self, directives: Sequence[NamedDirective]) -> None:
        """Carry out the directives; teaching first, from the state before learning."""
        name = self._identity.name
        learning = [d for d in directives if d.student == name]
        self._inbox.keep_only({d.id for d in learning})
        self._since = {d.id: self._since.get(d.id, self._clock.now()) for d in learning}
        for directive in learning:
            self._inbox.expect(directive)
        sent = self._sent
        teaching = [d for d in directives if d.teacher == name and (d.id, d.attempt) not in sent]
        if teaching:
            self._teach(teaching)
        if learning:
            self._learn(learning)
        else:
            self._clock.sleep(self._timeouts.poll_s)

    def _teach(self, directives: Sequence[NamedDirective]) -> None:
        """Send the packages; who is not reached is tried again with the next order."""
        packages, away = self._backend.teach(directives), set[str]()
        for directive in directives:
            if directive.student in away:
                continue
            if directive.student == self._identity.name:
                self._inbox.put(directive.id, directive.teacher, packages[directive.id])
            elif not self._deliver(directive, packages[directive.id]):
                away.add(directive.student)
                continue
            self._sent.add((directive.id, directive.attempt))

    def _deliver(self, directive: NamedDirective, package: bytes) -> bool:
        """Send a package; return whether it arrived or was refused for good."""
        student = directive.student
        try:
            self._sender.deliver(directive, package)
        except RefusedError as refused:
            self._refusals.count(refused, student)
            return refused.reason not in _TEMPORARY
        except RemoteRefusalError as error:
            self._refusals.warn(student, "%s refuses a package: %s", student, error)
        except grpc.RpcError as error:
            # The next order says whether the directive is still open.
            self._refusals.warn(student, "%s is not reached: %s", student, error.details())
            return False
        return True

    def _learn(self, directives: Sequence[NamedDirective]) -> None:
        """Learn from all packages and report, once all are there or were waited for long enough."""
        packages = self._inbox.arrived(self._since, self._timeouts.poll_s)
        begun = [begun for id_, begun in self._since.items() if id_ not in packages]
        if begun and self._clock.now() - min(begun) <= self._timeouts.package_s:
            return  # try again with the next order
        # Learning takes long: the matchmaker is told what arrived, and tells what is still open.
        still_open = {directive.id for directive in self._ask(0.0).directives}
        directives = [directive for directive in directives if directive.id in still_open]
        if directives:
            self._settle(self._backend.learn(directives, packages))

    def _settle(self, reports: Mapping[str, StudentReport]) -> None:
        """Send the reports; adopt what was learned if it counts, else discard it."""
        self._backend.settle(counts=self._report(reports))

    def _report(self, reports: Mapping[str, StudentReport]) -> bool:
        """Send feedback to the matchmaker; return whether it counts."""
        try:
            return bool(self._call("SubmitFeedback", self._feedback(reports)).counts)
        except RemoteRefusalError as error:
            # E.g. an unbounded reward of a training that diverged: it must not count.
            log.warning("the matchmaker refuses feedback: %s", error)
            refused = dict.fromkeys(reports, StudentReport(outcome="refused"))
            self._call("SubmitFeedback", self._feedback(refused))
            return False

    def _feedback(self, reports: Mapping[str, StudentReport]) -> Any:
        told = [report_message(id_, report) for id_, report in reports.items()]
        return messages.Feedback(incarnation=self._incarnation, reports=told)

    def _call(self, method: str, request: Any) -> Any:
        timeout_s = _CALL_S + (request.wait_s if method == "Await" else 0.0)
        return self._retry(lambda: self._try(method, request, timeout_s))

    def _try(self, method: str, request: Any, timeout_s: float) -> Any:
        """Make one attempt; after a failure the next one checks the certificate again."""
        self._check_matchmaker()
        try:
            return self._matchmaker.call(method, request, timeout_s)
        except grpc.RpcError:
            self._is_connected = False
            raise

    def _retry(self, call: Callable[[], T]) -> T:
        """Retry a call to the matchmaker; the first failure is logged."""
        retries, has_failed = self._timeouts.matchmaker_retries, False

        def is_temporary(error: Exception) -> bool:
            nonlocal has_failed
            if is_transient(error):
                what = error.details() if isinstance(error, grpc.RpcError) else error
            elif isinstance(error, RefusedError) and error.reason in _TEMPORARY:
                what = error
            else:
                return False
            if not has_failed:
                has_failed = True
                log.warning(
                    "%s does not answer (%s): trying again for %g s",
                    MATCHMAKER,
                    printable(what, 120),
                    retries.give_up_s,
                )
            return True

        return retries.retry(call, is_transient=is_temporary, clock=self._clock, rng=self._rng)
