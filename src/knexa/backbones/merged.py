"""Merges the adapter into the frozen weights while decoding: two products fewer a layer and token.

The merged weights are new tensors that replace the frozen ones and are dropped afterwards, so the
backbone is restored bit for bit; adding and subtracting the update would not do that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

from knexa.backbones.load import LoadedBackbone
from knexa.backbones.lora import ADAPTER_NAME


@contextmanager
def merged(loaded: LoadedBackbone) -> Iterator[None]:
    """Merge the slot's adapter into the backbone within the context.

    Only float32 backbones are merged: in half precision rounding would lose the adapter.
    """
    layers: list[Any] = [m for m in loaded.model.modules() if isinstance(m, LoraLayer)]
    frozen = [layer.get_base_layer().weight for layer in layers]
    if any(weight.dtype != torch.float32 for weight in frozen):
        yield
        return
    originals = [weight.data for weight in frozen]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, frozen, strict=True):
                weight.data = weight.data + layer.get_delta_weight(ADAPTER_NAME)
                layer.merged_adapters.append(ADAPTER_NAME)
        yield
    finally:
        for layer, weight, original in zip(layers, frozen, originals, strict=True):
            weight.data = original
            layer.merged_adapters.clear()
