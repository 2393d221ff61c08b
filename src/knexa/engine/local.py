"""Where phases run: in this process, or in worker processes forked from it.

Workers are forked after the backbones are loaded, so they share them and start at once; a phase is
a pure function, so results do not depend on how many there are, and what a killed worker has left
undone is done again by new ones, once. With an accelerator everything runs in this process (a
forked process cannot use CUDA).
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
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from knexa.errors import MachineError, UserError

log = logging.getLogger(__name__)

_context: Any = None


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
        self._executor: ProcessPoolExecutor | None = None
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> "Pool":
        if self.workers.num_workers > 1:
            self._executor = self._fork()  # now, before the caller starts threads
        return self

    def __exit__(self, *exc: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

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
        if self._executor is None:
            return [
                self._record(phase, key, _timed(phase, self.context, task))
                for task, key in zip(tasks, keys, strict=True)
            ]
        order = sorted(range(len(tasks)), key=lambda i: 0.0 if sizes is None else -sizes[i])
        results: dict[int, Any] = {}
        try:
            self._spread(phase, tasks, keys, order, results)
        except BrokenProcessPool:
            log.warning(
                "%s during %s: new workers do what it left undone", self._bury(), phase.__name__
            )
            try:
                self._executor = self._fork()
                self._spread(phase, tasks, keys, [i for i in order if i not in results], results)
            except BrokenProcessPool as error:
                raise MachineError(
                    f"{self._bury()} during {phase.__name__}, twice, which is what happens where "
                    "memory runs out: free some, or set a smaller engine.num_workers, and type the "
                    "same command again to go on from the last finished round"
                ) from error
        return [results[i] for i in range(len(tasks))]

    def _spread(
        self,
        phase: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        keys: Sequence[int],
        order: Sequence[int],
        results: dict[int, Any],
    ) -> None:
        """Run the tasks of ``order`` in the workers; add each result as it comes."""
        assert self._executor is not None
        pending: dict[Future[bytes], int] = {
            self._executor.submit(_run_in_worker, phase, _pack(tasks[i])): i for i in order
        }
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                i = pending.pop(future)
                results[i] = self._record(phase, keys[i], pickle.loads(future.result()))

    def _fork(self) -> ProcessPoolExecutor:
        """Start the worker processes and return when they are there."""
        others = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            self.workers.num_workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_enter_worker,
            initargs=(self.context, os.getpid()),
        )
        executor.submit(os.getpid).result()
        self._processes = [p for p in multiprocessing.active_children() if p not in others]
        return executor

    def _bury(self) -> str:
        """Close a broken executor; say how its first dead worker ended."""
        assert self._executor is not None
        self._executor.shutdown(cancel_futures=True)
        # The executor itself terminates those that outlive the first.
        codes = [process.exitcode for process in self._processes]
        code = next((code for code in codes if code not in (None, 0, -signal.SIGTERM)), None)
        if code is None or code > 0:
            return f"a worker process ended (exit code {code})"
        return f"a worker process was killed ({signal.Signals(-code).name})"

    def _record(self, phase: Callable[..., Any], key: int, timed: tuple[Any, float]) -> Any:
        result, seconds = timed
        if self.observer is not None:
            self.observer.done(phase.__name__, key, seconds)
        return result


def _timed(phase: Callable[..., Any], context: Any, task: tuple[Any, ...]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return phase(context, *task), time.perf_counter() - begin


def _enter_worker(context: Any, parent: int) -> None:
    global _context
    _context = context
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    _die_with(parent)


def _die_with(parent: int) -> None:
    """Let the kernel end this process when ``parent`` is killed: no queue would tell it (Linux)."""
    set_death_signal = 1  # PR_SET_PDEATHSIG
    with contextlib.suppress(OSError, AttributeError):  # no such call elsewhere
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _run_in_worker(phase: Callable[..., Any], task: bytes) -> bytes:
    return _pack(_timed(phase, _context, pickle.loads(task)))


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
