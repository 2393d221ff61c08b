"""Loggers that need no process of their own: the base class, ``none``, ``csv`` and ``tensorboard``.

The run directory's JSONL files are the source of truth; a logger mirrors them into another tool's
form, and can always be rebuilt from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from knexa.tracking.info import RunInfo
from knexa.tracking.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Logger:
    """Base of every logger; each hook may be left out.

    Constructing is cheap and touches nothing. A hook that fails costs a warning and the logger,
    never the run; only ``check`` may refuse, before anything is written.
    """

    def check(self) -> None:
        """Raise UserError where the logger cannot work here, e.g. a package is missing."""

    def start(self, run: RunInfo) -> None:
        """Begin to mirror; on a resume the JSONL files hold the rows of the finished rounds."""

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Take a finished round; its rows are on disk already."""

    def finish(self, run_dir: RunDirectory) -> str | None:
        """Take the finished run (summary, samples and plots are there); return a line to show."""
        return None

    def abort(self) -> None:
        """Let go after a failure or an interruption; the run may be resumed later."""


@dataclass(frozen=True, kw_only=True)
class NoLogger(Logger):
    """Only the run directory's own files."""
