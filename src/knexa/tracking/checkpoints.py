"""Checkpoints of a run: written atomically, and verified by checksums when they are read.

A checkpoint is a folder that the caller fills, plus ``manifest.json``: the round, and size and
SHA-256 of every file in the folder and of the rows that the run had written by then, so that later
damage to either is noticed. It is written beside the current one and renamed into place. The one
before it is kept until the run ends, so that a damaged disk block costs a round and not the run.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knexa.errors import UserError
from knexa.tracking.checksums import entry, seal
from knexa.tracking.files import encode_document, sync_file, sync_folder, write_atomically

log = logging.getLogger(__name__)

CURRENT, PREVIOUS, INCOMPLETE = "checkpoint", "checkpoint.previous", "checkpoint.tmp"
MANIFEST = "manifest.json"
_FIRST_KEYS = {"round", "files"}  # keys of older manifests, which say nothing of rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint whose checksums hold.

    Attributes:
        round: The round that it was written after.
        folder: Where its files are.
        rows: By rows file, size and SHA-256 at that moment; empty where that was not recorded.
    """

    round: int
    folder: Path
    rows: dict[str, dict[str, Any]]


class Checkpoints:
    """The checkpoint folders of one run directory.

    Args:
        run_path: The run directory.
    """

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path
        self._damaged: set[str] = set()

    def write(
        self, round: int, write: Callable[[Path], None], rows: Mapping[str, Mapping[str, Any]]
    ) -> Path:
        """Let ``write`` fill an empty folder and make it the current checkpoint; return its path.

        Equal runs must write equal bytes: nothing of time, process or place may enter. ``rows``
        holds size and SHA-256 of every rows file by name.
        """
        incomplete, current, previous = (
            self._run_path / name for name in (INCOMPLETE, CURRENT, PREVIOUS)
        )
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(parents=True)
        write(incomplete)
        _seal(incomplete, round, rows)
        if current.exists():
            if CURRENT in self._damaged:  # a damaged one must not replace a good one
                shutil.rmtree(current)
                self._damaged.clear()
            else:
                shutil.rmtree(previous, ignore_errors=True)
                current.rename(previous)
        incomplete.rename(current)
        sync_folder(self._run_path)
        return current

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint whose own files match their checksums, or None."""
        return next(iter(self._intact()), None)

    def to_resume(self) -> Checkpoint | None:
        """Return the newest checkpoint that is intact, as are the rows before it, or None.

        Raises:
            UserError: There is an intact checkpoint, but the rows before it are damaged.
        """
        broken: Path | None = None
        for checkpoint in self._intact():
            damaged = self._damaged_rows(checkpoint)
            if damaged is None:
                return checkpoint
            broken = broken or damaged
            self._damaged.add(checkpoint.folder.name)
            log.warning(
                "%s is damaged: it no longer begins with what the checkpoint of round %d sealed",
                damaged,
                checkpoint.round,
            )
        if broken is not None:
            raise UserError(
                f"{broken} is damaged, and no checkpoint is from before the damage: add rerun=true "
                "to run again from the beginning"
            )
        if self._damaged:
            log.warning("no intact checkpoint is left: the run starts from the beginning")
        return None

    def _intact(self) -> Iterator[Checkpoint]:
        for name in (CURRENT, PREVIOUS):
            folder = self._run_path / name
            if not folder.exists():
                continue
            try:
                checkpoint = _verified(folder)
            except _DamagedError as problem:
                self._damaged.add(name)
                log.warning("checkpoint %s is damaged (%s)", folder, problem)
                continue
            if name == PREVIOUS:
                log.warning("going on from the checkpoint before the last one: %s", folder)
            yield checkpoint

    def _damaged_rows(self, checkpoint: Checkpoint) -> Path | None:
        """Return the first rows file that no longer begins with what the checkpoint recorded."""
        for name, recorded in checkpoint.rows.items():
            path = self._run_path / name
            if entry(path, recorded["bytes"]) != recorded:
                return path
        return None

    def drop_spares(self) -> None:
        """Remove all but the current checkpoint."""
        if (self._run_path / CURRENT).exists():
            for name in (PREVIOUS, INCOMPLETE):
                shutil.rmtree(self._run_path / name, ignore_errors=True)


def _seal(folder: Path, round: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        sync_file(path)
    manifest = {
        "round": round,
        "files": {path.relative_to(folder).as_posix(): entry(path) for path in files},
        "rows": rows,
    }
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    write_atomically(folder / MANIFEST, encode_document(seal(manifest)))


class _DamagedError(Exception):
    """What is wrong with a checkpoint."""


def _verified(folder: Path) -> Checkpoint:
    """Return the checkpoint in a folder if all checksums match."""
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_bytes()))
        if set(manifest) != _FIRST_KEYS and manifest != seal(manifest):
            raise _DamagedError(f"{MANIFEST} does not match its checksum")
        for name, recorded in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                raise _DamagedError(f"{name} is missing")
            if entry(path) != recorded:
                raise _DamagedError(f"{name} does not match its checksum")
        rows = dict(manifest.get("rows", {}))
        return Checkpoint(round=int(manifest["round"]), folder=folder, rows=rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _DamagedError(f"{MANIFEST}: {type(error).__name__}: {error}") from error
