import errno
import gc
import logging
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knexa.engine.local import Local, Pool, Workers
from knexa.errors import MachineError


def add(context: int, left: int, right: int) -> tuple[int, int]:
    return context + left + right, os.getpid()


def fail(context: int, value: int) -> int:
    raise ValueError(f"agent {value}")


def die(context: Path, value: int, num_deaths: int) -> int:
    """Be killed by the kernel the first ``num_deaths`` times that task 3 is tried."""
    tried = context / f"tried-{value}"
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    if value == 3 and len(tried.read_text()) <= num_deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return value**2


def die_with_luggage(
    context: Path, value: int, num_deaths: int, luggage: bytes
) -> tuple[int, bytes]:
    return die(context, value, num_deaths), luggage


def fill_disk(context: None, value: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_gpu(context: None, value: int) -> None:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def give_back(context: None, value: Any) -> Any:
    return value


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


def test_what_a_killed_worker_left_undone_is_done_by_new_ones(tmp_path, caplog):
    log = Log()
    with Pool(Workers(2, "cpu", "test"), tmp_path, log) as pool:
        assert pool.map(die, [(i, 1) for i in range(6)], range(6)) == [0, 1, 4, 9, 16, 25]
        assert pool.map(die, [(i, 1) for i in range(6)], range(6)) == [0, 1, 4, 9, 16, 25]
    assert sorted(key for _, key, _ in log.ended) == sorted([*range(6)] * 2)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "killed (SIGKILL) during die" in record.getMessage()


def test_workers_that_are_killed_again_end_the_run_in_one_line(tmp_path):
    with (
        Pool(Workers(2, "cpu", "test"), tmp_path) as pool,
        pytest.raises(MachineError, match=r"killed \(SIGKILL\) during die.*same command") as raised,
    ):
        pool.map(die, [(i, 2) for i in range(6)], range(6))
    assert "\n" not in str(raised.value)


def test_big_tasks_outlive_a_killed_worker(tmp_path):
    """More than a pipe holds, both ways: what the standard library's pool hangs on."""
    tasks = [(i, 1, bytes(3_000_000)) for i in range(8)]
    with Pool(Workers(2, "cpu", "test"), tmp_path) as pool:
        results = pool.map(die_with_luggage, tasks, range(8))
    assert [(value, len(luggage)) for value, luggage in results] == [
        (i**2, 3_000_000) for i in range(8)
    ]


def test_a_phases_own_oserror_is_not_taken_for_a_dead_worker(caplog):
    with Pool(Workers(2, "cpu", "test"), None) as pool:
        with pytest.raises(OSError, match="No space left") as raised:
            pool.map(fill_disk, [(0,), (1,)], [0, 1])
        assert raised.value.errno == errno.ENOSPC
        assert "in fill_disk" in raised.value.__notes__[0]
        assert pool.map(give_back, [(5,)], [0]) == [5]  # the pool can be used again
    assert caplog.records == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_full_gpu_is_one_line_that_says_what_to_lower(num_workers):
    with (
        Pool(Workers(num_workers, "cpu", "test"), None) as pool,
        pytest.raises(MachineError, match=r"during fill_gpu: lower training.batch_size") as raised,
    ):
        pool.map(fill_gpu, [(0,)], [0])
    assert "\n" not in str(raised.value)


class Shared:
    """What other phases left on an accelerator, which can be freed as often as it says."""

    def __init__(self, times: int) -> None:
        self.times, self.tries = times, 0

    def make_room(self) -> bool:
        self.times -= 1
        return self.times >= 0


def fit_at_last(context: Shared, value: int) -> int:
    context.tries += 1
    if context.times > 0:
        fill_gpu(None, 0)
    return value


def test_a_phase_on_a_full_gpu_runs_again_where_others_can_make_room(caplog):
    caplog.set_level(logging.INFO, logger="knexa")
    shared = Shared(times=1)
    with Pool(Workers(1, "cpu", "test"), shared) as pool:
        assert pool.map(fit_at_last, [(5,)], [0]) == [5]
        assert shared.tries == 2
        assert "fit_at_last: other backbones make room" in caplog.text
        with pytest.raises(MachineError, match="during fill_gpu: lower"):
            pool.map(fill_gpu, [(0,)], [0])


class Tight:
    """Where there is room as soon as a phase has let go of what it had."""

    left: weakref.ref[Log]

    def make_room(self) -> bool:
        return self.left() is None


def fit_in_the_end(context: Tight, value: int) -> int:
    held = Log()
    first = not hasattr(context, "left")
    context.left = weakref.ref(held)
    if first:
        fill_gpu(None, 0)
    return value


def test_room_is_made_once_the_failed_phase_has_let_go():
    with Pool(Workers(1, "cpu", "test"), Tight()) as pool:
        assert pool.map(fit_in_the_end, [(5,)], [0]) == [5]


def test_what_an_earlier_run_left_behind_is_not_kept():
    gc.disable()
    try:
        left = Log()
        left.observer = left
        gone = weakref.ref(left)
        del left
        with Pool(Workers(1, "cpu", "test"), None):
            assert gone() is None
    finally:
        gc.enable()


def test_tensors_come_back_bit_for_bit(tmp_path):
    import torch

    tensors = {
        "float": torch.tensor([[0.1, -0.0], [float("nan"), 3e-40]]),
        "half": torch.arange(5, dtype=torch.bfloat16),
        "turned": torch.arange(6).reshape(2, 3).T,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
    }
    with Pool(Workers(2, "cpu", "test"), None) as pool:
        ((found, array),) = pool.map(give_back, [((tensors, np.arange(3.0)),)], [0])
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        expected = tensor.contiguous().reshape(-1).view(torch.uint8)
        assert torch.equal(found[name].contiguous().reshape(-1).view(torch.uint8), expected)
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_workers_die_with_a_main_process_that_is_killed():
    code = (
        "import os, signal\n"
        "from knexa.engine.local import Pool, Workers\n"
        "with Pool(Workers(2, 'cpu', 'test'), None) as pool:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # Every worker holds the pipe's writing end: it ends when the last of them is gone.
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
