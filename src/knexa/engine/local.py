"""The local engine: runs phases in this process, or in worker processes forked from it.

Workers are forked after the backbones are loaded, so they share them and start at once. A phase is
a pure function, so results do not depend on the number of workers, and the task of a killed worker
is run again by a new one, once. With an accelerator everything runs in this process, since a forked
process cannot use CUDA.

The standard library's pool is not used: one killed worker breaks all of it, and it can then
deadlock on a full pipe (CPython 3.11.7). Here every worker has its own pipe, no lock and no thread.
"""

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from knexa.engine import serialization
from knexa.errors import MachineError, UserError

log = logging.getLogger(__name__)
_MAX_WAIT_S = 2.0
"""How long the second step of a task may wait while the first steps of other tasks run; longer
waits would hold up the progress bar. Endless programs take one second by default."""


@dataclass(frozen=True, slots=True)
class Workers:
    """The number and kind of workers, with the reason for the choice."""

    num_workers: int
    accelerator: str
    reason: str
    remote: bool = False
    """Whether they may be on other machines, which have their own accelerators."""


class Engine(ABC):
    """Base of every component of the config group ``engine``.

    Attributes:
        num_threads: Torch threads of each process.
    """

    num_threads: int

    @abstractmethod
    def choose(self, num_agents: int) -> Workers:
        """Return the workers for that many agents.

        Raises:
            UserError: They are not to be had here.
        """

    @abstractmethod
    def pool(self, workers: Workers, context: Any, observer: "Observer | None" = None) -> "Pool":
        """Return the workers at work on that context."""


@dataclass(frozen=True, kw_only=True)
class Local(Engine):
    """Runs phases on this machine.

    Attributes:
        num_workers: Worker processes, at most one per agent; None takes one per core. 1 runs phases
            in the main process.
        accelerator: ``cpu``, ``gpu``, or ``auto``: a GPU where torch sees one.
        num_threads: Torch threads of each process. More than one is slower on tiny models.
    """

    num_workers: Annotated[int, Field(ge=1)] | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    num_threads: Annotated[int, Field(ge=1)] = 1

    def choose(self, num_agents: int) -> Workers:
        """Return the workers for that many agents on this machine."""
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
                    "engine.num_workers=1 or engine.accelerator=cpu, or let Ray share it out: "
                    "engine=ray engine.num_gpus=0.5"
                )
            return Workers(1, "gpu", f"1 worker on {torch.cuda.get_device_name()}")
        cores = num_cores()
        known = f"{cores} core{'s' * (cores > 1)}, no GPU" if not has_gpu else f"{cores} cores"
        if self.num_workers is not None:
            if self.num_workers > num_agents:
                return Workers(
                    num_agents, "cpu", f"one an agent, {self.num_workers} are set; {known}"
                )
            return Workers(self.num_workers, "cpu", f"as configured; {known}")
        return Workers(max(1, min(cores, num_agents)), "cpu", known)

    def pool(self, workers: Workers, context: Any, observer: "Observer | None" = None) -> "Pool":
        """Return a pool of these workers on that context."""
        return Pool(workers, context, observer)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Observer(Protocol):
    """Receives the progress of phases; called in the main process."""

    def begin(self, phase: str, num_tasks: int) -> None:
        """A phase of ``num_tasks`` tasks begins."""

    def done(self, phase: str, key: int, seconds: float) -> None:
        """One task of the phase has ended, for the agent ``key``."""


class WorkerDiedError(Exception):
    """A worker ended before it returned a result; the message says how."""


class Worker(Protocol):
    """A worker that runs one task at a time, in any process."""

    def begin(self, phase: Callable[..., Any], task: tuple[Any, ...]) -> None:
        """Send a task; a dead worker is noticed by ``answer``."""

    def answer(self) -> tuple[Any, float]:
        """Return the task's result and seconds, or raise what it raised.

        Raises:
            WorkerDiedError: The worker ended without a result.
        """

    def stop(self) -> None:
        """Kill the worker."""


class Pool:
    """Runs phases over agents; a context manager.

    Args:
        workers: How many processes.
        context: What every phase gets as its first argument (the runtime).
        observer: Called as phases begin and tasks end.
    """

    def __init__(self, workers: Workers, context: Any, observer: Observer | None = None) -> None:
        self.workers, self.context, self.observer = workers, context, observer
        self._workers: list[Any] = []

    def __enter__(self) -> "Pool":
        # Garbage collection writes to the objects it visits, and so copies pages that workers share
        # with this process; objects that exist now are exempted from it.
        gc.collect()
        gc.freeze()
        self._fill()  # forks before the caller starts threads
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        gc.unfreeze()

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
            keys: The key of each task for the observer (the agent's index).
            sizes: Relative durations of the tasks; the longest begin first, for an even load at the
                end. The results do not depend on it.
        """
        if self.observer is not None and tasks:
            self.observer.begin(phase.__name__, len(tasks))
        if self._runs_here:
            return self._run_here(phase, tasks, keys)
        order = sorted(range(len(tasks)), key=lambda i: 0.0 if sizes is None else -sizes[i])
        try:
            return self._spread(phase, tasks, keys, order)
        except BaseException:
            self._stop()  # their results are not wanted any more
            raise

    def _run_here(
        self, phase: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], keys: Sequence[int]
    ) -> list[Any]:
        """Run the tasks in order; between the steps of one task, the next ones begin."""
        results: list[Any] = []
        waiting: deque[tuple[float, tuple[Any, float]]] = deque()
        for begun, task in enumerate(tasks, start=1):
            timed = serialization.timed_first_step(phase, self.context, task)
            waiting.append((time.monotonic(), timed))
            while waiting and (
                begun == len(tasks) or time.monotonic() - waiting[0][0] > _MAX_WAIT_S
            ):
                timed = serialization.timed_second_step(waiting.popleft()[1])
                results.append(self._record(phase, keys[len(results)], timed))
        return results

    def _spread(
        self,
        phase: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        keys: Sequence[int],
        order: Sequence[int],
    ) -> list[Any]:
        """Run the tasks in the workers, started in ``order``."""
        self._fill()
        results: list[Any] = [None] * len(tasks)
        waiting, running, lost = deque(order), dict[Any, int](), set[int]()
        while waiting or running:
            for worker in [w for w in self._workers if w not in running][: len(waiting)]:
                running[worker] = waiting.popleft()
                worker.begin(phase, tasks[running[worker]])
            for worker in self._answering(list(running)):
                i = running.pop(worker)
                try:
                    timed = worker.answer()
                except WorkerDiedError as death:
                    self._workers.remove(worker)
                    if i in lost:
                        raise MachineError(
                            f"{death} during {phase.__name__}, twice, which is what happens where "
                            "memory runs out: free some, or set a smaller engine.num_workers, and "
                            "type the same command again to go on from the last finished round"
                        ) from None
                    log.warning("%s during %s: a new one starts over", death, phase.__name__)
                    lost.add(i)
                    waiting.appendleft(i)
                    self._fill()
                else:
                    results[i] = self._record(phase, keys[i], timed)
        return results

    @property
    def _runs_here(self) -> bool:
        """Whether this process is the only worker."""
        return self.workers.num_workers == 1

    def _fill(self) -> None:
        """Start the workers that are missing."""
        while not self._runs_here and len(self._workers) < self.workers.num_workers:
            self._workers.append(self._start())

    def _start(self) -> Worker:
        """Return a new worker."""
        return _ForkedWorker(self.context, [worker.connection for worker in self._workers])

    def _answering(self, running: Sequence[Any]) -> list[Any]:
        """Wait until a worker has answered or died; return all that have."""
        ready = wait([worker.connection for worker in running])
        return [worker for worker in running if worker.connection in ready]

    def _stop(self) -> None:
        while self._workers:
            self._workers.pop().stop()

    def _record(self, phase: Callable[..., Any], key: int, timed: tuple[Any, float]) -> Any:
        result, seconds = timed
        if self.observer is not None:
            self.observer.done(phase.__name__, key, seconds)
        return result


class _ForkedWorker:
    """A forked worker; ``connection`` becomes readable when it answers or dies."""

    def __init__(self, context: Any, others: Sequence[Connection]) -> None:
        fork = multiprocessing.get_context("fork")
        self.connection, theirs = fork.Pipe()
        ours = [*others, self.connection]
        self.process: BaseProcess = fork.Process(
            target=_serve, args=(context, theirs, ours, os.getpid()), daemon=True
        )
        self.process.start()
        theirs.close()  # the only copy is now the worker's, so its death closes our end

    def begin(self, phase: Callable[..., Any], task: tuple[Any, ...]) -> None:
        """Send a task; a dead worker is noticed by ``answer``."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(serialization.dump((phase, task)))

    def answer(self) -> tuple[Any, float]:
        """Return the task's result and seconds, or raise what it raised."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDiedError(self._reap()) from None
        return serialization.result_of(answer)

    def _reap(self) -> str:
        """Reap the dead process; return its exit status in words."""
        self.connection.close()
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            return f"a worker process was killed ({signal.Signals(-code).name})"
        return f"a worker process ended (exit code {code})"

    def stop(self) -> None:
        """Kill the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(context: Any, connection: Connection, ours: Sequence[Connection], parent: int) -> None:
    """Run tasks until the main process closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles Ctrl-C
    _exit_with_parent(parent)
    for inherited in ours:
        inherited.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            phase, task = pickle.loads(connection.recv_bytes())
            connection.send_bytes(serialization.run_task(phase, context, task))


def _exit_with_parent(parent: int) -> None:
    """Let the kernel kill this process when ``parent`` dies (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
