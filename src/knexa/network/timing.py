"""Real time, and what is decided by it: when to try again, and who is still there.

Everything takes its clock as an argument, so tests let hours pass without waiting.
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
        """Return seconds since some moment."""

    def sleep(self, seconds: float) -> bool:
        """Wait; return whether all waiting has been ended, so that there is no more to wait for."""


class MonotonicClock:
    """The machine's; ``stop`` ends all waiting, now and later."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def now(self) -> float:
        """Return seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> bool:
        """Wait that long, or until ``stop`` is set; return whether it is."""
        return self.stop.wait(seconds)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait between attempts: longer every time, and never all at once.

    Attributes:
        first_s: Before the second attempt.
        factor: By which each wait exceeds the one before.
        largest_s: The longest wait.
        give_up_s: After so long no attempt is begun.
    """

    first_s: float = 0.2
    factor: float = 2.0
    largest_s: float = 10.0
    give_up_s: float = 60.0

    def retry(
        self,
        call: Callable[[], T],
        *,
        passing: Callable[[Exception], bool],
        clock: Clock,
        rng: np.random.Generator,
    ) -> T:
        """Return what the call returns, trying again where what it raised may pass.

        Each wait is drawn from the upper half of what is due, so that many who lost the same peer
        do not come back as one. The last error is raised where time is up or all waiting ended.
        """
        begin, wait_s = clock.now(), self.first_s
        while True:
            try:
                return call()
            except Exception as error:
                pause_s = wait_s * float(rng.uniform(0.5, 1.0))
                if not passing(error) or clock.now() - begin + pause_s > self.give_up_s:
                    raise
                if clock.sleep(pause_s):
                    raise
                wait_s = min(wait_s * self.factor, self.largest_s)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a member may be silent before it counts as gone.

    Attributes:
        beat_every_s: How often members say that they are there.
        spread: k of the deadline, median + k MAD of the member's own intervals: who is on a bad
            line is given more time.
        least: Smallest deadline, in intervals of ``beat_every_s``.
        most: Largest, so that nobody can be silent for ever by having been slow.
    """

    beat_every_s: float = 2.0
    spread: float = 8.0
    least: float = 4.0
    most: float = 30.0


class Liveness:
    """When members were last heard of, and by when the next sign is due."""

    _WINDOW, _ENOUGH = 32, 5

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._last: dict[str, float] = {}
        self._intervals: dict[str, deque[float]] = {}

    def arrive(self, name: str, now: float) -> None:
        """Note that a member is there anew: what was known of its line is forgotten."""
        self._last[name], self._intervals[name] = now, deque(maxlen=self._WINDOW)

    def beat(self, name: str, now: float) -> None:
        """Note a sign of life; after a silence that was too long the member is there anew."""
        if not self.is_alive(name, now):
            self.arrive(name, now)
            return
        self._intervals[name].append(now - self._last[name])
        self._last[name] = now

    def deadline_s(self, name: str) -> float:
        """Return how long the member may be silent."""
        patience, intervals = self.patience, self._intervals[name]
        least, most = (x * patience.beat_every_s for x in (patience.least, patience.most))
        if len(intervals) < self._ENOUGH:
            return most / 2  # nothing is known of its line yet
        median = statistics.median(intervals)
        deviation = statistics.median(abs(value - median) for value in intervals)
        return min(max(median + patience.spread * deviation, least), most)

    def is_alive(self, name: str, now: float) -> bool:
        """Return whether the member was heard of lately."""
        return name in self._last and now - self._last[name] <= self.deadline_s(name)
