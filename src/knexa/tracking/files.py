"""Durable files and deterministic JSON: what every file of the run directory is written with."""

import errno
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from knexa.errors import UserError

R = TypeVar("R")

log = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_disk_full(error: BaseException) -> bool:
    """Return whether a write failed because the disk is full or a quota or limit is reached."""
    return isinstance(error, OSError) and error.errno in _FULL


def plain(value: Any) -> Any:
    """Return ``value`` as plain JSON data: arrays and tuples as lists, NaN and inf as None."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(item) for item in value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, tensors on the CPU
        return plain(value.tolist())
    raise TypeError(f"{type(value).__name__} is not JSON data: {value!r}")


def encode_row(row: Mapping[str, Any]) -> bytes:
    """Return one JSON line, keys in the given order, floats by ``repr``."""
    return (json.dumps(plain(row), allow_nan=False, separators=(", ", ": ")) + "\n").encode()


def encode_document(document: Mapping[str, Any]) -> bytes:
    """Return a JSON document with sorted keys and an indent of two."""
    return (json.dumps(plain(document), allow_nan=False, indent=2, sort_keys=True) + "\n").encode()


def sync_folder(path: Path) -> None:
    """Make the folder's entries (a rename in it) survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file's content survive a power cut; a missing file is no error."""
    if path.exists():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` atomically: after a crash it has the old content or the new."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines in one write, so that a crash leaves at most the last lines incomplete."""
    content = b"".join(lines)
    if content:
        with path.open("ab") as file:
            file.write(content)


def read_rows(path: Path, parse: Callable[[bytes], R]) -> list[R]:
    """Return the parsed lines of a JSONL file; an incomplete last line is left out.

    Raises:
        UserError: A line other than the last is damaged: ``parse`` raised ValueError or TypeError.
    """
    return [row for _, row in _lines(path, parse, drop_damaged=False)]


def truncate_rows(path: Path, last_round: int, *, drop_damaged: bool = False) -> int:
    """Drop rows after ``last_round`` and an incomplete last line; return how many were dropped.

    A row without a round stays unless ``last_round`` is negative.

    Args:
        path: A JSONL file, which need not exist.
        last_round: The last round to keep.
        drop_damaged: Drop damaged lines, too, with a warning.

    Raises:
        UserError: A line other than the last is damaged and may not be dropped.
    """
    lines = _lines(path, _round_of, drop_damaged=drop_damaged)
    kept = [line + b"\n" for line, round in lines if round <= last_round]
    if path.exists() and b"".join(kept) != path.read_bytes():
        write_atomically(path, b"".join(kept))
    return len(lines) - len(kept)


def _round_of(line: bytes) -> int:
    return int(dict(json.loads(line)).get("round") or 0)


def _lines(path: Path, parse: Callable[[bytes], R], *, drop_damaged: bool) -> list[tuple[bytes, R]]:
    """Return the complete lines of a JSONL file with what each holds."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found: list[tuple[bytes, R]] = []
    for index, line in enumerate(lines):
        try:
            found.append((line, parse(line)))
        except (ValueError, TypeError) as error:
            if index == len(lines) - 1:
                break  # the incomplete end of a killed run
            if not drop_damaged:
                raise UserError(
                    f"{path}: line {index + 1} is damaged; run again with rerun=true to replace "
                    "the run"
                ) from error
            log.warning("%s: line %d is damaged and left out", path, index + 1)
    return found
