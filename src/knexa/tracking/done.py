"""``DONE``: sizes and checksums of a finished run's files, which whoever reads the run checks.

Equal runs have equal bytes in ``DONE``. So ``environment.json`` and ``timings.jsonl``, which
differ, are only named there: ``environment.json`` holds the checksums of both. Plots and mirrors
are not covered, because they can be made again from what is.
"""

import os
import stat
from pathlib import Path
from typing import Any

from knexa.errors import UserError
from knexa.tracking.checksums import entry, read_sealed, seal
from knexa.tracking.files import encode_document

FILES = (
    "config.yaml",
    "rounds.jsonl",
    "exchanges.jsonl",
    "regret.jsonl",
    "samples.jsonl.zst",
    "summary.json",
)
"""The files whose checksums ``DONE`` holds beside those of ``checkpoint/``."""
ENVIRONMENT, TIMINGS = "environment.json", "timings.jsonl"
_CHECKPOINT = "checkpoint"
_CHANGED = "is not what the run wrote (its checksum differs)"
_MEND = "restore it from a copy, or run the command again with rerun=true"
_REMAKE = (
    "restore it from a copy, or remove it and type the run's command again, which makes the "
    "end of the run anew from its checkpoint"
)


def contents(run: Path) -> bytes:
    """Return what ``DONE`` is to hold of the run as it is now."""
    paths = [run / name for name in FILES] + _checkpoint_files(run)
    document = {
        "files": {_name(run, path): entry(path) if path.exists() else None for path in paths},
        "named": [name for name in (ENVIRONMENT, TIMINGS) if (run / name).exists()],
    }
    return encode_document(seal(document))


def verify(run: Path) -> None:
    """Check every file of a finished run.

    Raises:
        UserError: One line for the first file that is missing, or not what the run wrote.
    """
    document = _read(run / "DONE")
    files, named = document["files"], document["named"]
    for name, expected in files.items():
        _check(run / name, expected)
    for path in _checkpoint_files(run):
        if _name(run, path) not in files:
            raise _damaged(path, "was not there when the run ended")
    if ENVIRONMENT in named:
        environment = read_sealed(_read_bytes(run / ENVIRONMENT)) or {}
        if environment.get("status") != "finished":
            raise _damaged(run / ENVIRONMENT, _CHANGED)
        if TIMINGS in named:
            _check(run / TIMINGS, environment["timings"])


def _read(path: Path) -> dict[str, Any]:
    content = _read_bytes(path, _REMAKE)
    if not content:
        raise _damaged(
            path, "holds no checksums (it was emptied, or is of an older version)", _REMAKE
        )
    document = read_sealed(content) or {}
    if not ({"files", "named"} <= document.keys() and {*FILES} <= document["files"].keys()):
        raise _damaged(path, "is damaged", _REMAKE)
    return document


def _read_bytes(path: Path, mend: str = _MEND) -> bytes:
    _check_is_file(path, mend)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})", mend) from error


def _check(path: Path, expected: dict[str, Any] | None) -> None:
    """Compare a file with what was recorded of it; None: it was not there."""
    if expected is None:
        if os.path.lexists(path):
            raise _damaged(path, "was not there when the run ended", "remove it")
        return
    size = _check_is_file(path, _MEND)
    if size != expected["bytes"]:
        raise _damaged(path, f"has {size:,} bytes, and {expected['bytes']:,} when the run ended")
    try:
        found = entry(path)
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from error
    if found != expected:
        raise _damaged(path, _CHANGED)


def _check_is_file(path: Path, mend: str) -> int:
    """Return a file's size."""
    try:
        found = path.stat()
    except OSError as error:
        what = "is a link to nothing" if path.is_symlink() else "is missing"
        known = isinstance(error, FileNotFoundError)
        what = what if known else f"cannot be read ({error.strerror})"
        raise _damaged(path, what, mend) from error
    if not stat.S_ISREG(found.st_mode):
        raise _damaged(path, "is no file any more", mend)
    return found.st_size


def _damaged(path: Path, what: str, mend: str = _MEND) -> UserError:
    return UserError(f"{path} {what}: {mend}")


def _checkpoint_files(run: Path) -> list[Path]:
    return sorted(path for path in (run / _CHECKPOINT).rglob("*") if not path.is_dir())


def _name(run: Path, path: Path) -> str:
    return path.relative_to(run).as_posix()
