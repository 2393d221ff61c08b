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

from knexa.engine import packing
from knexa.errors import MachineError, UserError

log = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 2.0
"""How long a task's programs may run beside other tasks before it goes on: endless ones take one
second by default, and whoever watches wants to see tasks end."""


@dataclass(frozen=True, slots=True)
class Workers:
    """How phases will run, and why."""

    num_workers: int
    accelerator: str
    reason: str
    remote: bool = False
    """Whether they may be on other machines, with accelerators that this one does not have."""


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
                    "engine.num_workers=1 or engine.accelerator=cpu, or let Ray share it out: "
                    "engine=ray engine.num_gpus=0.5"
                )
            return Workers(1, "gpu", f"1 worker on {torch.cuda.get_device_name()}")
        cores = num_cores()
        known = f"{cores} core{'s' * (cores > 1)}, no GPU" if not has_gpu else f"{cores} cores"
        if self.num_workers is not None:
            return Workers(self.num_workers, "cpu", f"as configured; {known}")
        return Workers(max(1, min(cores, num_agents)), "cpu", known)

    def pool(self, workers: Workers, context: Any, observer: "Observer | None" = None) -> "Pool":
        """Return the workers at work on that context."""
        return Pool(workers, context, observer)


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Observer(Protocol):
    """Who wants to know how phases proceed; called in the main process."""

    def begin(self, phase: str, num_tasks: int) -> None:
        """A phase is about to run over so many agents or pairs."""

    def done(self, phase: str, key: int, seconds: float) -> None:
        """One task of the phase has ended, for the agent ``key``."""


class WorkerDiedError(Exception):
    """A worker is gone before it answered; the message says how it ended."""


class Worker(Protocol):
    """Whoever runs one phase at a time, anywhere."""

    def begin(self, phase: Callable[..., Any], task: tuple[Any, ...]) -> None:
        """Send a task; where the worker is dead, ``answer`` says so."""

    def answer(self) -> tuple[Any, float]:
        """Return what the task gave and in how many seconds, or raise what it raised.

        Raises:
            WorkerDiedError: It gave nothing and never will.
        """

    def stop(self) -> None:
        """End at once, whatever it is at."""


class Pool:
    """Runs phases over agents; a context manager.

    Args:
        workers: How many processes.
        context: What every phase gets as its first argument (the session).
        observer: Told as phases begin and tasks end.
    """

    def __init__(self, workers: Workers, context: Any, observer: Observer | None = None) -> None:
        self.workers, self.context, self.observer = workers, context, observer
        self._workers: list[Any] = []

    def __enter__(self) -> "Pool":
        # A collection writes to every object that it looks at, and so copies the pages that workers
        # share with this process; what is there now and no garbage stays anyhow.
        gc.collect()
        gc.freeze()
        self._fill()  # now, before the caller starts threads
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
            keys: What the observer is told of each task (the agent's index).
            sizes: About how long each task takes; workers begin with the longest, so that none is
                left alone with it at the end. The results do not depend on it.
        """
        if self.observer is not None and tasks:
            self.observer.begin(phase.__name__, len(tasks))
        if self._runs_here:
            return self._run_here(phase, tasks, keys)
        order = sorted(range(len(tasks)), key=lambda i: 0.0 if sizes is None else -sizes[i])
        try:
            return self._spread(phase, tasks, keys, order)
        except BaseException:
            self._stop()  # what they are at is not wanted any more
            raise

    def _run_here(
        self, phase: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], keys: Sequence[int]
    ) -> list[Any]:
        """Run the tasks in their order; while one pauses, the next ones begin."""
        results: list[Any] = []
        paused: deque[tuple[float, tuple[Any, float]]] = deque()
        for begun, task in enumerate(tasks, start=1):
            timed = packing.timed_to_pause(phase, self.context, task)
            paused.append((time.monotonic(), timed))
            while paused and (
                begun == len(tasks) or time.monotonic() - paused[0][0] > _LONGEST_PAUSE_S
            ):
                timed = packing.timed_rest(paused.popleft()[1])
                results.append(self._record(phase, keys[len(results)], timed))
        return results

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
                        raise MachineError(_given_up(str(death), phase)) from None
                    log.warning("%s during %s: a new one starts over", death, phase.__name__)
                    lost.add(i)
                    waiting.appendleft(i)
                    self._fill()
                else:
                    results[i] = self._record(phase, keys[i], timed)
        return results

    @property
    def _runs_here(self) -> bool:
        """Whether this process is the one worker."""
        return self.workers.num_workers == 1

    def _fill(self) -> None:
        """Start the workers that are missing."""
        while not self._runs_here and len(self._workers) < self.workers.num_workers:
            self._workers.append(self._start())

    def _start(self) -> Worker:
        """Return a new worker."""
        return _Forked(self.context, [worker.connection for worker in self._workers])

    def _answering(self, running: Sequence[Any]) -> list[Any]:
        """Wait for the first of these workers, and return all that have something to say."""
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


def _given_up(death: str, phase: Callable[..., Any]) -> str:
    return (
        f"{death} during {phase.__name__}, twice, which is what happens where memory runs out: "
        "free some, or set a smaller engine.num_workers, and type the same command again to go on "
        "from the last finished round"
    )


class _Forked:
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
            self.connection.send_bytes(packing.pack((phase, task)))

    def answer(self) -> tuple[Any, float]:
        """Return what the task gave and in how many seconds, or raise what it raised."""
        try:
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDiedError(self._end()) from None
        return packing.result_of(answer)

    def _end(self) -> str:
        """Bury the dead process; say how it ended."""
        self.connection.close()
        self.process.join()
        code = self.process.exitcode or 0
        if code < 0:
            return f"a worker process was killed ({signal.Signals(-code).name})"
        return f"a worker process ended (exit code {code})"

    def stop(self) -> None:
        """End it at once."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _serve(context: Any, connection: Connection, ours: Sequence[Connection], parent: int) -> None:
    """Be a worker until the main process is done with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    _die_with(parent)
    for inherited in ours:
        inherited.close()
    with contextlib.suppress(EOFError, OSError):
        while True:
            phase, task = pickle.loads(connection.recv_bytes())
            connection.send_bytes(packing.answer(phase, context, task))


def _die_with(parent: int) -> None:
    """Let the kernel end this process when ``parent`` is killed: no queue would tell it (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError, AttributeError):  # no such call elsewhere
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
