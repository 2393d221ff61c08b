"""The run directory: a contract that other tools read ("The run directory" in docs/concepts.md).

Equal runs write equal bytes in every file but ``timings.jsonl`` and ``environment.json`` (and the
mirror in ``wandb/``), so no time, process id or path is written anywhere else.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from knexa.errors import UserError
from knexa.tracking import files
from knexa.tracking.checkpoints import Checkpoints
from knexa.tracking.environment import describe_environment, now
from knexa.tracking.files import Row

RowsName = Literal["rounds", "exchanges", "regret", "timings"]
Status = Literal["running", "finished", "failed", "interrupted"]
SEALED_ROWS: tuple[RowsName, ...] = ("rounds", "exchanges", "regret")
"""What checkpoints vouch for: timings are never equal, and nothing rests on them."""
ROW_FILES: tuple[RowsName, ...] = (*SEALED_ROWS, "timings")

# POSIX locks are per process: two objects of one process would both get them, but for this set.
_held_here: set[Path] = set()


class RunDirectory:
    """The files of one run. Making the object touches nothing; ``acquire`` creates and locks."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.summary = self.path / "summary.json"
        self.samples = self.path / "samples.jsonl.zst"
        self.plots = self.path / "plots"
        self.done = self.path / "DONE"
        self._lock_path = self.path / ".lock"
        self._lock: int | None = None
        self._checkpoints = Checkpoints(self.path, [self.rows_path(n).name for n in SEALED_ROWS])

    def rows_path(self, name: RowsName) -> Path:
        """Return the path of the JSONL file of that name."""
        return self.path / f"{name}.jsonl"

    # Lock

    def acquire(self) -> Self:
        """Create the directory and take it for this process; forked children do not share the lock.

        Raises:
            UserError: Another process (named by its id) is using the run.
        """
        if self._lock is not None:
            return self
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if files.is_disk_full(error):
                raise
            raise UserError(
                f"cannot make {self.path}: {error.strerror}; change into a folder that you may "
                "write to"
            ) from error
        key = self.path.resolve()
        if key in _held_here:
            raise self._busy(os.getpid())
        while self._lock is None:
            handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(handle, 32).decode(errors="replace").strip()
                os.close(handle)
                raise self._busy(holder or "unknown") from None
            if self._is_lock_file(handle):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                self._lock = handle
            else:  # the holder before us removed the file between our open and our lock
                os.close(handle)
        _held_here.add(key)
        return self

    def release(self) -> None:
        """Give the run back; a process that ends or is killed gives it back too."""
        if self._lock is None:
            return
        self._lock_path.unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
        _held_here.discard(self.path.resolve())

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def _is_lock_file(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._lock_path))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def _busy(self, holder: int | str) -> UserError:
        return UserError(
            f"{self.path} is in use by process {holder}; "
            "wait for it, stop it, or change name= or seed="
        )

    # Rows

    def append(self, name: RowsName, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows, one JSON object a line, keys in the given order; NaN becomes null."""
        files.append_rows(self.rows_path(name), rows)

    def read_rows(self, name: RowsName) -> list[Row]:
        """Return all complete rows of a JSONL file, none if it does not exist."""
        return files.read_rows(self.rows_path(name))

    def truncate_after(self, round: int) -> None:
        """Drop every row of a later round and torn last lines, in all JSONL files.

        ``truncate_after(-1)`` drops all rows: a start from the beginning.
        """
        for name in ROW_FILES:
            self._truncate(name, round)

    def _truncate(self, name: RowsName, round: int) -> None:
        drop_damaged = round < 0 or name not in SEALED_ROWS
        files.truncate_rows(self.rows_path(name), round, drop_damaged=drop_damaged)

    def sync(self) -> None:
        """Make all rows survive a power cut."""
        for name in ROW_FILES:
            files.sync_file(self.rows_path(name))
        files.sync_folder(self.path)

    # Documents

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, keys in the given order.

        Equal runs must write equal bytes, so leave out output paths and the number of workers.
        """
        from omegaconf import OmegaConf

        files.write_atomically(
            self.config, OmegaConf.to_yaml(OmegaConf.create(dict(config))).encode()
        )

    def start_environment(self, extra: Mapping[str, Any] | None = None) -> None:
        """Write environment.json with status ``running``; a resume keeps the first start.

        ``extra`` is for what differs between equal runs, e.g. the engine's settings.
        """
        before = self.read_environment()
        document = describe_environment() | dict(extra or {})
        document |= {"start": before.get("start", now()), "end": None, "status": "running"}
        if before:
            document["resumed"] = [*before.get("resumed", []), now()]
        files.write_atomically(self.environment, files.encode_document(document))

    def end_environment(self, status: Status) -> None:
        """Write the end and how the run ended into environment.json."""
        document = self.read_environment() | {"end": now(), "status": status}
        files.write_atomically(self.environment, files.encode_document(document))

    def read_environment(self) -> dict[str, Any]:
        """Return environment.json, or nothing where it is missing or torn."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self.environment.read_text()))
        return {}

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json, keys sorted, as a whole."""
        files.write_atomically(self.summary, files.encode_document(summary))

    def read_summary(self) -> dict[str, Any]:
        """Return summary.json.

        Raises:
            UserError: The run has none (it did not finish).
        """
        if not self.summary.exists():
            raise UserError(
                f"{self.path} has no summary.json: the run did not finish; run it again"
            )
        try:
            return dict(json.loads(self.summary.read_bytes()))
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.summary} is damaged: run it again with rerun=true") from error

    def write_samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write samples.jsonl.zst: one frame, fixed level, one thread, so its bytes are fixed."""
        import zstandard

        content = b"".join(files.encode_row(row) for row in rows)
        compressed = zstandard.ZstdCompressor(level=10, write_checksum=True).compress(content)
        files.write_atomically(self.samples, compressed)

    def read_samples(self) -> list[Row]:
        """Return the final completions with their outcomes, none if the file does not exist."""
        import zstandard

        if not self.samples.exists():
            return []
        content = zstandard.ZstdDecompressor().decompress(self.samples.read_bytes())
        return [json.loads(line) for line in content.splitlines()]

    # Checkpoints and the end

    def write_checkpoint(self, round: int, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill a folder, then make it ``checkpoint/``; call after ``sync``."""
        return self._checkpoints.write(round, write)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return (round, folder) of the newest undamaged checkpoint, or None; warns of damage."""
        found = self._checkpoints.latest()
        return (found.round, found.folder) if found else None

    def rewind(self) -> tuple[int, Path] | None:
        """Put every file back to where a resume goes on; return that checkpoint as (round, folder).

        Rows that came after the checkpoint are cut off, and so are a killed process's temporary
        files. None means that there is no checkpoint and no row: a start from the beginning.

        Raises:
            UserError: Rows that every checkpoint rests on are damaged.
        """
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()
        found = self._checkpoints.to_resume()
        if found is None:
            self.truncate_after(-1)
            return None
        for name in ROW_FILES:
            path = self.rows_path(name)
            if path.name not in found.num_bytes:
                self._truncate(name, found.round)
            elif path.exists():
                os.truncate(path, found.num_bytes[path.name])
        return found.round, found.folder

    def mark_done(self) -> None:
        """Drop the spare checkpoint and write the DONE marker, the last file of a run."""
        self._checkpoints.drop_spares()
        files.write_atomically(self.done, b"")

    def is_finished(self) -> bool:
        """Return whether the run ended well: the DONE marker and its summary are there."""
        return self.done.exists() and self.summary.exists()

    def clear(self) -> None:
        """Remove everything but the lock (for ``rerun=true``); the DONE marker goes first."""
        self.done.unlink(missing_ok=True)
        for path in self.path.iterdir() if self.path.exists() else ():
            if path == self._lock_path:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
