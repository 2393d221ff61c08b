"""An agent's life: it asks the matchmaker what to do, does it, and says what came of it.

One thread works; another one says that the agent is there. Calls are retried, and all of them may
be repeated, so a restart of either side loses nothing that was said to be done.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import grpc
import numpy as np

from knexa.errors import UserError
from knexa.network import messages
from knexa.network.authority import MATCHMAKER
from knexa.network.errands import Answer
from knexa.network.identity import Identity
from knexa.network.matchmaker import check_welcome
from knexa.network.packages import Assignment, Courier, Inbox
from knexa.network.refusals import Refusals, RefusedError
from knexa.network.timing import Backoff, Clock
from knexa.network.transport import Client, RemoteRefusalError, is_passing
from knexa.network.work import Work

log = logging.getLogger(__name__)

T = TypeVar("T")

_CALL_S: Final = 15.0
_FOR_NOW: Final[frozenset[str]] = frozenset({"no list"})
"""Reasons to refuse that end by themselves, as when the list is written anew."""

_OUTCOMES: Final = {
    "learned": messages.Feedback.LEARNED,
    "lost": messages.Feedback.LOST,
    "refused": messages.Feedback.REFUSED,
}


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long an agent waits for what.

    Attributes:
        hold_s: How long the matchmaker may hold a question without news.
        poll_s: How long to look for a package before asking the matchmaker again.
        package_s: After so long without its package a directive is said to be lost.
        reach: How long to try to reach the matchmaker, e.g. while it restarts.
        courier: The same for a student; short, since the matchmaker is asked again in between.
    """

    hold_s: float = 10.0
    poll_s: float = 0.25
    package_s: float = 300.0
    reach: Backoff = Backoff(give_up_s=600.0)  # noqa: RUF009 - frozen
    courier: Backoff = Backoff(give_up_s=10.0)  # noqa: RUF009 - frozen


class AgentLoop:
    """One process of an agent.

    Args:
        identity: Who the agent is.
        work: What it does.
        matchmaker: Connected to the matchmaker.
        courier: Brings packages to students.
        inbox: Where packages arrive.
        address: Where peers reach this agent.
        agreement: See ``coordinator.Terms``.
        pace: How long to wait for what.
        clock: Real time.
        rng: Spreads retries.
        refusals: Where refusals are counted.
    """

    def __init__(
        self,
        identity: Identity,
        work: Work,
        matchmaker: Client,
        courier: Courier,
        inbox: Inbox,
        *,
        address: str,
        agreement: str,
        pace: Pace,
        clock: Clock,
        rng: np.random.Generator,
        refusals: Refusals,
    ) -> None:
        self._identity, self._work, self._matchmaker = identity, work, matchmaker
        self._courier, self._inbox, self._address = courier, inbox, address
        self._agreement, self._pace, self._clock, self._rng = agreement, pace, clock, rng
        self._refusals = refusals
        self._session = secrets.token_bytes(16)
        self._certificate: bytes | None = None
        self._is_connected = False
        self._sent: set[tuple[str, int]] = set()
        self._since: dict[str, float] = {}
        self.beat_every_s = 1.0

    def run(self, stop: threading.Event | None = None) -> None:
        """Take part until the last round is over, or ``stop`` is set.

        Raises:
            UserError: The matchmaker cannot be reached, will not have this agent, or has no
                certificate that holds.
        """
        try:
            self._retry(self._check_matchmaker)
            pending = self._work.pending
            if pending is not None:  # the process before this one ended without the verdict
                self._settle(*pending)
            while not (stop is not None and stop.is_set()) and not self._step():
                pass
        except RemoteRefusalError as error:
            raise UserError(f"the matchmaker refuses {self._identity.name}: {error}") from None
        except RefusedError as error:
            raise UserError(f"the matchmaker's certificate is refused: {error}") from None
        except grpc.RpcError as error:
            if stop is not None and stop.is_set():
                return
            raise UserError(
                f"the matchmaker cannot be reached, or has no valid certificate: "
                f"{str(error.details())[:200]}"
            ) from None

    def beat(self, stop: threading.Event) -> None:
        """Say that the agent is there until ``stop`` is set; a beat that fails is left out."""
        while not stop.wait(self.beat_every_s):
            if self._certificate is None:
                continue  # not registered yet
            try:
                self._try("Beat", self._heartbeat(), max(self.beat_every_s, 1.0))
            except (grpc.RpcError, RemoteRefusalError, RefusedError) as error:
                log.debug("a heartbeat failed: %s", error)

    def _heartbeat(self) -> Any:
        return messages.Heartbeat(session=self._session)

    def _check_matchmaker(self) -> None:
        """Check the matchmaker's certificate; register where it is not known to be the one in use.

        That is so at first, after a connection was lost, and where the certificate does not hold
        any more, since it may have been renewed.
        """
        if self._is_connected and self._holds(self._certificate):
            return
        if self._certificate is not None:
            # Registering would put out a newer process of this agent; a heartbeat is refused.
            self._matchmaker.call("Beat", self._heartbeat(), _CALL_S)
        self._register()

    def _holds(self, certificate: bytes | None) -> bool:
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
                session=self._session,
                agreement=self._agreement,
                nonce=nonce,
                profile=self._work.first_profile(),
            ),
            _CALL_S,
        )
        check_welcome(self._identity, welcome, nonce)
        self._certificate, self._is_connected = welcome.certificate, True
        self.beat_every_s = min(max(welcome.beat_every_s, 0.05), 60.0)
        log.info("registered with %s; %d rounds", MATCHMAKER, welcome.num_rounds)

    def _step(self) -> bool:
        """Do what is asked for now; return whether the federation is done."""
        order = self._ask(self._pace.hold_s)
        results = {
            r.directive_id: {"reward": r.reward, "items_kept": r.items_kept} for r in order.results
        }
        if order.kind == messages.Order.PREPARE:
            features, noted = self._work.prepare(order.round, results)
            profile = messages.Profile(
                session=self._session, round=order.round, features=features, noted=noted
            )
            self._call("SubmitProfile", profile)
            log.info("round %d: updated", order.round)
        elif order.kind == messages.Order.EXCHANGE:
            self._exchange([Assignment.of(directive) for directive in order.directives])
        elif order.kind == messages.Order.FINISHED:
            self._work.finish(results)
            return True
        return False

    def _ask(self, wait_s: float) -> Any:
        status = messages.Status(
            session=self._session,
            prepared_round=self._work.prepared_round,
            received=self._received(),
            wait_s=wait_s,
        )
        return self._call("Await", status)

    def _received(self) -> list[str]:
        """Return the directives whose package is here."""
        return sorted(id_ for id_ in self._since if self._inbox.take(id_, 0.0) is not None)

    def _exchange(self, assignments: Sequence[Assignment]) -> None:
        """Teach first: the package is made from the state before learning, whoever learns."""
        name = self._identity.name
        learning = [a for a in assignments if a.student == name]
        self._inbox.keep_only({a.id for a in learning})
        self._since = {a.id: self._since.get(a.id, self._clock.now()) for a in learning}
        for assignment in learning:
            self._inbox.expect(assignment)
        for assignment in assignments:
            sent = (assignment.id, assignment.attempt) in self._sent
            if assignment.teacher == name and not sent:
                self._teach(assignment)
        for assignment in learning:
            self._learn(assignment)
        if not learning:
            self._clock.sleep(self._pace.poll_s)

    def _teach(self, assignment: Assignment) -> None:
        try:
            self._courier.deliver(assignment, self._work.teach(assignment))
        except RefusedError as refused:
            self._refusals.count(refused, assignment.student)
            if refused.reason in _FOR_NOW:
                return
        except RemoteRefusalError as error:
            log.warning("%s refuses a package: %s", assignment.student, error)
        except grpc.RpcError as error:
            # The matchmaker says whether to try again: the directive may be given up by then.
            log.warning("%s is not reached: %s", assignment.student, str(error.details())[:200])
            return
        self._sent.add((assignment.id, assignment.attempt))

    def _learn(self, assignment: Assignment) -> None:
        """Learn where the package is here, and report; else look again after the next question."""
        id_ = assignment.id
        package = self._inbox.take(id_, self._pace.poll_s)
        if package is not None:
            self._ask(0.0)  # tells that the package has come, before learning takes its time
            answer = self._work.learn(assignment, package)
        elif self._clock.now() - self._since[id_] > self._pace.package_s:
            answer = Answer(outcome="lost")
        else:
            return
        self._settle(id_, answer)
        del self._since[id_]

    def _settle(self, id_: str, answer: Answer) -> None:
        """Report, and keep what was learned where it counts."""
        feedback = messages.Feedback(
            session=self._session,
            directive_id=id_,
            outcome=_OUTCOMES[answer.outcome],
            reward=answer.reward,
            kilobytes=answer.kilobytes,
            items_sent=answer.items_sent,
            items_kept=answer.items_kept,
            guardrail=answer.guardrail,
        )
        self._work.settle(id_, counts=self._report(feedback))

    def _report(self, feedback: Any) -> bool:
        """Tell the matchmaker; return whether the lesson counts."""
        try:
            return bool(self._call("SubmitFeedback", feedback).counts)
        except RemoteRefusalError as error:
            # Such as a reward beyond all bounds, of a training that diverged: it must not count.
            log.warning("the matchmaker refuses feedback: %s", error)
            refused = messages.Feedback(
                session=self._session,
                directive_id=feedback.directive_id,
                outcome=messages.Feedback.REFUSED,
            )
            self._call("SubmitFeedback", refused)
            return False

    def _call(self, method: str, request: Any) -> Any:
        timeout_s = _CALL_S + (request.wait_s if method == "Await" else 0.0)
        return self._retry(lambda: self._try(method, request, timeout_s))

    def _try(self, method: str, request: Any, timeout_s: float) -> Any:
        """Make one attempt; where it fails, somebody else may answer the next."""
        self._check_matchmaker()
        try:
            return self._matchmaker.call(method, request, timeout_s)
        except grpc.RpcError:
            self._is_connected = False
            raise

    def _retry(self, call: Callable[[], T]) -> T:
        return self._pace.reach.retry(call, passing=_may_pass, clock=self._clock, rng=self._rng)


def _may_pass(error: Exception) -> bool:
    return is_passing(error) or (isinstance(error, RefusedError) and error.reason in _FOR_NOW)
