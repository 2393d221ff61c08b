"""Attempts, waits and deadlines, on a clock that the test moves."""

import numpy as np
import pytest

from knexa.network.timing import Backoff, HeartbeatPolicy, Liveness


class FakeClock:
    def __init__(self) -> None:
        self.time, self.slept, self.has_ended = 0.0, list[float](), False

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.time += seconds
        return self.has_ended


class Failing:
    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.calls, self.error = times, 0, error

    def __call__(self) -> str:
        self.calls += 1
        self.left -= 1
        if self.left >= 0:
            raise self.error
        return "answer"


def retry(call: Failing, clock: FakeClock) -> str:
    return Backoff(first_s=1.0, largest_s=8.0, give_up_s=60.0).retry(
        call,
        is_transient=lambda error: isinstance(error, ConnectionError),
        clock=clock,
        rng=np.random.default_rng(0),
    )


def test_waits_grow_up_to_the_largest() -> None:
    clock = FakeClock()
    assert retry(Failing(5, ConnectionError()), clock) == "answer"
    due = np.array([1.0, 2.0, 4.0, 8.0, 8.0])
    assert (np.array(clock.slept) >= due / 2).all()
    assert (np.array(clock.slept) <= due).all()


def test_what_does_not_pass_is_not_tried_again() -> None:
    call, clock = Failing(9, ValueError("wrong")), FakeClock()
    with pytest.raises(ValueError, match="wrong"):
        retry(call, clock)
    assert call.calls == 1
    assert clock.slept == []


def test_no_attempt_begins_after_the_time_is_up() -> None:
    call, clock = Failing(10**6, ConnectionError("gone")), FakeClock()
    with pytest.raises(ConnectionError, match="gone"):
        retry(call, clock)
    assert 30.0 < clock.time <= 60.0


def test_no_attempt_begins_after_all_waiting_was_ended() -> None:
    call, clock = Failing(9, ConnectionError("gone")), FakeClock()
    clock.has_ended = True
    with pytest.raises(ConnectionError, match="gone"):
        retry(call, clock)
    assert call.calls == 1


def test_a_steady_member_is_missed_soon_and_an_unsteady_one_later() -> None:
    policy = HeartbeatPolicy(
        beat_every_s=2.0, num_deviations=8.0, min_intervals=2.0, max_intervals=30.0
    )
    liveness, rng = Liveness(policy), np.random.default_rng(0)
    now = {"steady": 0.0, "unsteady": 0.0}
    for name in now:
        liveness.arrive(name, 0.0)
        for _ in range(20):
            now[name] += 2.0 if name == "steady" else float(rng.uniform(1.0, 6.0))
            liveness.beat(name, now[name])
    assert liveness.deadline_s("steady") == 4.0
    assert liveness.deadline_s("unsteady") > 8.0
    assert liveness.is_alive("steady", now["steady"] + 4.0)
    assert not liveness.is_alive("steady", now["steady"] + 4.1)


def test_slow_beats_cannot_buy_endless_silence() -> None:
    liveness = Liveness(HeartbeatPolicy(beat_every_s=1.0, max_intervals=10.0))
    liveness.arrive("slow", 0.0)
    now = 0.0
    for step in range(40):
        now += 4.9 if step % 2 else 0.1
        liveness.beat("slow", now)
    assert liveness.deadline_s("slow") <= 10.0


def test_who_comes_back_is_there_anew() -> None:
    liveness = Liveness(HeartbeatPolicy(beat_every_s=1.0))
    assert not liveness.is_alive("a0", 0.0)
    liveness.arrive("a0", 0.0)
    for beat in range(1, 10):
        liveness.beat("a0", float(beat))
    assert not liveness.is_alive("a0", 100.0)
    liveness.beat("a0", 100.0)
    assert liveness.is_alive("a0", 110.0)
