"""Decode with the adapter folded into the frozen weights: two products a layer fewer, every token.

The folded weights are new tensors that stand in for the frozen ones and are dropped afterwards, so
the backbone comes back bit for bit, which adding and subtracting an update would not give.
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
    """Fold the slot's adapter into the backbone within the context.

    Float32 backbones alone are folded: in half precision the sum would round the adapter away.
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
