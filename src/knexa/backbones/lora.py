"""The LoRA slot of a frozen backbone: target layers by architecture, initial values, writing."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from knexa.backbones.roster import Family, Lora
from knexa.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ADAPTER_NAME = "default"
"""PEFT's default name, so that an exported adapter loads without a name."""

_GATED_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_FUSED_QKV = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")

# All linear layers of a block. PEFT's defaults are the query and value projections (or the fused
# one) only, a fraction of the paper's share of trainable parameters.
_TARGET_MODULES: dict[Family, tuple[str, ...]] = {
    "qwen2": _GATED_MLP,
    "llama": _GATED_MLP,
    "mistral": _GATED_MLP,
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "bloom": _FUSED_QKV,
    "gpt_neox": _FUSED_QKV,
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
}


def target_modules(family: Family) -> list[str] | str:
    """Return the names of the linear layers that carry LoRA in a family's blocks.

    Families that are not listed get PEFT's ``"all-linear"``: all linear layers but the output head.
    """
    names = _TARGET_MODULES.get(family)
    return "all-linear" if names is None else list(names)


def lora_config(lora: Lora, family: Family) -> Any:
    """Return the ``peft.LoraConfig`` of an adapter on a family's blocks."""
    from peft import LoraConfig

    modules = target_modules(family) if lora.target_modules is None else list(lora.target_modules)
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type,unused-ignore]
        lora_dropout=lora.dropout,
        target_modules=modules,
        # GPT-2 stores its linear layers as Conv1D, with the weight transposed.
        fan_in_fan_out=family == "gpt2",
        bias="none",
        task_type="CAUSAL_LM",
    )


def attach(base: Any, lora: Lora, family: Family) -> Any:
    """Wrap a model with one LoRA slot and freeze everything else; ``base`` is changed in place.

    Adapter weights are float32, whatever the base's type. The slot is set to
    ``initial_tensors(..., seed=0)``; the global random state is unchanged.

    Raises:
        UserError: ``lora.target_modules`` names no layer of this model.
    """
    import torch
    from peft import get_peft_model

    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # peft 0.21 asks for this property, which transformers 5 has renamed.
            warnings.filterwarnings(
                "ignore", r"`is_gradient_checkpointing` is deprecated", FutureWarning
            )
            model = get_peft_model(base, lora_config(lora, family), adapter_name=ADAPTER_NAME)
    except ValueError as error:
        wanted = "by architecture" if lora.target_modules is None else list(lora.target_modules)
        raise UserError(
            f"LoRA cannot attach to {base.config.model_type!r} with target_modules {wanted}: "
            f"{str(error).splitlines()[0]}; set lora.target_modules to layer names of the model"
        ) from error
    parameters = adapter_parameters(model)
    if all(not parameter.is_meta for parameter in parameters.values()):
        write_tensors(parameters, initial_tensors(parameters, seed=0))
    return model


def adapter_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the slot's parameters by the names that PEFT uses on disk, in the model's order."""
    suffix = f".{ADAPTER_NAME}"
    return {
        name.replace(f"{suffix}.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" in name and f"{suffix}." in name
    }


def initial_tensors(parameters: dict[str, torch.nn.Parameter], seed: int) -> dict[str, Tensor]:
    """Draw a fresh adapter: A Kaiming-uniform with a = sqrt(5), B zero, as PEFT does.

    The draw uses a CPU generator of its own, so it is the same on every device.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, parameter in parameters.items():
        tensor = torch.zeros(parameter.shape, dtype=torch.float32)
        if ".lora_A." in name:
            torch.nn.init.kaiming_uniform_(tensor, a=math.sqrt(5), generator=generator)
        tensors[name] = tensor
    return tensors


def write_tensors(parameters: dict[str, torch.nn.Parameter], tensors: dict[str, Tensor]) -> None:
    """Copy an adapter into the slot, in place.

    Raises:
        ValueError: The names or shapes are not exactly the slot's; nothing is written then.
    """
    import torch

    if parameters.keys() != tensors.keys():
        missing = sorted(parameters.keys() - tensors.keys())
        unknown = sorted(tensors.keys() - parameters.keys())
        raise ValueError(
            f"the adapter does not fit the backbone: {len(missing)} tensors missing "
            f"{missing[:1]}, {len(unknown)} unknown {unknown[:1]}"
        )
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            raise ValueError(
                f"the adapter does not fit the backbone: {name} has shape "
                f"{tuple(tensors[name].shape)}, expected {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
