"""Keeps as many backbones in an accelerator's memory as fit, and moves the others to the host.

Before a backbone is used there must be room for its weights and for the peak memory of phases on
it so far; until there is, the least recently used backbone is moved to the host's memory. Results
do not depend on it.
"""

import gc
from collections import OrderedDict
from typing import Protocol

import torch

from knexa.backbones.load import LoadedBackbone


class Memory(Protocol):
    """An accelerator's memory, in bytes, as this process sees it."""

    def free(self) -> int:
        """Return how much more this process can allocate."""

    def peak(self) -> int:
        """Return the peak use since the last call, beyond the use at that call."""

    def release(self) -> None:
        """Free memory that this process caches but does not use."""


class CudaMemory:
    """The memory of the current CUDA device."""

    def __init__(self) -> None:
        self._begun = torch.cuda.memory_allocated()

    def free(self) -> int:
        """Return the device's free memory and what this process's allocator caches."""
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + kept

    def peak(self) -> int:
        """Return the peak use since the last call, beyond the use at that call."""
        most = torch.cuda.max_memory_allocated() - self._begun
        torch.cuda.reset_peak_memory_stats()
        self._begun = torch.cuda.memory_allocated()
        return most

    def release(self) -> None:
        """Free memory that this process caches but does not use."""
        gc.collect()  # a trainer is part of a reference cycle
        torch.cuda.empty_cache()


class Placement:
    """Moves backbones between a device and the host; ``moved`` counts evictions."""

    def __init__(self, device: str, memory: Memory) -> None:
        self.moved = 0
        self._device, self._memory = device, memory
        # Least recently used first.
        self._resident: OrderedDict[str, LoadedBackbone] = OrderedDict()
        self._working: dict[str, int] = {}

    def put_to_work(self, loaded: LoadedBackbone) -> None:
        """Put the backbone on the device, with room for a phase as far as possible.

        Raises:
            torch.OutOfMemoryError: It does not fit even alone.
        """
        at_work = next(reversed(self._resident), None)
        if at_work == loaded.name:
            return
        self._note(at_work)
        # Before its first phase it is assumed to need as much as the most demanding backbone.
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
        """Move all backbones but the current one to the host; return whether any was moved.

        Called after a phase ran out of memory and released its own: its backbone is recorded as
        needing more than is free now.
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
