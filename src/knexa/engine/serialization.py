"""Runs phases with their time taken, and serializes tasks, results and errors for workers."""

import io
import logging
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from knexa.engine import two_step
from knexa.errors import MachineError

log = logging.getLogger(__name__)


def timed(phase: Callable[..., Any], context: Any, task: tuple[Any, ...]) -> tuple[Any, float]:
    """Return a phase's result and its seconds; raises as ``timed_first_step``."""
    return timed_second_step(timed_first_step(phase, context, task))


def timed_first_step(
    phase: Callable[..., Any], context: Any, task: tuple[Any, ...]
) -> tuple[Any, float]:
    """Run the first step of a phase; ``timed_second_step`` takes what is returned.

    Where the accelerator's memory runs out and the context's ``make_room`` frees some, the phase,
    a pure function, is run again.

    Raises:
        MachineError: The accelerator's memory ran out; the line says what to lower.
    """
    begin = time.perf_counter()
    while True:
        try:
            return two_step.first_step(phase, context, *task), time.perf_counter() - begin
        except Exception as error:
            if not _is_accelerator_full(error):
                raise
            cause = type(error)(str(error))
        # Outside of the except block, where the traceback no longer holds the phase's tensors.
        if not getattr(context, "make_room", lambda: False)():
            raise MachineError(_out_of_memory_text(phase)) from cause
        log.info("the GPU's memory ran out during %s: other backbones make room", phase.__name__)


def timed_second_step(begun: tuple[Any, float]) -> tuple[Any, float]:
    """Return the result of a phase, and the seconds that its two steps took."""
    first, seconds = begun
    begin = time.perf_counter()
    return two_step.second_step(first), seconds + time.perf_counter() - begin


def _is_accelerator_full(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _out_of_memory_text(phase: Callable[..., Any]) -> str:
    return (
        f"the GPU's memory ran out during {phase.__name__}: lower training.batch_size (and raise "
        "training.accumulate by as much), evaluation.batch_size or training.max_length, or give "
        "each worker of engine=ray more of a GPU with engine.num_gpus; then type the same command "
        "again to go on from the last finished round"
    )


def run_task(
    phase: Callable[..., Any],
    context: Any,
    task: tuple[Any, ...],
    dump_result: Callable[[Any], bytes] | None = None,
) -> bytes:
    """Run a task; return its result and seconds, or its error, as bytes for ``result_of``."""
    try:
        return (dump_result or dump)((timed(phase, context, task), None))
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            dumped = dump((None, error))
            pickle.loads(dumped)
        except Exception:  # an exception whose constructor wants more than its message
            dumped = dump((None, RuntimeError(traceback.format_exc())))
        return dumped


def result_of(answer: bytes, load: Callable[[bytes], Any] = pickle.loads) -> tuple[Any, float]:
    """Return a task's result and seconds, or raise what it raised."""
    result, error = load(answer)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def dump(value: Any) -> bytes:
    """Pickle a task or result, tensors by value.

    By default torch shares every tensor through a file descriptor that the receiver fetches from
    the sender: that exhausts descriptors and /dev/shm, and where either process is killed the other
    one prints a traceback.
    """
    buffer = io.BytesIO()
    Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class Pickler(pickle.Pickler):
    """Pickles tensors by value instead of through shared memory."""

    def reducer_override(self, value: Any) -> Any:
        """Reduce a plain tensor to its bytes, dtype and shape."""
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor or value.requires_grad:
            return NotImplemented
        flat = value.cpu().contiguous().reshape(-1).view(torch.uint8)
        return _tensor, (flat.numpy(), value.dtype, tuple(value.shape))


def _tensor(array: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch

    # Cloned for torch's own alignment, since results must not depend on the address.
    return torch.from_numpy(array).clone().view(dtype).reshape(shape)
