"""The matchmaker as a service: messages in, messages out, one lock around the rounds."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from knexa.network import messages
from knexa.network.authority import MATCHMAKER
from knexa.network.coordinator import Coordinator
from knexa.network.errands import Answer, Errand, Todo
from knexa.network.identity import Identity
from knexa.network.refusals import RefusedError
from knexa.network.timing import Clock
from knexa.network.transport import Handler, NotYetError

log = logging.getLogger(__name__)

_MOST_HELD_S: Final = 20.0
_WELCOME: Final = b"knexa welcome v1\0"
_KINDS: Final = {
    "wait": messages.Order.WAIT,
    "prepare": messages.Order.PREPARE,
    "exchange": messages.Order.EXCHANGE,
    "finished": messages.Order.FINISHED,
}
_OUTCOMES: Final = {
    messages.Feedback.LEARNED: "learned",
    messages.Feedback.LOST: "lost",
    messages.Feedback.REFUSED: "refused",
}


class MatchmakerService:
    """What the matchmaker serves to agents.

    Attributes:
        failed: The error after which nothing may go on, such as a disk that is full.
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
        """Do what time has made due; return whether the federation is done."""
        with self._changed, self._going_on():
            if self._coordinator.tick():
                self._changed.notify_all()
            return self._coordinator.is_over

    def stop(self) -> None:
        """Decide nothing more: whoever asks, or waits for an answer, is told to try again."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Do something to the rounds, unless they have ended here."""
        self._check_going_on()
        try:
            yield
        except (RefusedError, NotYetError):
            raise
        except BaseException as error:
            # The rounds may be ahead of the disk: a restart goes on from what it holds.
            self.failed = error
            raise

    def _check_going_on(self) -> None:
        if self.failed is not None:
            raise self.failed
        if self._is_stopped:
            raise NotYetError("the matchmaker stops")

    def _locked(self, call: Handler) -> Handler:
        def answer(name: str, request: Any) -> Any:
            with self._changed:
                try:
                    with self._going_on():
                        return call(name, request)
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
            session=request.session.hex(),
            agreement=request.agreement,
            profile=list(request.profile),
        )
        return messages.Welcome(
            certificate=self._identity.certificate_der,
            signature=self._identity.sign(_WELCOME + request.nonce),
            beat_every_s=self._coordinator.terms.patience.beat_every_s,
            num_rounds=self._coordinator.terms.num_rounds,
        )

    def _await(self, name: str, request: Any) -> Any:
        given = name, request.session.hex(), request.prepared_round, list(request.received)
        end = self._clock.now() + min(max(request.wait_s, 0.0), _MOST_HELD_S)
        todo = self._coordinator.order(*given)
        while todo.kind == "wait" and (left := end - self._clock.now()) > 0:
            self._changed.wait(left)
            self._check_going_on()
            todo = self._coordinator.order(*given)
        return self._message(todo)

    def _submit_profile(self, name: str, request: Any) -> Any:
        self._coordinator.submit_profile(
            name,
            request.session.hex(),
            request.round,
            list(request.features),
            list(request.noted),
        )
        return messages.Receipt()

    def _submit_feedback(self, name: str, request: Any) -> Any:
        if request.outcome not in _OUTCOMES:
            raise RefusedError("feedback", f"there is no outcome {request.outcome}")
        answer = Answer(
            outcome=_OUTCOMES[request.outcome],
            reward=request.reward,
            kilobytes=request.kilobytes,
            items_sent=request.items_sent,
            items_kept=request.items_kept,
            guardrail=dict(request.guardrail),
        )
        counts = self._coordinator.submit_feedback(
            name, request.session.hex(), request.directive_id, answer
        )
        return messages.Verdict(counts=counts)

    def _beat(self, name: str, request: Any) -> Any:
        self._coordinator.beat(name, request.session.hex())
        return messages.Receipt()

    def _message(self, todo: Todo) -> Any:
        return messages.Order(
            kind=_KINDS[todo.kind],
            round=todo.round,
            directives=[self._directive(errand) for errand in todo.errands],
            results=[
                messages.Result(directive_id=id_, **result) for id_, result in todo.results.items()
            ],
        )

    def _directive(self, errand: Errand) -> Any:
        return messages.Directive(
            id=errand.directive.id,
            teacher=errand.teacher,
            student=errand.student,
            address=self._coordinator.members[errand.student].address,
            protocol=errand.directive.protocol,
            round=errand.round,
            attempt=errand.attempt,
        )


def check_welcome(reader: Identity, welcome: Any, nonce: bytes) -> None:
    """Check that the matchmaker itself has answered, with a certificate that still holds.

    TLS has checked its name and authority; that it was not revoked, only this tells.

    Raises:
        RefusedError: It has not.
    """
    reader.check_signature(welcome.certificate, MATCHMAKER, welcome.signature, _WELCOME + nonce)
