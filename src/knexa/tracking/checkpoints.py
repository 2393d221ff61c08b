"""The latest round's state on disk: complete and checked, or not there.

A checkpoint is a folder that its owner fills, plus ``manifest.json`` with the round and the SHA-256
of every file. It is written beside the current one and swapped in by renames. The one before it
stays until the run ends, so that a damaged disk block costs a round and not the run.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from knexa.tracking.files import encode_document, sync_file, sync_folder, write_atomically

log = logging.getLogger(__name__)

CURRENT, PREVIOUS, INCOMPLETE = "checkpoint", "checkpoint.previous", "checkpoint.tmp"
MANIFEST = "manifest.json"


class Checkpoints:
    """The checkpoint folders of one run directory."""

    def __init__(self, run_path: Path) -> None:
        self._run_path = run_path
        self._damaged: set[str] = set()

    def write(self, round: int, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill an empty folder and make it the current checkpoint; return its path.

        Equal runs must write equal bytes: nothing of time, process or place may enter.
        """
        incomplete, current, previous = (
            self._run_path / name for name in (INCOMPLETE, CURRENT, PREVIOUS)
        )
        shutil.rmtree(incomplete, ignore_errors=True)
        incomplete.mkdir(parents=True)
        write(incomplete)
        self._seal(incomplete, round)
        if current.exists():
            if CURRENT in self._damaged:  # never let a damaged one take the place of a good one
                shutil.rmtree(current)
                self._damaged.clear()
            else:
                shutil.rmtree(previous, ignore_errors=True)
                current.rename(previous)
        incomplete.rename(current)
        sync_folder(self._run_path)
        return current

    def latest(self) -> tuple[int, Path] | None:
        """Return (round, folder) of the newest checkpoint whose checksums hold, or None."""
        for name in (CURRENT, PREVIOUS):
            folder = self._run_path / name
            if not folder.exists():
                continue
            problem = _damage(folder)
            if problem is None:
                if name == PREVIOUS:
                    log.warning("going on from the checkpoint before the last one: %s", folder)
                return int(json.loads((folder / MANIFEST).read_text())["round"]), folder
            self._damaged.add(name)
            log.warning("checkpoint %s is damaged (%s)", folder, problem)
        return None

    def drop_spares(self) -> None:
        """Remove what a finished run no longer needs: all but the current checkpoint."""
        if (self._run_path / CURRENT).exists():
            for name in (PREVIOUS, INCOMPLETE):
                shutil.rmtree(self._run_path / name, ignore_errors=True)

    @staticmethod
    def _seal(folder: Path, round: int) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            sync_file(path)
        entries = {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": _sha256(path),
            }
            for path in files
        }
        for path in folder.rglob("*"):
            if path.is_dir():
                sync_folder(path)
        write_atomically(folder / MANIFEST, encode_document({"round": round, "files": entries}))


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        int(manifest["round"])
        for name, entry in manifest["files"].items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != entry["bytes"] or _sha256(path) != entry["sha256"]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST}: {error}"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
