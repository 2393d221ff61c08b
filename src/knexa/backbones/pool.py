"""The backbones of a process: one copy of each, loaded at first use."""

from collections.abc import Mapping
from typing import Any

import torch

from knexa.backbones.load import LoadedBackbone, load_backbone
from knexa.backbones.placement import CudaMemory, Placement
from knexa.backbones.roster import Backbone


class BackbonePool:
    """One copy of each frozen backbone per process, shared by all of its agents."""

    def __init__(
        self,
        backbones: Mapping[str, Backbone],
        *,
        device: str = "cpu",
        worker_device: str | None = None,
    ) -> None:
        """Take the roster's backbones, without loading any.

        A pool that is pickled to a worker process loads copies of its own, for ``worker_device``.
        """
        self._backbones = dict(backbones)
        self._device = device
        self._worker_device = worker_device or device
        self._loaded: dict[str, LoadedBackbone] = {}
        self._placement: Placement | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _pool, (self._backbones, self._worker_device)

    def get(self, name: str) -> LoadedBackbone:
        """Return a backbone, on whatever device it is; loads it at first use."""
        if name not in self._loaded:
            # A phase may be in inference mode, whose tensors could never be trained.
            with torch.inference_mode(False):
                self._loaded[name] = load_backbone(self._backbones[name], name=name)
        return self._loaded[name]

    def put_to_work(self, name: str) -> LoadedBackbone:
        """Return a backbone on the device that phases run on."""
        loaded = self.get(name)
        if self._device != "cpu":
            if self._placement is None:
                self._placement = Placement(self._device, CudaMemory())
            self._placement.put_to_work(loaded)
        return loaded

    def make_room(self) -> bool:
        """Move all backbones but the current one off the device; return whether any was moved."""
        return self._placement is not None and self._placement.make_room()


def _pool(backbones: Mapping[str, Backbone], device: str) -> BackbonePool:
    return BackbonePool(backbones, device=device)
