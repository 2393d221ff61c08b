"""Retries with backoff, and heartbeat timeouts that say which members are alive.

Everything takes its clock as an argument, so tests need not wait.
"""

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Clock(Protocol):
    """A monotonic clock that can wait."""

    def now(self) -> float:
        """Return seconds since an arbitrary moment."""

    def sleep(self, seconds: float) -> bool:
        """Wait that long; return True at once where the process has been told to stop."""


class MonotonicClock:
    """The machine's monotonic clock; setting ``stop`` ends every present and later ``sleep``."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def now(self) -> float:
        """Return seconds since an arbitrary moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> bool:
        """Wait that long, or until ``stop`` is set; return whether it is."""
        return self.stop.wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential backoff with random jitter.

    Attributes:
        first_s: Wait before the second attempt.
        factor: Ratio of each wait to the one before.
        largest_s: The longest wait.
        give_up_s: Time after which no further attempt is made.
    """

    first_s: float = 0.2
    factor: float = 2.0
    largest_s: float = 10.0
    give_up_s: float = 60.0

    def retry(
        self,
        call: Callable[[], T],
        *,
        is_transient: Callable[[Exception], bool],
        clock: Clock,
        rng: np.random.Generator,
    ) -> T:
        """Return what the call returns, trying again after errors that are transient.

        Each wait is drawn from the upper half of the current backoff, so that many callers who
        lost the same peer do not retry together. The last error is raised when time is up or the
        clock was stopped.
        """
        begin, wait_s = clock.now(), self.first_s
        while True:
            try:
                return call()
            except Exception as error:
                pause_s = wait_s * float(rng.uniform(0.5, 1.0))
                if not is_transient(error) or clock.now() - begin + pause_s > self.give_up_s:
                    raise
                if clock.sleep(pause_s):
                    raise
                wait_s = min(wait_s * self.factor, self.largest_s)


@dataclass(frozen=True, kw_only=True)
class HeartbeatPolicy:
    """How long a member may be silent before it is taken for dead.

    Attributes:
        beat_every_s: Interval of the heartbeats.
        num_deviations: k of the timeout, median + k MAD of the member's own recent intervals, so
            that a member on a slow connection is given more time.
        min_intervals: Lower bound of the timeout, in intervals of ``beat_every_s``.
        max_intervals: Upper bound of the timeout, in the same unit.
    """

    beat_every_s: float = 2.0
    num_deviations: float = 8.0
    min_intervals: float = 4.0
    max_intervals: float = 30.0


class Liveness:
    """When each member was last heard from, and when it is taken for dead."""

    _NUM_KEPT, _NUM_NEEDED = 32, 5

    def __init__(self, policy: HeartbeatPolicy) -> None:
        self.policy = policy
        self._last: dict[str, float] = {}
        self._intervals: dict[str, deque[float]] = {}

    def arrive(self, name: str, now: float) -> None:
        """Note that a member has (re)appeared; its earlier heartbeat intervals are forgotten."""
        self._last[name], self._intervals[name] = now, deque(maxlen=self._NUM_KEPT)

    def beat(self, name: str, now: float) -> None:
        """Note a heartbeat; a member that was taken for dead arrives anew."""
        if not self.is_alive(name, now):
            self.arrive(name, now)
            return
        self._intervals[name].append(now - self._last[name])
        self._last[name] = now

    def deadline_s(self, name: str) -> float:
        """Return the member's heartbeat timeout."""
        policy, intervals = self.policy, self._intervals[name]
        shortest = policy.min_intervals * policy.beat_every_s
        longest = policy.max_intervals * policy.beat_every_s
        if len(intervals) < self._NUM_NEEDED:
            return longest / 2  # too few intervals for a median
        median = statistics.median(intervals)
        deviation = statistics.median(abs(value - median) for value in intervals)
        return min(max(median + policy.num_deviations * deviation, shortest), longest)

    def is_alive(self, name: str, now: float) -> bool:
        """Return whether the member was heard from within its timeout."""
        return name in self._last and now - self._last[name] <= self.deadline_s(name)
