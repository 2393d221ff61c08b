"""Sizes and checksums of files, and JSON documents that hold a checksum of themselves."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knexa.tracking.files import encode_document

CHECKSUM = "checksum"
"""The key of a document's own checksum, which is that of the document without it."""
_CHUNK = 1 << 20


def entry(path: Path, num_bytes: int | None = None) -> dict[str, Any]:
    """Return size and SHA-256 (hex) of a file's first bytes, by default of all; 0 if missing."""
    digest, size = hashlib.sha256(), 0
    if path.exists():
        with path.open("rb") as file:
            while chunk := file.read(
                _CHUNK if num_bytes is None else min(_CHUNK, num_bytes - size)
            ):
                digest.update(chunk)
                size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with its own checksum, in place of one that it has."""
    plain = {key: value for key, value in document.items() if key != CHECKSUM}
    return plain | {CHECKSUM: hashlib.sha256(encode_document(plain)).hexdigest()}


def read_sealed(content: bytes) -> dict[str, Any] | None:
    """Return the document that was sealed and written, None if a byte of it has changed."""
    try:
        document = dict(json.loads(content))
        return document if encode_document(seal(document)) == content else None
    except (ValueError, TypeError, RecursionError):
        return None
