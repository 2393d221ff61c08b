"""How tasks and results travel between processes: as bytes, and errors as what they were."""

import io
import logging
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from knexa.engine import pausing
from knexa.errors import MachineError

log = logging.getLogger(__name__)


def timed(phase: Callable[..., Any], context: Any, task: tuple[Any, ...]) -> tuple[Any, float]:
    """Return what a phase gives, and in how many seconds; raises as ``timed_to_pause``."""
    return timed_rest(timed_to_pause(phase, context, task))


def timed_to_pause(
    phase: Callable[..., Any], context: Any, task: tuple[Any, ...]
) -> tuple[Any, float]:
    """Run a phase up to where it pauses, or to its end; ``timed_rest`` goes on from there.

    Where the accelerator's memory runs out, and a context that can ``make_room`` did, the phase is
    run again: it is a pure function.

    Raises:
        MachineError: One line that says what to lower, where the accelerator's memory ran out.
    """
    begin = time.perf_counter()
    while True:
        try:
            return pausing.to_pause(phase, context, *task), time.perf_counter() - begin
        except Exception as error:
            if not _is_accelerator_full(error):
                raise
            cause = type(error)(str(error))
        # Here, where the error has let go of what the phase had on the accelerator.
        if not getattr(context, "make_room", lambda: False)():
            raise MachineError(_lower(phase)) from cause
        log.info("the GPU's memory ran out during %s: other backbones make room", phase.__name__)


def timed_rest(begun: tuple[Any, float]) -> tuple[Any, float]:
    """Return what a phase gives that was run to its pause, and in how many seconds of its own."""
    found, seconds = begun
    begin = time.perf_counter()
    return pausing.resumed(found), seconds + time.perf_counter() - begin


def _is_accelerator_full(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _lower(phase: Callable[..., Any]) -> str:
    return (
        f"the GPU's memory ran out during {phase.__name__}: lower training.batch_size (and raise "
        "training.accumulate by as much), evaluation.batch_size or training.max_length, or give "
        "each worker of engine=ray more of a GPU with engine.num_gpus; then type the same command "
        "again to go on from the last finished round"
    )


def answer(
    phase: Callable[..., Any],
    context: Any,
    task: tuple[Any, ...],
    pack_result: Callable[[Any], bytes] | None = None,
) -> bytes:
    """Run a task; return its result and seconds, or its error, for ``result_of``."""
    try:
        return (pack_result or pack)((timed(phase, context, task), None))
    except Exception as error:
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        try:
            packed = pack((None, error))
            pickle.loads(packed)
        except Exception:  # an exception whose constructor wants more than its message
            packed = pack((None, RuntimeError(traceback.format_exc())))
        return packed


def result_of(answered: bytes, unpack: Callable[[bytes], Any] = pickle.loads) -> tuple[Any, float]:
    """Return what a task gave and in how many seconds, or raise what it raised."""
    result, error = unpack(answered)
    if error is not None:
        raise error
    return result  # type: ignore[no-any-return]


def pack(value: Any) -> bytes:
    """Return tasks or results as bytes, tensors by value.

    Left to itself, torch shares every tensor through a file descriptor that its receiver fetches
    from its sender: that runs out of descriptors and of /dev/shm, and where either process is
    killed the other one prints a traceback.
    """
    buffer = io.BytesIO()
    Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(value)
    return buffer.getvalue()


class Pickler(pickle.Pickler):
    """Pickles tensors through their bytes: the library's own way takes a file for each of them."""

    def reducer_override(self, value: Any) -> Any:
        """Return how a tensor is rebuilt."""
        torch = sys.modules.get("torch")
        if torch is None or type(value) is not torch.Tensor or value.requires_grad:
            return NotImplemented
        flat = value.cpu().contiguous().reshape(-1).view(torch.uint8)
        return _tensor, (flat.numpy(), value.dtype, tuple(value.shape))


def _tensor(array: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    import torch

    # Cloned, for torch's own alignment: what is computed from it must not depend on where it lies.
    return torch.from_numpy(array).clone().view(dtype).reshape(shape)
