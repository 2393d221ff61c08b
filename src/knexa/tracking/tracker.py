"""Records a run for the round loop: rows, loggers, console, plots and its end."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from knexa.tracking.console import Console
from knexa.tracking.files import is_disk_full
from knexa.tracking.info import ClosingInfo, RunInfo, StartInfo
from knexa.tracking.loggers import Logger
from knexa.tracking.metrics import RunMetrics, replay
from knexa.tracking.plots import draw_plots
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, SampleRow, Summary, TimingRow
from knexa.tracking.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Tracker:
    """Records one run; the caller holds the lock of ``run_dir``.

    A round is: ``log_*`` calls, ``end_round``, then the checkpoint, if one is due. A resumed run
    calls ``run_dir.rewind()`` before ``start``.
    """

    def __init__(
        self, run_dir: RunDirectory, loggers: Sequence[Logger] = (), console: Console | None = None
    ) -> None:
        self.run_dir = run_dir
        self.console = console or Console()
        self._loggers = list(loggers)
        self._num_rounds = 0
        self.round = 0
        self._metrics = RunMetrics()
        self._rounds: list[RoundRow] = []
        self._exchanges: list[ExchangeRow] = []
        self._regret: list[RegretRow] = []

    def start(
        self, run: RunInfo, overview: StartInfo, environment: Mapping[str, Any] | None = None
    ) -> None:
        """Write config.yaml and environment.json, start the loggers, print the start tree.

        Args:
            run: The run's identity and config.
            overview: What the start tree shows.
            environment: More for environment.json, e.g. the engine's settings.

        Raises:
            UserError: A logger cannot work here; nothing has been written then.
        """
        for logger in self._loggers:
            logger.check()
        self._num_rounds = overview.num_rounds
        run = replace(run, finished_rounds=tuple(replay(self.run_dir, self._metrics)))
        self.round = max((round for round, _ in run.finished_rounds), default=-1) + 1
        self.run_dir.write_config(run.config)
        self.run_dir.start_environment(environment)
        self._tell("start", lambda logger: logger.start(run))
        self.console.start(overview)

    def log_rounds(self, rows: Iterable[RoundRow]) -> None:
        """Append rows to rounds.jsonl, one per agent."""
        self._rounds += self.run_dir.append(rows)

    def log_exchanges(self, rows: Iterable[ExchangeRow]) -> None:
        """Append rows to exchanges.jsonl, one per directive."""
        self._exchanges += self.run_dir.append(rows)

    def log_regret(self, row: RegretRow) -> None:
        """Append the row of a probed round to regret.jsonl."""
        self._regret += self.run_dir.append([row])

    def log_timing(self, phase: str, agent: int, seconds: float) -> None:
        """Append a task of the current round (or the final evaluation) to timings.jsonl."""
        row = TimingRow(round=self.round, phase=phase, agent=agent, seconds=seconds)
        self.run_dir.append([row])

    def end_round(self, round: int) -> dict[str, float]:
        """Bring loggers and console up to date; return the round's metrics."""
        metrics = self._metrics.end_round(round, self._rounds, self._exchanges, self._regret)
        self._rounds, self._exchanges, self._regret = [], [], []
        self.round = round + 1
        self._tell("log a round", lambda logger: logger.log_round(round, metrics))
        self.console.round_done(round, self._num_rounds, metrics)
        return metrics

    def finish(self, summary: Summary, samples: Iterable[SampleRow]) -> None:
        """Write samples, summary and plots, close the loggers, write DONE, print the tables."""
        self.run_dir.write_samples(samples)
        self.run_dir.write_summary(summary)
        plots = self._draw_plots()
        self.run_dir.end_environment("finished")
        notes: list[str] = []
        self._tell("finish", lambda logger: notes.append(logger.finish(self.run_dir) or ""))
        self.run_dir.mark_done()
        self.console.close(
            ClosingInfo(
                run_path=self.run_dir.path,
                summary=summary,
                rounds=self.run_dir.read_rows(RoundRow),
                exchanges=self.run_dir.read_rows(ExchangeRow),
                plots=plots,
                notes=[note for note in notes if note],
            )
        )

    def fail(self, status: Literal["failed", "interrupted"], because: str | None = None) -> None:
        """Record how an unfinished run ended; never raises, which would hide the first error."""
        with contextlib.suppress(Exception):
            self.run_dir.end_environment(status, because)
        with contextlib.suppress(Exception):
            self._tell("abort", lambda logger: logger.abort())
        with contextlib.suppress(Exception):
            self.console.close()

    def _draw_plots(self) -> list[Path]:
        """Draw the plots; an error is a warning, unless the disk is full or the run is gone."""
        self.run_dir.check_held()
        try:
            return draw_plots(self.run_dir)
        except Exception as error:
            if is_disk_full(error):
                raise
            self.run_dir.check_held()
            log.warning("the plots could not be drawn: %s: %s", type(error).__name__, error)
            return []

    def _tell(self, what: str, call: Callable[[Logger], object]) -> None:
        """Call every logger; one that fails is dropped with a warning.

        Unless the disk is full or the run directory is gone, which ends the run.
        """
        for logger in list(self._loggers):
            try:
                call(logger)
            except Exception as error:
                if is_disk_full(error):
                    raise
                self.run_dir.check_held()
                self._loggers.remove(logger)
                log.warning(
                    "logger %s could not %s and is left out from here on: %s: %s",
                    type(logger).__name__,
                    what,
                    type(error).__name__,
                    error,
                )
