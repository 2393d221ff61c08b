"""The matchmaker's gRPC service: converts messages and serialises calls to the coordinator."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from knexa.network import messages
from knexa.network.assignments import Assignment, Order
from knexa.network.authority import MATCHMAKER
from knexa.network.coordinator import Coordinator
from knexa.network.identity import Identity
from knexa.network.refusals import RefusedError
from knexa.network.reports import read_report
from knexa.network.timing import Clock
from knexa.network.transport import Handler, NotYetError

log = logging.getLogger(__name__)

_MAX_HOLD_S: Final = 20.0
_WELCOME: Final = b"knexa welcome v1\0"
_KINDS: Final = {
    "wait": messages.Order.WAIT,
    "prepare": messages.Order.PREPARE,
    "exchange": messages.Order.EXCHANGE,
    "finished": messages.Order.FINISHED,
}


class MatchmakerService:
    """The service ``Matchmaker``, called by agents.

    Attributes:
        failed: The error that ended the service, such as a full disk; ``tick`` raises it, and
            callers are told to try again.
    """

    def __init__(self, coordinator: Coordinator, identity: Identity, clock: Clock) -> None:
        self._coordinator, self._identity, self._clock = coordinator, identity, clock
        self._changed = threading.Condition()
        self._is_stopped = False
        self.failed: BaseException | None = None

    def handlers(self) -> dict[str, Handler]:
        """Return the methods of the service ``Matchmaker``."""
        calls = {
            "Register": self._register,
            "Await": self._await,
            "SubmitProfile": self._submit_profile,
            "SubmitFeedback": self._submit_feedback,
            "Beat": self._beat,
        }
        return {name: self._locked(call) for name, call in calls.items()}

    def tick(self) -> bool:
        """Advance the rounds as far as time allows; return whether the federation is done."""
        with self._changed:
            if self.failed is not None:
                raise self.failed
            with self._running():
                if self._coordinator.tick():
                    self._changed.notify_all()
                return self._coordinator.is_over

    def stop(self) -> None:
        """Answer no more calls: present and later callers are told to try again."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Guard what changes the rounds; an unexpected error ends the service."""
        self._check_running()
        try:
            yield
        except (RefusedError, NotYetError):
            raise
        except BaseException as error:
            # The rounds may be ahead of the disk: a restart goes on from the checkpoint.
            self.failed = error
            raise

    def _check_running(self) -> None:
        if self._is_stopped or self.failed is not None:
            raise NotYetError("the matchmaker stops")

    def _locked(self, call: Handler) -> Handler:
        def answer(name: str, request: Any) -> Any:
            with self._changed:
                try:
                    with self._running():
                        return call(name, request)
                except BaseException as error:
                    if error is not self.failed:
                        raise
                    raise NotYetError("the matchmaker stops") from error  # tick() raises it
                finally:
                    self._changed.notify_all()

        return answer

    def _register(self, name: str, request: Any) -> Any:
        if request.protocol_version != messages.PROTOCOL_VERSION:
            raise RefusedError(
                "disagreement",
                f"version {request.protocol_version}, spoken here is {messages.PROTOCOL_VERSION}",
            )
        if request.name != name:
            raise RefusedError("identity", f"{name} registers as {request.name!r:.40}")
        self._coordinator.register(
            name,
            address=request.address,
            incarnation=request.incarnation.hex(),
            agreement=request.agreement,
            profile=list(request.profile),
        )
        return messages.Welcome(
            certificate=self._identity.certificate_der,
            signature=self._identity.sign(_WELCOME + request.nonce),
            beat_every_s=self._coordinator.config.heartbeat_policy.beat_every_s,
            num_rounds=self._coordinator.config.num_rounds,
        )

    def _await(self, name: str, request: Any) -> Any:
        given = name, request.incarnation.hex(), request.prepared_round, list(request.received)
        end = self._clock.now() + min(max(request.wait_s, 0.0), _MAX_HOLD_S)
        order = self._coordinator.order(*given)
        while order.kind == "wait" and (left := end - self._clock.now()) > 0:
            self._changed.wait(left)
            self._check_running()
            order = self._coordinator.order(*given)
        return self._message(order)

    def _submit_profile(self, name: str, request: Any) -> Any:
        self._coordinator.submit_profile(
            name,
            request.incarnation.hex(),
            request.round,
            list(request.features),
            list(request.noted),
            list(request.missing),
        )
        return messages.Receipt()

    def _submit_feedback(self, name: str, request: Any) -> Any:
        reports = {report.directive_id: read_report(report) for report in request.reports}
        if len(reports) < len(request.reports):
            raise RefusedError("feedback", "it reports of a directive twice")
        counts = self._coordinator.submit_feedback(name, request.incarnation.hex(), reports)
        return messages.Verdict(counts=counts)

    def _beat(self, name: str, request: Any) -> Any:
        self._coordinator.beat(name, request.incarnation.hex())
        return messages.Receipt()

    def _message(self, order: Order) -> Any:
        return messages.Order(
            kind=_KINDS[order.kind],
            round=order.round,
            directives=[self._directive(assignment) for assignment in order.assignments],
            results=[
                messages.Result(directive_id=id_, **result) for id_, result in order.results.items()
            ],
        )

    def _directive(self, assignment: Assignment) -> Any:
        return messages.Directive(
            id=assignment.directive.id,
            teacher=assignment.teacher,
            student=assignment.student,
            address=self._coordinator.members[assignment.student].address,
            protocol=assignment.directive.protocol,
            round=assignment.round,
            attempt=assignment.attempt,
            topics=assignment.directive.topics or (),
            missing=assignment.missing or (),
        )


def check_welcome(reader: Identity, welcome: Any, nonce: bytes) -> None:
    """Check that the matchmaker signed the nonce with a certificate that is not revoked.

    TLS has checked name and authority, but not the revocation list.

    Raises:
        RefusedError: It did not.
    """
    reader.check_signature(welcome.certificate, MATCHMAKER, welcome.signature, _WELCOME + nonce)
