import os

import pytest

from knexa.engine.local import Local, Pool, Workers


def add(context: int, left: int, right: int) -> tuple[int, int]:
    return context + left + right, os.getpid()


def fail(context: int, value: int) -> int:
    raise ValueError(f"agent {value}")


class Log:
    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int, float]] = []

    def begin(self, phase: str, num_tasks: int) -> None:
        self.begun.append((phase, num_tasks))

    def done(self, phase: str, key: int, seconds: float) -> None:
        self.ended.append((phase, key, seconds))


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_task_order_from_that_many_processes(num_workers):
    log = Log()
    workers = Workers(num_workers, "cpu", "test")
    with Pool(workers, 100, log) as pool:
        results = pool.map(add, [(i, 2 * i) for i in range(20)], range(20), sizes=range(20))
    assert [value for value, _ in results] == [100 + 3 * i for i in range(20)]
    processes = {pid for _, pid in results}
    assert (processes == {os.getpid()}) == (num_workers == 1)
    assert log.begun == [("add", 20)]
    assert sorted(key for _, key, _ in log.ended) == list(range(20))
    assert all(phase == "add" and seconds >= 0 for phase, _, seconds in log.ended)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_phases_error_reaches_the_caller(num_workers):
    with (
        Pool(Workers(num_workers, "cpu", "test"), 0) as pool,
        pytest.raises(ValueError, match="agent 3"),
    ):
        pool.map(fail, [(3,)], [3])


def test_the_choice_of_workers_says_why():
    assert Local(num_workers=3).choose(6).num_workers == 3
    chosen = Local(accelerator="cpu").choose(1)
    assert chosen.num_workers == 1
    assert "core" in chosen.reason
