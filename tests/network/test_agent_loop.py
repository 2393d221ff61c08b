"""The agent's loop without sockets: checks of the matchmaker's certificate, and its ends."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from knexa.errors import UserError
from knexa.network import authority
from knexa.network.agent_loop import AgentLoop
from knexa.network.authority import MATCHMAKER
from knexa.network.identity import Identity
from knexa.network.matchmaker import MatchmakerService
from knexa.network.packages import PackageInbox, PackageSender
from knexa.network.refusals import Refusals, RefusedError
from knexa.network.reports import StudentReport
from knexa.network.sealing import SealingKey
from knexa.network.timing import MonotonicClock
from knexa.network.transport import RemoteRefusalError
from tests.network.rounds import Harness
from tests.network.small_network import TIMEOUTS, ToyBackend
from tests.network.trial import copy_of_certificates, identity


class AwayError(grpc.RpcError):
    """A call that failed in transport."""

    def code(self) -> Any:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "nobody is there"


class Wire:
    """A matchmaker as a client sees it; records its calls."""

    def __init__(self, me: Identity) -> None:
        self.harness, self.clock, self.asked = Harness(), MonotonicClock(), list[str]()
        self.before: Callable[[str], None] = lambda method: None
        self.become(me)

    def become(self, me: Identity) -> None:
        """Let a process with another certificate go on with the rounds."""
        self.service = MatchmakerService(self.harness.coordinator, me, self.clock)

    def call(self, method: str, request: Any, timeout_s: float) -> Any:
        self.asked.append(method)
        self.before(method)
        try:
            return self.service.handlers()[method]("a0", request)
        except RefusedError as error:
            raise RemoteRefusalError(str(error), already=False) from None


class Alone:
    """One agent, its certificates in a folder that the test may change."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_of_certificates(folder)
        self.wire, self.clock = Wire(identity(MATCHMAKER, self.folder)), MonotonicClock()
        self.backend, self.stop = ToyBackend("a0"), self.clock.stop

    def loop(self) -> AgentLoop:
        me, key, rng = identity("a0", self.folder), SealingKey(), np.random.default_rng(0)
        return AgentLoop(
            me,
            self.backend,
            self.wire,  # type: ignore[arg-type]
            PackageSender(me, key, backoff=TIMEOUTS.student_retries, clock=self.clock, rng=rng),
            PackageInbox(),
            address="127.0.0.1:1",
            agreement="alike",
            timeouts=TIMEOUTS,
            clock=self.clock,
            rng=rng,
            refusals=Refusals(),
        )

    def renew_the_matchmaker(self) -> None:
        """Revoke its certificate; a new process of it has a new one."""
        authority.revoke(self.folder, [MATCHMAKER])
        for kind in ("key", "pem"):
            (self.folder / f"{MATCHMAKER}.{kind}").unlink()
        authority.issue(self.folder, MATCHMAKER)
        self.wire.become(identity(MATCHMAKER, self.folder))

    def at(self, number: int, do: Callable[[], None]) -> None:
        """Let something happen before a question is answered."""

        def before(method: str) -> None:
            if self.wire.asked.count("Await") == number and method == "Await":
                do()

        self.wire.before = before


@pytest.fixture
def alone(tmp_path: Path) -> Alone:
    return Alone(tmp_path)


def away() -> None:
    raise AwayError


def test_a_matchmaker_that_is_revoked_is_left_at_the_next_call(alone: Alone) -> None:
    alone.at(1, lambda: authority.revoke(alone.folder, [MATCHMAKER]))
    with pytest.raises(UserError, match="matchmaker is refused: revoked"):
        alone.loop().run(alone.stop)
    assert "SubmitProfile" not in alone.wire.asked


def test_a_matchmaker_that_is_revoked_is_asked_for_its_certificate_before_a_beat(
    alone: Alone,
) -> None:
    loop, over = alone.loop(), threading.Event()
    loop._register()
    authority.revoke(alone.folder, [MATCHMAKER])
    loop.beat_every_s = 0.01

    def end(method: str) -> None:
        if alone.wire.asked.count("Register") == 3:
            over.set()

    alone.wire.before = end
    loop.beat(over)
    assert alone.wire.asked == ["Register", "Beat", "Register", "Beat", "Register"]


def test_a_matchmaker_with_a_new_certificate_is_gone_on_with(alone: Alone) -> None:
    alone.at(1, alone.renew_the_matchmaker)
    loop = alone.loop()
    loop._retry(loop._check_matchmaker)
    loop._step()
    assert alone.wire.asked == ["Register", "Await", "Beat", "Register", "SubmitProfile"]


def test_a_matchmaker_that_was_away_shows_itself_anew(alone: Alone) -> None:
    alone.at(1, away)
    loop = alone.loop()
    loop._retry(loop._check_matchmaker)
    loop._step()
    assert alone.wire.asked == ["Register", "Await", "Beat", "Register", "Await", "SubmitProfile"]


def test_an_own_list_that_is_just_being_copied_ends_nothing(
    alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, left = alone.loop(), [3]
    loop._retry(loop._check_matchmaker)
    check = Identity.check

    def cut(me: Identity, der: bytes) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise RefusedError("no list", "nobody is known not to be revoked")
        return check(me, der)

    monkeypatch.setattr(Identity, "check", cut)
    loop._step()
    assert alone.backend.prepared_round == 1


def test_a_process_that_was_cut_off_does_not_put_out_a_newer_one(alone: Alone) -> None:
    def replaced_meanwhile() -> None:
        alone.wire.harness.register("a0", incarnation="newer")
        raise AwayError

    alone.at(1, replaced_meanwhile)
    with pytest.raises(UserError, match="a newer process speaks for a0"):
        alone.loop().run(alone.stop)
    assert alone.wire.harness.coordinator.members["a0"].incarnation == "newer"


def test_what_was_learned_is_reported_after_a_restart_before_all_else(alone: Alone) -> None:
    alone.backend.pending = {"r1-0": StudentReport(outcome="learned", reward=0.1)}
    alone.wire.harness.register("a0")
    alone.wire.harness.coordinator.members["a0"].learned = ["r1-0"]
    alone.at(1, alone.stop.set)
    alone.loop().run(alone.stop)
    assert alone.wire.asked[:3] == ["Register", "SubmitFeedback", "Await"]
    assert (alone.backend.pending, alone.backend.learned) == (None, ["r1-0"])


def test_an_agent_that_is_told_to_stop_stops_while_the_matchmaker_is_away(alone: Alone) -> None:
    def stop_and_be_away() -> None:
        alone.stop.set()
        raise AwayError

    alone.at(1, stop_and_be_away)
    alone.loop().run(alone.stop)
    assert alone.wire.asked == ["Register", "Await"]
