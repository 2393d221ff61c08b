"""Loggers that need no process of their own: the base class, ``none``, ``csv`` and ``tensorboard``.

The run directory's JSONL files are the source of truth; a logger mirrors them into another tool's
form, and can always be rebuilt from them. W&B, which can be slow or hang, is in ``wandb_logger``.
"""

import csv
import importlib.util
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knexa.errors import UserError
from knexa.tracking.files import write_atomically
from knexa.tracking.info import RunInfo
from knexa.tracking.run_directory import RunDirectory


@dataclass(kw_only=True)
class Logger:
    """Base of every option of ``logger=``; each hook may be left out.

    Constructing is cheap and touches nothing. A hook that fails costs a warning and the logger,
    never the run; only ``check`` may refuse, before anything is written. A logger keeps what it
    writes in files or folders of its own under ``RunInfo.path``.
    """

    def check(self) -> None:
        """Raise UserError where the logger cannot work here, e.g. a package is missing."""

    def start(self, run: RunInfo) -> None:
        """Begin anew, with ``run.finished_rounds`` where the run is resumed."""

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Take a finished round; its rows are on disk already.

        Args:
            round: Its number; round 0 is the measurement before the first.
            metrics: Numbers by name, as ``knexa.tracking.metrics`` derives them from the rows; what
                was not measured is absent.
        """

    def finish(self, run_dir: RunDirectory) -> str | None:
        """Take the finished run (summary, samples and plots are there); return a line to show."""
        return None

    def abort(self) -> None:
        """Close after a failure or an interruption; the run may be resumed later."""


@dataclass(kw_only=True)
class NoLogger(Logger):
    """Only the run directory's own files."""


@dataclass(kw_only=True)
class Csv(Logger):
    """Mirrors the rounds into metrics.csv: one row per round, one column per metric.

    The file is rewritten as a whole each round, so a resumed run's equals an uninterrupted one's.
    """

    _file: Path = field(init=False, repr=False)
    _rounds: dict[int, Mapping[str, float]] = field(default_factory=dict, init=False, repr=False)

    def start(self, run: RunInfo) -> None:
        """Take the rounds that an earlier start finished."""
        self._file = run.path / "metrics.csv"
        self._rounds = dict(run.finished_rounds)
        if self._rounds:
            self._write()

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Add the round and rewrite the file."""
        self._rounds[round] = dict(metrics)
        self._write()

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self._rounds.values() for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["round", *columns], lineterminator="\n")
        writer.writeheader()
        for round, metrics in sorted(self._rounds.items()):
            writer.writerow({"round": round, **metrics})
        write_atomically(self._file, text.getvalue().encode())


@dataclass(kw_only=True)
class TensorBoard(Logger):
    """Mirrors the rounds into an event file under tensorboard/.

    The file has a fixed name, and an event's wall time is its round: equal runs write equal bytes
    (TensorBoard's "step" axis is right; its "wall" axis shows rounds as seconds).
    """

    _file: Path = field(init=False, repr=False)

    def check(self) -> None:
        """Refuse where tensorboard is not installed."""
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError(
                "logger=tensorboard needs a package that is not installed: "
                "pip install 'knexa[tensorboard]', or choose logger=wandb, csv or none"
            )

    def start(self, run: RunInfo) -> None:
        """Begin the event file, with the rounds that an earlier start finished."""
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]

        self._file = run.path / "tensorboard" / "events.out.tfevents.knexa"
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.unlink(missing_ok=True)
        self._append(Event(wall_time=0.0, file_version="brain.Event:2"))
        for round, metrics in run.finished_rounds:
            self.log_round(round, metrics)

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Append one event with all scalars of the round."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        values = [
            # "@" is not allowed in a tag's name
            Summary.Value(tag=name.replace("@", "_at_"), simple_value=value)
            for name, value in metrics.items()
        ]
        self._append(Event(wall_time=float(round), step=round, summary=Summary(value=values)))

    def _append(self, event: Any) -> None:
        from tensorboard.summary.writer import record_writer  # type: ignore[import-untyped]

        with self._file.open("ab") as file:
            record_writer.RecordWriter(file).write(event.SerializeToString(deterministic=True))
