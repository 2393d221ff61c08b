"""Models of the Hugging Face hub: what its cache holds, and downloads into it by pinned revisions.

An unreachable hub is noticed within three seconds instead of after the 23-47 s of its retries.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from knexa.backbones.progress import bars_on_terminals
from knexa.backbones.roster import Backbone
from knexa.errors import UserError, first_line

PROBE_SECONDS = 3.0
"""How long the hub may take to accept a connection before it counts as unreachable."""

_FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "tokenizer.model")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a model that a run needs.

    Attributes:
        files: Their names in the repository.
        num_bytes: Their size together.
        missing_bytes: What of it is not in the cache; a file that is there in part counts whole.
    """

    files: tuple[str, ...]
    num_bytes: int
    missing_bytes: int


def label(backbone: Backbone) -> str:
    """Return the hub id with the first digits of its revision."""
    return backbone.source + (f"@{backbone.revision[:8]}" if backbone.revision else "")


def cached_snapshot(backbone: Backbone) -> Path | None:
    """Return the cached snapshot of a hub id when it is complete enough to load."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(_snapshot(backbone, _FILES, local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None
    complete = (
        (folder / "config.json").is_file()
        and any(any(folder.glob(pattern)) for pattern in _WEIGHTS)
        and any((folder / file).is_file() for file in _TOKENIZERS)
        and all((folder / file).is_file() for file in _shards(folder))
    )
    return folder if complete else None


def _shards(folder: Path) -> set[str]:
    """Return the files that an index of weights in several files names."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return set()
    return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())


def list_files(backbone: Backbone) -> Listing:
    """Ask the hub which files a model consists of; weights in one format suffice.

    Raises:
        UserError: The hub refuses, or has no such model or revision.
    """
    found = _asking(backbone, lambda: _snapshot(backbone, _FILES, plan=True))
    files = [file for file in found if "/" not in file.filename]
    if any(fnmatch(file.filename, _WEIGHTS[0]) for file in files):
        files = [file for file in files if not fnmatch(file.filename, "*.bin")]
    return Listing(
        files=tuple(file.filename for file in files),
        num_bytes=sum(file.file_size or 0 for file in files),
        missing_bytes=sum(file.file_size or 0 for file in files if file.will_download),
    )


def download(backbone: Backbone, listing: Listing | None = None) -> Path:
    """Download a model's files, going on where an earlier download ended; return their folder.

    Raises:
        UserError: The hub refuses, or has no such model or revision.
    """
    files = (listing or list_files(backbone)).files
    with bars_on_terminals():
        return Path(_asking(backbone, lambda: _snapshot(backbone, files)))


def why_offline() -> str:
    """Return why the hub cannot be used, or an empty string when it accepts connections."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE"):
        return "HF_HUB_OFFLINE is set"
    endpoint = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    if _answers(endpoint.hostname or "", port, PROBE_SECONDS):
        return ""
    return f"no connection to {endpoint.hostname} within {PROBE_SECONDS:g} s"


def _snapshot(
    backbone: Backbone, files: Sequence[str], *, local_files_only: bool = False, plan: bool = False
) -> Any:
    from huggingface_hub import snapshot_download

    return snapshot_download(
        backbone.source,
        revision=backbone.revision,
        allow_patterns=list(files),
        local_files_only=local_files_only,
        dry_run=plan,
    )


def _asking(backbone: Backbone, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:
        # The hub's client raises many kinds of errors (HTTP, disk, authorization).
        reason = first_line(error) or repr(error)
        raise UserError(f"cannot download {label(backbone)}: {reason}") from error


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
