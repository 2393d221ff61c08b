"""Loads a frozen backbone with its tokenizer and one LoRA slot.

A source is first resolved to a local folder (embedded, on disk, in the hub's cache, or downloaded),
and transformers is given folders only. So it opens no connections, and an unreachable hub is
noticed within three seconds instead of after the 23-47 s of its retries.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from knexa.backbones import lora as _lora
from knexa.backbones.roster import EMBEDDED_PREFIX, Backbone, Family, Roster
from knexa.errors import UserError, first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor

log = logging.getLogger(__name__)

PROBE_SECONDS = 3.0
"""How long the hub may take to accept a connection before it counts as unreachable."""

_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.bin"]
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")


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
        adapter_parameters: The slot's parameters by PEFT's on-disk names.
    """

    name: str
    family: Family
    model: Any
    tokenizer: Any
    num_parameters: int
    num_trainable: int
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
    with _quiet_transformers():
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


def check_available(roster: Roster) -> None:
    """Check, without loading or downloading, that every backbone in use is available.

    Raises:
        UserError: One line that names everything that is missing and what to set.
    """
    missing: dict[str, str] = {}
    reason = ""
    for name in roster.used_backbones:
        backbone = roster.backbones[name]
        if _local_folder(backbone, name) is None:
            if not reason:
                reason = _why_offline()
            if reason:
                missing[name] = _label(backbone)
    if missing:
        raise UserError(_missing_message(missing, reason))


def resolve_source(backbone: Backbone, *, name: str) -> Path:
    """Return the local folder with a backbone's files, downloading them if the hub answers.

    Raises:
        UserError: The folder does not exist, or the model is not cached and there is no network.
    """
    folder = _local_folder(backbone, name)
    if folder is not None:
        return folder
    reason = _why_offline()
    if reason:
        raise UserError(_missing_message({name: _label(backbone)}, reason))
    log.info("downloading %s", _label(backbone))
    try:
        return _snapshot(backbone)
    except Exception as error:
        # The hub's client raises many kinds of errors (HTTP, disk, authorization).
        reason = first_line(error) or repr(error)
        raise UserError(
            f"backbone {name!r}: cannot download {_label(backbone)}: {reason}; {_advice(name)}"
        ) from error


def _local_folder(backbone: Backbone, name: str) -> Path | None:
    """Return the folder of a source that needs no network, None for a hub id that is not cached."""
    source = backbone.source
    if source.startswith(EMBEDDED_PREFIX):
        from knexa.backbones.embedded import embedded_path

        return embedded_path(source.removeprefix(EMBEDDED_PREFIX))
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise UserError(
            f"roster.backbones.{name}.source={source!r} is no folder; allowed are an existing "
            f"folder, a hub id such as 'Qwen/Qwen1.5-0.5B', or '{EMBEDDED_PREFIX}NAME'"
        )
    return _cached_snapshot(backbone)


def _cached_snapshot(backbone: Backbone) -> Path | None:
    """Return the cached snapshot of a hub id when it is complete enough to load."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = _snapshot(backbone, local_files_only=True)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None
    complete = (
        (folder / "config.json").is_file()
        and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)
        and any((folder / file).is_file() for file in _TOKENIZERS)
    )
    return folder if complete else None


def _snapshot(backbone: Backbone, *, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    path: str = snapshot_download(
        backbone.source,
        revision=backbone.revision,
        allow_patterns=_FILES,
        local_files_only=local_files_only,
    )
    return Path(path)


def _why_offline() -> str:
    """Return why the hub cannot be used, or an empty string when it accepts connections."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    endpoint = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    if _answers(endpoint.hostname or "", port, PROBE_SECONDS):
        return ""
    return f"no connection to {endpoint.hostname} within {PROBE_SECONDS:g} s"


def _answers(host: str, port: int, seconds: float) -> bool:
    """Return whether a TCP connection, name resolution included, opens in time."""
    connected = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError:
            return
        connected.set()

    # getaddrinfo has no timeout, so the attempt runs in a thread that may outlive this call.
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(seconds)
    return connected.is_set()


def _label(backbone: Backbone) -> str:
    return backbone.source + (f"@{backbone.revision[:8]}" if backbone.revision else "")


def _advice(name: str) -> str:
    return (
        f"set HF_HOME to a cache with it (and HF_HUB_OFFLINE=1), or "
        f"roster.backbones.{name}.source=DIR, or use roster=tiny6"
    )


def _missing_message(missing: Mapping[str, str], reason: str) -> str:
    labels = ", ".join(missing.values())
    advice = _advice(next(iter(missing)) if len(missing) == 1 else "<name>")
    verb = "is" if len(missing) == 1 else "are"
    return (
        f"{labels} {verb} neither in the Hugging Face cache nor downloadable ({reason}): {advice}"
    )


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


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Hide the library's progress bar for loading weights."""
    from transformers.utils import logging

    library: Any = logging

    enabled = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            library.enable_progress_bar()
