"""Reads and writes the run directory, which docs/concepts.md documents for other tools.

Equal runs write equal bytes in every file but ``timings.jsonl``, ``environment.json`` and the
mirror in ``wandb/``, so times, process ids and paths are written nowhere else. While a run goes on,
every write checks that the directory is still the one that was locked.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from knexa.errors import UserError
from knexa.recipe import NAME
from knexa.tracking import done, files
from knexa.tracking.checkpoints import Checkpoints
from knexa.tracking.checksums import entry, seal
from knexa.tracking.environment import describe_environment, now
from knexa.tracking.rows import SCHEMA_VERSION, Row, RowsName, SampleRow, Summary
from knexa.tracking.rows_file import RowsFile
from knexa.tracking.run_lock import RunLock
from knexa.tracking.schema import ShapeError, as_document, decode, encode

L = TypeVar("L", bound=Row)
Status = Literal["running", "finished", "failed", "interrupted", "killed"]
SEALED_ROWS: tuple[RowsName, ...] = ("rounds", "exchanges", "regret")
"""Rows whose checksums are part of checkpoints; timings differ between runs."""
ROW_FILES: tuple[RowsName, ...] = (*SEALED_ROWS, "timings")


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
        self._lock = RunLock(self.path)
        self._checkpoints = Checkpoints(self.path)
        self._rows_files: dict[RowsName, RowsFile] = {}

    def rows_path(self, name: RowsName) -> Path:
        """Return the path of the JSONL file of that name."""
        return self.path / f"{name}.jsonl"

    # Lock

    def acquire(self) -> Self:
        """Create the directory and lock it for this process; forked children do not share the lock.

        Raises:
            UserError: Another process (named by its id) is using the run.
        """
        self._lock.acquire()
        return self

    def release(self) -> None:
        """Release the lock; the kernel does so when the process ends."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *exception: object) -> None:
        self.release()

    def check_held(self) -> None:
        """Check that the directory is still there, and still locked by this process.

        Raises:
            UserError: It has been removed, moved or unmounted since ``acquire``, or its lock has.
        """
        self._lock.check_held()

    # Rows

    def append(self, rows: Iterable[L]) -> list[L]:
        """Append rows of one kind to their file; return them as they are read back: NaN is None.

        Raises:
            ShapeError: A row does not hold what its class says; nothing has been written.
            UserError: Something else changed the file, or the directory is gone.
        """
        given = list(rows)
        if not given:
            return []
        kind, lines = type(given[0]), [encode(row) for row in given]
        read = [decode(kind, line) for line in lines]
        self.check_held()
        self._rows_file(kind.FILE).append(lines)
        return read

    def _rows_file(self, name: RowsName) -> RowsFile:
        if name not in self._rows_files:
            self._rows_files[name] = RowsFile(self.rows_path(name))
        return self._rows_files[name]

    def read_rows(self, kind: type[L]) -> list[L]:
        """Return all complete rows of a JSONL file, none if it does not exist.

        Raises:
            UserError: A row is damaged, or of another version of the package.
        """
        path = self.rows_path(kind.FILE)
        try:
            return files.read_rows(path, partial(decode, kind))
        except ShapeError as error:
            raise self._of_another_version(path, error) from error

    def _of_another_version(self, path: Path, what: object) -> UserError:
        wrote = self.read_environment().get("packages", {}).get("knexa", "of unknown version")
        return UserError(
            f"{path}: {what}; the run was written by knexa {wrote}, with other tables than this "
            "version's: read it with that version, or run it again with rerun=true"
        )

    def truncate_after(self, round: int) -> None:
        """Drop rows of later rounds and incomplete last lines in all JSONL files; -1 drops all."""
        for name in ROW_FILES:
            self._truncate(name, round)

    def _truncate(self, name: RowsName, round: int) -> None:
        self._rows_files.pop(name, None)
        drop_damaged = round < 0 or name not in SEALED_ROWS
        files.truncate_rows(self.rows_path(name), round, drop_damaged=drop_damaged)

    def sync(self) -> None:
        """Make all rows survive a power cut."""
        for name in ROW_FILES:
            files.sync_file(self.rows_path(name))
        files.sync_folder(self.path)

    # Documents

    def _write(self, path: Path, content: bytes) -> None:
        self.check_held()
        files.write_atomically(path, content)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml, keys in the given order; output paths must not be among them."""
        from omegaconf import OmegaConf

        text = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
        self._write(self.config, text.encode())

    def read_config(self) -> dict[str, Any]:
        """Return config.yaml.

        Raises:
            UserError: There is none, it is damaged, or it is outdated.
        """
        if not self.config.is_file():
            raise UserError(f"{self.path} is no run directory: it has no config.yaml")
        self._refuse_outdated()
        return self._config()

    def _refuse_outdated(self) -> None:
        if (recipe := self.outdated()) is not None:
            raise UserError(
                f"{self.path} was made by recipe {recipe}, and this version reads recipe 6 and "
                "later: run it again, or use the version of knexa that made it"
            )

    def outdated(self) -> int | str | None:
        """Return the recipe of a run older than recipe 6, which cannot be read; else None."""
        if self.done.is_file() and self.done.stat().st_size:
            return None  # since recipe 6 it holds checksums
        if b"\nrecipe:" in b"\n" + self.config.read_bytes():
            return None
        return self._recipe({})

    def other_recipe(self, config: Mapping[str, Any]) -> int | str | None:
        """Return the recipe of this run if it has these settings and another recipe."""
        try:
            own = self._config()
            recipe = self._recipe(own)
        except (OSError, UserError):
            return None
        return recipe if recipe != config["recipe"] and _values(own) == _values(config) else None

    def _config(self) -> dict[str, Any]:
        import yaml

        with contextlib.suppress(ValueError, yaml.YAMLError):
            config = yaml.safe_load(self.config.read_bytes())
            if isinstance(config, dict):
                return config
        raise UserError(f"{self.config} is damaged: run it again with rerun=true")

    def _recipe(self, config: Mapping[str, Any]) -> int | str:
        """Return the recipe of a config, or of the summary in runs older than recipe 6."""
        known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):  # an older summary has another shape
            known = json.loads(self.summary.read_bytes())
        recipe: int | str = config.get("recipe", known.get("recipe", "5 or older"))
        return recipe

    def start_environment(self, extra: Mapping[str, Any] | None = None) -> None:
        """Write environment.json with status ``running``; a resume keeps the earlier sessions.

        ``extra`` is for what differs between equal runs, e.g. the engine's settings.
        """
        before = self.read_environment()
        sessions = list(before.get("sessions", []))
        if sessions and sessions[-1]["status"] == "running":  # it could not say how it ended
            sessions[-1] |= {"status": "killed"}
        session = {"start": now(), "end": None, "status": "running", "because": None}
        document = describe_environment() | dict(extra or {})
        document |= {"start": before.get("start", session["start"]), "end": None}
        document |= {"status": "running", "sessions": [*sessions, session]}
        self._write_environment(document)

    def end_environment(self, status: Status, because: str | None = None) -> None:
        """Write the end and how the run ended into environment.json.

        Args:
            status: How it ended.
            because: The signal or the error that ended it.
        """
        document = self.read_environment()
        end = {"end": now(), "status": status}
        sessions = list(document.get("sessions", [{}]))
        sessions[-1] |= end | {"because": because}
        self._write_environment(document | end | {"sessions": sessions})

    def _write_environment(self, document: Mapping[str, Any]) -> None:
        """Write environment.json with the checksums of timings.jsonl and of itself."""
        timings = self.rows_path("timings")
        known = dict(document) | {"timings": entry(timings) if timings.exists() else None}
        self._write(self.environment, files.encode_document(seal(known)))

    def read_environment(self) -> dict[str, Any]:
        """Return environment.json, or nothing where it is missing or torn."""
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(self.environment.read_text()))
        return {}

    def write_summary(self, summary: Summary) -> None:
        """Write summary.json, keys sorted, as a whole.

        Raises:
            ShapeError: It does not hold what its class says; nothing has been written.
        """
        content = files.encode_document(as_document(summary))
        decode(Summary, content)
        self._write(self.summary, content)

    def read_summary(self) -> Summary:
        """Return summary.json.

        Raises:
            UserError: The run has none (it did not finish), or it is damaged or of another version.
        """
        if not self.summary.exists():
            raise UserError(
                f"{self.path} has no summary.json: the run did not finish; run it again"
            )
        content = self.summary.read_bytes()
        try:
            version = dict(json.loads(content)).get("schema_version", "of none")
            if version != SCHEMA_VERSION:
                what = f"schema_version is {version}, and {SCHEMA_VERSION} is read"
                raise self._of_another_version(self.summary, what)
            return decode(Summary, content)
        except ShapeError as error:
            raise self._of_another_version(self.summary, error) from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{self.summary} is damaged: run it again with rerun=true") from error

    def write_samples(self, samples: Iterable[SampleRow]) -> None:
        """Write samples.jsonl.zst with fixed compression settings, so that its bytes are fixed."""
        import zstandard

        content = b"".join(encode(sample) for sample in samples)
        compressed = zstandard.ZstdCompressor(level=10, write_checksum=True).compress(content)
        self._write(self.samples, compressed)

    def read_samples(self) -> list[SampleRow]:
        """Return the final completions with their outcomes, none if the file does not exist.

        Raises:
            UserError: They are of another version of the package.
        """
        import zstandard

        if not self.samples.exists():
            return []
        content = zstandard.ZstdDecompressor().decompress(self.samples.read_bytes())
        try:
            return [decode(SampleRow, line) for line in content.splitlines()]
        except ShapeError as error:
            raise self._of_another_version(self.samples, error) from error

    # Checkpoints and the end

    def write_checkpoint(self, round: int, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill a folder, then make it ``checkpoint/``; call after ``sync``."""
        self.check_held()
        rows = {self.rows_path(name).name: self._rows_file(name).entry for name in SEALED_ROWS}
        return self._checkpoints.write(round, write, rows)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Return (round, folder) of the newest undamaged checkpoint, or None; warns of damage."""
        found = self._checkpoints.latest()
        return (found.round, found.folder) if found else None

    def rewind(self) -> tuple[int, Path] | None:
        """Restore all files to the newest usable checkpoint; return it as (round, folder).

        Later rows and temporary files are removed. Without a checkpoint all rows are removed and
        the run starts from the beginning: None.

        Raises:
            UserError: Rows from before every checkpoint are damaged.
        """
        for leftover in self.path.glob(".*.tmp"):
            leftover.unlink()
        found = self._checkpoints.to_resume()
        if found is None:
            self.truncate_after(-1)
        else:
            for name in ROW_FILES:
                path = self.rows_path(name)
                if path.name not in found.rows:
                    self._truncate(name, found.round)
                elif path.exists():
                    os.truncate(path, int(found.rows[path.name]["bytes"]))
        self._rows_files = {name: RowsFile(self.rows_path(name)) for name in ROW_FILES}
        return None if found is None else (found.round, found.folder)

    def mark_done(self) -> None:
        """Remove the previous checkpoint and write the DONE marker, the last file of a run.

        Raises:
            UserError: Something else changed the rows while the run wrote them.
        """
        self.check_held()
        for rows_file in self._rows_files.values():
            rows_file.check_content()
        self._checkpoints.drop_spares()
        self.sync()
        self._write(self.done, done.contents(self.path))

    def is_finished(self) -> bool:
        """Return whether the run ended well: the DONE marker is there. ``verify`` checks it."""
        return os.path.lexists(self.done)

    def verify(self) -> None:
        """Check all files of a finished run by the checksums in DONE.

        Raises:
            UserError: One line for the first file that is not what the run wrote, or the run is
                outdated.
        """
        if self.config.is_file():
            self._refuse_outdated()
        done.verify(self.path)

    def clear(self) -> None:
        """Remove everything but the lock (for ``rerun=true``); the DONE marker goes first."""
        self._rows_files.clear()
        if not os.path.lexists(self.path):
            return
        for path in sorted(self.path.iterdir(), key=lambda path: path != self.done):
            if path == self._lock.path:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the recipe and the names of components."""
    return {
        key: _values(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in ("recipe", NAME, "_target_")
    }
