"""Loads a frozen backbone with its tokenizer and one LoRA slot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.backbones import lora as _lora
from knexa.backbones.progress import quiet_transformers
from knexa.backbones.roster import Backbone, Family
from knexa.backbones.sources import resolve_source
from knexa.errors import UserError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedBackbone:
    """A frozen model with one adapter slot; agents take turns in the slot.

    Attributes:
        name: The backbone's name in the roster.
        family: Its architecture family.
        model: The ``peft.PeftModel``; only LoRA parameters require gradients.
        tokenizer: Its own tokenizer, with a padding token.
        num_parameters: All parameters, adapter included, tied ones counted once.
        num_trainable: Parameters of the adapter.
        max_length: Tokens of its sequences at most, solutions included; None is the run's limits.
        adapter_parameters: The slot's parameters by PEFT's on-disk names.
    """

    name: str
    family: Family
    model: Any
    tokenizer: Any
    num_parameters: int
    num_trainable: int
    max_length: int | None
    adapter_parameters: dict[str, torch.nn.Parameter] = field(repr=False)

    @cached_property
    def compiled(self) -> Any:
        """The model, compiled once when first called, for batches of any size and length."""
        import torch

        return torch.compile(self.model, dynamic=True)


def load_backbone(
    backbone: Backbone, *, name: str | None = None, dtype: str | None = None
) -> LoadedBackbone:
    """Load a backbone into the host's memory and attach its adapter slot.

    Args:
        backbone: What to load.
        name: Its name in the roster (for messages); None takes the source.
        dtype: Type of the frozen weights in memory; None takes ``backbone.dtype``.

    Raises:
        UserError: The source is not available, or differs from its description in the roster.
    """
    import torch
    from transformers import AutoModelForCausalLM

    name = backbone.source if name is None else name
    folder = resolve_source(backbone, name=name)
    with quiet_transformers():
        try:
            tokenizer = _load_tokenizer(folder)
            base: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype or backbone.dtype), local_files_only=True
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"backbone {name!r}: {folder} holds no causal language model that can be loaded: "
                f"{first_line(error) or repr(error)}"
            ) from error
    return wrap(base, tokenizer, backbone, name=name)


def tokenizer_class(folder: Path) -> str:
    """Return the class of transformers that loads a folder's tokenizer as it was saved.

    For some architectures (Qwen2 among them) transformers 5's ``AutoTokenizer`` ignores a plain
    ``tokenizer.json`` and uses the class of the model's family, which splits text differently from
    how the model was trained.
    """
    settings = folder / "tokenizer_config.json"
    saved = json.loads(settings.read_text()).get("tokenizer_class") if settings.is_file() else None
    plain = saved in ("TokenizersBackend", "PreTrainedTokenizerFast")
    return "PreTrainedTokenizerFast" if plain else "AutoTokenizer"


def _load_tokenizer(folder: Path) -> Any:
    import transformers

    loader: Any = getattr(transformers, tokenizer_class(folder))
    # Sequences are truncated elsewhere; the tokenizer's warning about length would mislead.
    return loader.from_pretrained(folder, local_files_only=True, model_max_length=1 << 30)


def wrap(base: Any, tokenizer: Any, backbone: Backbone, *, name: str) -> LoadedBackbone:
    """Attach the adapter slot to a model that is already in memory (changed in place).

    Raises:
        UserError: The model's architecture is not ``backbone.family``, or its tokenizer has no
            end-of-text token.
    """
    model_type = base.config.model_type
    if backbone.family not in ("other", model_type):
        raise UserError(
            f"roster.backbones.{name}.family is {backbone.family!r} but the model in "
            f"{backbone.source} is {model_type!r}; set family to it, or to 'other'"
        )
    _ensure_special_tokens(base, tokenizer, name)
    model = _lora.attach(base, backbone.lora, backbone.family)
    model.eval()
    parameters = _lora.adapter_parameters(model)
    return LoadedBackbone(
        name=name,
        family=backbone.family,
        model=model,
        tokenizer=tokenizer,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        max_length=backbone.max_length,
        adapter_parameters=parameters,
    )


def adapter_state(loaded: LoadedBackbone) -> dict[str, Tensor]:
    """Return a copy of the slot's tensors: float32, on the CPU, in the model's order."""
    import torch

    return {
        name: parameter.detach().to("cpu", torch.float32, copy=True)
        for name, parameter in loaded.adapter_parameters.items()
    }


def load_adapter(loaded: LoadedBackbone, tensors: Mapping[str, Tensor]) -> None:
    """Copy an agent's adapter into the slot, in place.

    Raises:
        ValueError: Names or shapes are not exactly the slot's; the slot is unchanged then.
    """
    _lora.write_tensors(loaded.adapter_parameters, dict(tensors))


def initial_adapter(loaded: LoadedBackbone, seed: int) -> dict[str, Tensor]:
    """Return a fresh adapter (A Kaiming-uniform, B zero), the same for the same seed everywhere."""
    return _lora.initial_tensors(loaded.adapter_parameters, seed)


def _ensure_special_tokens(base: Any, tokenizer: Any, name: str) -> None:
    if tokenizer.eos_token is None:  # every training sequence ends in it
        raise UserError(
            f"backbone {name!r}: its tokenizer has no end-of-text token; add eos_token to its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if base.config.pad_token_id is None:
        base.config.pad_token_id = tokenizer.pad_token_id
    if getattr(base, "generation_config", None) is not None:
        base.generation_config.pad_token_id = tokenizer.pad_token_id
