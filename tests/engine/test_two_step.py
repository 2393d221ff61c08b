import os
from collections.abc import Generator
from typing import Any

import pytest

from knexa.engine import local
from knexa.engine.local import Pool, Workers
from knexa.engine.two_step import two_step


@two_step
def square(context: list[str], value: int) -> Generator[None, None, int]:
    """Square a number in two steps; zero in one."""
    if value == 0:
        return 0
    context.append(f"begin {value}")
    if value < 0:
        raise ValueError(str(value))
    yield
    context.append(f"end {value}")
    return value**2


@two_step
def whose(context: Any) -> Generator[None, None, int]:
    yield
    return os.getpid()


@two_step
def hesitate(context: Any) -> Generator[None, None, None]:
    yield
    yield


class Ended:
    def __init__(self) -> None:
        self.keys: list[int] = []

    def begin(self, phase: str, num_tasks: int) -> None:
        assert (phase, num_tasks) == ("square", 4)

    def done(self, phase: str, key: int, seconds: float) -> None:
        assert seconds >= 0
        self.keys.append(key)


TASKS = [(3,), (0,), (2,), (5,)]


def test_called_it_is_a_phase_like_any_other() -> None:
    context: list[str] = []
    assert [square(context, *task) for task in TASKS] == [9, 0, 4, 25]
    assert context == [f"{what} {value}" for value in (3, 2, 5) for what in ("begin", "end")]
    assert square.__name__ == "square"
    with pytest.raises(RuntimeError, match="at most two steps"):
        hesitate(None)


@pytest.mark.parametrize("longest", [60.0, -1.0])
def test_in_one_process_others_begin_while_one_pauses(
    longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_MAX_WAIT_S", longest)
    context: list[str] = []
    observer = Ended()
    with Pool(Workers(1, "cpu", "test"), context, observer) as pool:
        assert pool.map(square, TASKS, keys=[7, 8, 9, 10]) == [9, 0, 4, 25]
    assert observer.keys == [7, 8, 9, 10]
    waiting = [*(f"begin {v}" for v in (3, 2, 5)), *(f"end {v}" for v in (3, 2, 5))]
    at_once = [f"{what} {v}" for v in (3, 2, 5) for what in ("begin", "end")]
    assert context == (waiting if longest > 0 else at_once)


def test_an_error_before_the_pause_is_raised() -> None:
    with Pool(Workers(1, "cpu", "test"), []) as pool, pytest.raises(ValueError, match="-4"):
        pool.map(square, [(3,), (-4,)], keys=[0, 1])


def test_workers_run_a_phase_that_pauses() -> None:
    with Pool(Workers(2, "cpu", "test"), None) as pool:
        found = pool.map(whose, [()] * 4, keys=range(4))
    assert len(found) == 4
    assert os.getpid() not in found
