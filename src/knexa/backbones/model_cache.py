"""Models that knexa made from GGUF files: a folder each in the user's cache.

    $XDG_CACHE_HOME/knexa/models/NAME    (~/.cache/knexa/models/NAME where the variable is not set)

A model is made in ``.NAME.tmp``, under a lock, and renamed when it is complete, so that what a
killed process leaves is never taken for a model; the next attempt removes it. Its manifest says
what it was made from and how large each file is.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knexa.data.user_cache import cache_folder
from knexa.tracking.files import encode_document, sync_file, sync_folder

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a model of the cache is.

    Attributes:
        source: What it was made from, in words.
        sha256: Digest of the GGUF file that it was made from, in hex.
        versions: Versions of the packages that made it.
        files: Size of each file, in bytes, by name.
    """

    source: str
    sha256: str
    versions: Mapping[str, str]
    files: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """Size of all files together."""
        return sum(self.files.values())


def sha256_of(file: Path) -> str:
    """Return the digest of a file, in hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def models_folder() -> Path:
    """Return the folder of all models, which need not exist."""
    return cache_folder() / "models"


def model_names() -> list[str]:
    """Return the sorted names of what the cache holds, complete or not."""
    folder = models_folder()
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


def read_manifest(name: str) -> Manifest | None:
    """Return the manifest of a model whose files are all there and whole, else None."""
    folder = models_folder() / name
    try:
        document: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        manifest = Manifest(**document)
        is_whole = all(
            (folder / file).stat().st_size == size for file, size in manifest.files.items()
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return manifest if is_whole else None


@contextmanager
def making(name: str) -> Iterator[Path]:
    """Yield an empty folder to make a model in, removed at the end; one process at a time has it.

    ``keep`` makes a model of what is in a folder inside it.
    """
    folder = models_folder()
    folder.mkdir(parents=True, exist_ok=True)
    work = folder / f".{name}.tmp"
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def keep(made: Path, name: str, *, source: str, sha256: str) -> Manifest:
    """Make a folder's files the model of that name, in place of an earlier or incomplete one."""
    files = {path.name: path.stat().st_size for path in sorted(made.iterdir())}
    manifest = Manifest(source=source, sha256=sha256, versions=_versions(), files=files)
    (made / MANIFEST).write_bytes(encode_document(vars(manifest)))
    for path in made.iterdir():
        sync_file(path)
    place = models_folder() / name
    shutil.rmtree(place, ignore_errors=True)
    made.rename(place)
    sync_folder(place.parent)
    return manifest


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {package: version(package) for package in ("gguf", "knexa", "torch", "transformers")}
