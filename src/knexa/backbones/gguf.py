"""Models in GGUF files: dequantised once, into the model cache, and loaded from there.

The weights are stored in float32, which holds every value that a GGUF file can hold exactly:
dequantised bfloat16 would be a second rounding (docs/models.md has what it costs).
"""

import importlib.util
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from knexa.backbones import model_cache
from knexa.backbones.model_cache import Manifest, sha256_of
from knexa.backbones.progress import bars_on_terminals, quiet_transformers
from knexa.errors import UserError, first_line

log = logging.getLogger(__name__)

_MAGIC = b"GGUF"
_NAME_DIGITS = 16


def check_installed() -> None:
    """Check that GGUF files can be read.

    Raises:
        UserError: The package that reads them is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise UserError("GGUF files are read by the package gguf: pip install 'knexa[gguf]'")


def converted(file: Path, sha256: str | None = None) -> Path:
    """Return the folder of the model in a GGUF file, which is made at first use.

    Args:
        file: The file.
        sha256: What its digest must be, in hex; None takes any.

    Raises:
        UserError: There is no such file, it is another one, or no model can be made of it.
    """
    if not file.is_file():
        raise UserError(f"gguf:{file}: there is no such file")
    status = file.stat()
    digest = _digest(file, status.st_size, status.st_mtime_ns)
    if sha256 not in (None, digest):
        raise UserError(
            f"gguf:{file} has the SHA-256 {digest}, and revision={sha256} pins another file: "
            "correct the one or the other"
        )
    name = f"gguf-{digest[:_NAME_DIGITS]}"
    if model_cache.read_manifest(name) is None:
        with model_cache.making(name) as work:
            if model_cache.read_manifest(name) is None:  # no other process has made it meanwhile
                log.info("dequantising %s, once", file)
                convert(file, work, name, source=file.name, sha256=digest)
    return model_cache.models_folder() / name


def convert(file: Path, work: Path, name: str, *, source: str, sha256: str) -> Manifest:
    """Make the model of the cache with that name out of a GGUF file.

    Takes about twice the memory of the model in float32.

    Args:
        file: The file.
        work: The folder that ``model_cache.making(name)`` gave.
        name: The model's name.
        source: What the manifest says it was made from.
        sha256: The file's digest, in hex.

    Raises:
        UserError: The file is cut, damaged or of an architecture that is not supported, lacks
            weights, or its tokenizer has no end-of-text token.
    """
    check_installed()
    _check_whole(file)
    with quiet_transformers(), bars_on_terminals():
        tokenizer, model = _read(file)
        made = work / "model"
        tokenizer.save_pretrained(made)
        model.save_pretrained(made)
    return model_cache.keep(made, name, source=source, sha256=sha256)


def _check_whole(file: Path) -> None:
    """Check that the file is GGUF and that all its tensors are in it."""
    from gguf import GGUFReader

    with file.open("rb") as content:
        if content.read(len(_MAGIC)) != _MAGIC:
            raise UserError(f"{file} is no GGUF file")
    try:
        GGUFReader(file)
    except Exception as error:  # of numpy, for the most part, about sizes and shapes
        reason = first_line(error) or repr(error)
        raise UserError(f"{file} is cut or damaged ({reason}): get it again") from error


def _read(file: Path) -> tuple[Any, Any]:
    """Return the tokenizer, and the model in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    factory: Any = AutoModelForCausalLM
    place: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **place)
        if tokenizer.eos_token is None:
            raise UserError(
                f"{file}: its tokenizer has no end-of-text token (tokenizer.ggml.eos_token_id), "
                "which every training sequence ends in"
            )
        quantized, report = factory.from_pretrained(
            file.parent, dtype=torch.float32, output_loading_info=True, **place
        )
    except UserError:
        raise
    except Exception as error:  # transformers raises many kinds for what it does not know
        raise UserError(
            f"{file} holds no causal language model that transformers can read: "
            f"{first_line(error) or repr(error)}"
        ) from error
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"{file} lacks {len(missing)} weights of its architecture: {missing[0]}")
    # A model that was read from GGUF cannot be saved, so a plain one takes over its tensors.
    with torch.device("meta"):
        model = factory.from_config(quantized.config)
    model.load_state_dict(quantized.state_dict(), assign=True)
    model.tie_weights()
    return tokenizer, model


@lru_cache
def _digest(file: Path, num_bytes: int, changed_ns: int) -> str:
    """Return the file's SHA-256; size and time of change say whether it is the same file still."""
    del num_bytes, changed_ns
    return sha256_of(file)
