"""Which backbones lie in an accelerator's memory: as many as its measured bytes allow.

Agents of one backbone share it; agents of others take turns. Before a backbone is put to work there
must be room for its weights and for the most that a phase on it has needed beside them so far;
until there is, the backbone that has waited longest is moved to the host's memory. Nothing that is
computed depends on it.
"""

import gc
from collections import OrderedDict
from typing import Protocol

import torch

from knexa.backbones.load import LoadedBackbone


class Memory(Protocol):
    """An accelerator's memory, in bytes, as this process sees it."""

    def free(self) -> int:
        """Return how much more this process can have."""

    def peak(self) -> int:
        """Return the most that was in use since the last call, beyond what was in use then."""

    def release(self) -> None:
        """Leave to other processes what this one keeps and does not use."""


class CudaMemory:
    """The memory of the current CUDA device."""

    def __init__(self) -> None:
        self._begun = torch.cuda.memory_allocated()

    def free(self) -> int:
        """Return what no process has, and what this one's allocator keeps for later."""
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + kept

    def peak(self) -> int:
        """Return the most that was in use since the last call, beyond what was in use then."""
        most = torch.cuda.max_memory_allocated() - self._begun
        torch.cuda.reset_peak_memory_stats()
        self._begun = torch.cuda.memory_allocated()
        return most

    def release(self) -> None:
        """Leave to other processes what this one keeps and does not use."""
        gc.collect()  # a trainer and what it holds are a cycle
        torch.cuda.empty_cache()


class Placement:
    """Moves backbones between a device and the host.

    ``moved`` counts how often one had to leave.
    """

    def __init__(self, device: str, memory: Memory) -> None:
        self.moved = 0
        self._device, self._memory = device, memory
        self._resident: OrderedDict[str, LoadedBackbone] = OrderedDict()  # the last one is at work
        self._working: dict[str, int] = {}

    def put_to_work(self, loaded: LoadedBackbone) -> None:
        """See that the backbone is on the device, with room to work, as far as there is any.

        Raises:
            torch.OutOfMemoryError: It has no place there even when all others have left.
        """
        at_work = next(reversed(self._resident), None)
        if at_work == loaded.name:
            return
        self._note(at_work)
        # What is not known yet is taken to be as much as with the greediest of the others.
        needed = self._working.get(loaded.name, max(self._working.values(), default=0))
        if loaded.name in self._resident:
            self._resident.move_to_end(loaded.name)
        else:
            needed += num_bytes(loaded)
        while self._memory.free() < needed and self._evict(keep=loaded.name):
            pass
        if loaded.name not in self._resident:
            self._fetch(loaded)
        self._memory.peak()

    def make_room(self) -> bool:
        """Move everything to the host but the backbone at work; return whether anything was.

        Called when a phase found the device full and has let go of what it had there: from now on
        its backbone is known to need more than was free.
        """
        at_work = next(reversed(self._resident), None)
        self._note(at_work, at_least=self._memory.free() + 1)
        before = self.moved
        while self._evict(keep=at_work):
            pass
        self._memory.peak()
        return self.moved > before

    def _fetch(self, loaded: LoadedBackbone) -> None:
        while True:
            try:
                _move(loaded, self._device)
            except torch.OutOfMemoryError:
                if not self._evict(keep=loaded.name):
                    _move(loaded, "cpu")
                    raise
            else:
                self._resident[loaded.name] = loaded
                return

    def _note(self, name: str | None, at_least: int = 0) -> None:
        peak = self._memory.peak()
        if name is not None:
            self._working[name] = max(peak, at_least, self._working.get(name, 0))

    def _evict(self, keep: str | None) -> bool:
        oldest = next((name for name in self._resident if name != keep), None)
        if oldest is None:
            return False
        _move(self._resident.pop(oldest), "cpu")
        self._memory.release()
        self.moved += 1
        return True


def num_bytes(loaded: LoadedBackbone) -> int:
    """Return what a backbone's weights and buffers take, tied ones counted once."""
    tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
    return sum(tensor.nbytes for tensor in {id(tensor): tensor for tensor in tensors}.values())


def _move(loaded: LoadedBackbone, device: str) -> None:
    # A phase may be in inference mode, whose tensors could never be trained with again.
    with torch.inference_mode(False):
        loaded.model.to(device)
