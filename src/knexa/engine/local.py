"""Where phases run: in this process, or in worker processes forked from it.

Workers are forked after the backbones are loaded, so they share them and start at once; a phase is
a pure function, so results do not depend on how many there are, and what a killed worker has left
undone is done again by a new one, once. With an accelerator everything runs in this process (a
forked process cannot use CUDA).

The standard library's pool is not used: one killed worker breaks all of it, and where arguments
fill a pipe it waits for ever then (CPython 3.11.7). Here every worker has a pipe of its own, no
lock and no thread.
"""

import contextlib
import ctypes
import io
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from knexa.errors import MachineError, UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Workers:
    """How phases will run, and why."""

    num_workers: int
    accelerator: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Local:
    """Phases on this machine.

    Attributes:
        num_workers: Worker processes; None takes one per core, at most one per agent. 1 runs phases
            in the main process.
        accelerator: ``cpu``, ``gpu``, or ``auto``: a GPU where torch sees one.
        num_threads: Torch threads of each process. More than one is slower on tiny models.
    """

    num_workers: Annotated[int, Field(ge=1)] | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: Annotated[int, Field(ge=1)] = 1

    def choose(self, num_agents: int) -> Workers:
        """Return the workers for that many agents on this machine.

        Raises:
            UserError: A GPU is asked for where there is none, or shared among workers.
        """
        import torch

        has_gpu = torch.cuda.is_available()
        if self.accelerator == "gpu" and not has_gpu:
            raise UserError(
                "engine.accelerator=gpu but torch sees no GPU: set engine.accelerator=cpu or auto"
            )
        if has_gpu and self.accelerator != "cpu":
            if (self.num_workers or 1) > 1:
                raise UserError(
                    f"engine.num_workers={self.num_workers} cannot share a GPU: set "
                    "engine.num_workers=1, or engine.accelerator=cpu"
                )
            return Workers(1, "gpu", f"1 worker on {torch.cuda.get_device_name()}")
        cores = num_cores()
        known = f"{cores} core{'s' * (cores > 1)}, no GPU" if not has_gpu else f"{cores} cores"
        if self.num_workers is not None:
            return Workers(self.num_workers, "cpu", f"as configured; {known}")
        return Workers(max(1, min(cores, num_agents)), "cpu", known)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Observer(Protocol):
    """Who wants to know how phases proceed; called in the main process."""

    def begin(self, phase: str, num_tasks: int) -> None:
        """A phase is about to run over so many agents or pairs."""

    def done(self, phase: str, key: int, seconds: float) -> None:
        """One task of the phase has ended, for the agent ``key``."""


class Pool:
    """Runs phases over agents; a context manager.

    Args:
        workers: How many processes.
        context: What every phase gets as its first argument (the session).
        observer: Told as phases begin and tasks end.
    """

    def __init__(self, workers: Workers, context: Any, observer: Observer | None = None) -> None:
        self.workers, self.context, self.observer = workers, context, observer
        self._forked: list[_Worker] = []

    def __enter__(self) -> "Pool":
        self._fill()  # now, before the caller starts threads
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    def map(
        self,
        phase: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        keys: Sequence[int],
        sizes: Sequence[float] | None = None,
    ) -> list[Any]:
        """Return ``[phase(context, *task) for task in tasks]``, computed in any order.

        Args:
            phase: A module-level function.
            tasks: Arguments; they and the results are picklable.
            keys: What the observer is told of each task (the agent's index).
            sizes: About how long each task takes; workers begin with the longest, so that none is
                left alone with it at the end. The results do not depend on it.
        """
        if self.observer is not None and tasks:
            self.observer.begin(phase.__name__, len(tasks))
        if self.workers.num_workers == 1:
            return [
                self._record(phase, key, _timed(phase, self.context, task))
                for task, key in zip(tasks, keys, strict=True)
            ]
        order = sorted(range(len(tasks)), key=lambda i: 0.0 if sizes is None else -sizes[i])
        try:
            return self._spread(phase, tasks, keys, order)
        except BaseException:
            self._stop()  # what they are at is not wanted any more
            raise

    def _spread(
        self,
        phase: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        keys: Sequence[int],
        order: Sequence[int],
    ) -> list[Any]:
        """Run the tasks in the workers, begun in ``order``."""
        self._fill()
        results: list[Any] = [None] * len(tasks)
        waiting, running, lost = deque(order), dict[_Worker, int](), set[int]()
        while waiting or running:
            for worker in [w for w in self._forked if w not in running][: len(waiting)]:
                running[worker] = waiting.popleft()
                worker.begin(phase, tasks[running[worker]])
            ready = wait([worker.connection for worker in running])
            for worker in [w for w in running if w.connection in ready]:
                i = running.pop(worker)
                try:
                    answer = worker.connection.recv_bytes()
                except (EOFError, OSError):
                    death = self._bury(worker)
                    if i in lost:
                        raise MachineError(_given_up(death, phase)) from None
                    log.warning("%s during %s: a new one starts over", death, phase.__name__)
                    lost.add(i)
                    waiting.appendleft(i)
                    self._fill()
                else:
                    results[i] = self._record(phase, keys[i], _result_of(answer))
        return results

    def _fill(self) -> None:
        """Fork the workers that are missing."""
        if self.workers.num_workers > 1:
            while len(self._forked) < self.workers.num_workers:
                others = [worker.connection for worker in self._forked]
                self._forked.append(_Worker(self.context, others))

    def _bury(self, worker: "_Worker") -> str:
        """Forget a dead worker; say how it ended."""
        self._forked.remove(worker)
        worker.connection.close()
        worker.process.join()
        code = worker.process.exitcode or 0
        if code < 0:
            return f"a worker process was killed ({signal.Signals(-code).name})"
        return f"a worker process ended (exit code {code})"

    def _stop(self) -> None:
        for worker in self._forked:
            worker.connection.close()
            worker.process.terminate()
        while self._forked:
            self._forked.pop().process.join()

    def _record(self, phase: Callable[..., Any], key: int, timed: tuple[Any, float]) -> Any:
        result, seconds = timed
        if self.observer is not None:
            self.observer.done(phase.__name__, key, seconds)
        return result


def _given_up(death: str, phase: Callable[..., Any]) -> str:
    return (
        f"{death} during {phase.__name__}, twice, which is what happens where memory runs out: "
        "free some, or set a smaller engine.num_workers, and type the same command again to go on "
        "from the last finished round"
    )


def _timed(phase: Callable[..., Any], context: Any, task: tuple[Any, ...]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return phase(context, *task), time.perf_counter() - begin


class _Worker:
    """A forked process that runs one task after another; ``connection`` is readable at its end."""

    def __init__(self, context: Any, others: Sequence[Connection]) -> None:
        fork = multiprocessing.get_context("fork")
        self.connection, theirs = fork.Pipe()
        ours = [*others, self.connection]
        self.process: BaseProcess = fork.Process(
            target=_serve, args=(context, theirs, ours, os.getpid()), daemon=True
        )
        self.process.start()
        theirs.close()  # the worker's is the only one now: where it dies, ours ends

    def begin(self, phase: Callable[..., Any], task: tuple[Any, ...]) -> None:
        """Send a task; where the worker is dead, its connection says so when it is read."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(_pack((phase, task)))


def _serve(context: Any, connection: Connection, ours: Sequence[Connection], parent: int) -> None:
    """Be a worker until the main process is done with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    _die_with(parent)
    for inherited in ours:
        inherited.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            phase, task = pickle.loads(connection.recv_bytes())
            connection.send_bytes(_answer(phase, context, task))


def _answer(phase: Callable[..., Any], context: Any, task: tuple[Any, ...]) -> bytes:
    try:
        return _pack((_timed(phase, context, task), None))
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            answer = _pack((None, error))
            pickle.loads(answer)
        except Exception:  # an exception whose constructor wants more than its message
            answer = _pack((None, RuntimeError(traceback.format_exc())))
        return answer


def _die_with(parent: int) -> None:
    """Let the kernel end this process when ``parent`` is killed: no queue would tell it (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError, AttributeError):  # no such call elsewhere
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _result_of(answer: bytes) -> tuple[Any, float]:
    """Return what a task gave and in how many seconds, or raise what it raised."""
    timed, error = pickle.loads(answer)
    if error is not None:
        raise error
    return timed  # type: ignore[no-any-return]


def _pack(value: Any) -> bytes:
    """Return tasks or results as bytes, tensors by value.

    Left to itself, torch shares every tensor through a file descriptor that its receiver fetches
    from its sender: that runs out of descriptors and of /dev/shm, and where either process is
    killed the other one prints a traceback.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Pickles tensors through their bytes: the library's own way takes a file for each of them."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor or value.requires_grad:
            return NotImplemented
        flat = value.cpu().contiguous().reshape(-1).view(torch.uint8)
        return _tensor, (flat.numpy(), value.dtype, tuple(value.shape))


def _tensor(array: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch

    # Cloned, for torch's own alignment: what is computed from it must not depend on where it lies.
    return torch.from_numpy(array).clone().view(dtype).reshape(shape)
