"""Finished runs as data frames."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from knexa.api.frames import frame, run_columns
from knexa.report.aggregate import group_runs
from knexa.report.formats import tidy_rows
from knexa.report.runs import Run
from knexa.report.table import tables
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, SampleRow, Summary
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.schema import Record

if TYPE_CHECKING:
    from pandas import DataFrame


class Results:
    """Finished runs, of ``knexa.run`` or ``knexa.load``.

    Every frame begins with columns that say which run a row is of: ``run`` (its folder's name),
    ``matchmaker``, ``exchange`` (None where nobody exchanges), ``seed``, and each config key whose
    value differs between the runs (``federation.num_agents``; an option by its group's name,
    ``context``). The other columns are those of the run directory's files, as docs/concepts.md
    lists them; what an object of the file holds is a column each (``guardrail.blocked``). Numbers
    that a run has not measured are NaN. The files are read when a frame is asked for.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = tuple(runs)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The run directories, in order."""
        return tuple(run.path for run in self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        methods = dict.fromkeys(run.method for run in self._runs)
        return f"Results({len(self)} run{'s' * (len(self) != 1)} of {', '.join(methods)})"

    def summary(self) -> "DataFrame":
        """Return what came out of each run, a row a run (summary.json).

        Raises:
            UserError: A file has been changed since the run ended; so do the other frames.
        """
        return self._frame(Summary, lambda run_directory: [run_directory.read_summary()])

    def rounds(self) -> "DataFrame":
        """Return what was measured, a row a round and agent (rounds.jsonl)."""
        return self._frame(RoundRow, lambda run_directory: run_directory.read_rows(RoundRow))

    def exchanges(self) -> "DataFrame":
        """Return who taught whom and what came of it, a row a directive (exchanges.jsonl)."""
        return self._frame(ExchangeRow, lambda run_directory: run_directory.read_rows(ExchangeRow))

    def regret(self) -> "DataFrame":
        """Return what choices earned and might have, a row a probed round (regret.jsonl).

        ``best`` less ``chosen`` is the round's regret, ``best`` less ``random`` that of random
        choices.
        """
        return self._frame(RegretRow, lambda run_directory: run_directory.read_rows(RegretRow))

    def samples(self) -> "DataFrame":
        """Return the final answers to the test problems, a row an answer (samples.jsonl.zst)."""
        return self._frame(SampleRow, lambda run_directory: run_directory.read_samples())

    def compare(self, against: str | None = None) -> "DataFrame":
        """Return the report's table of results, a row a method, setting and measure.

        It is what ``knexa report`` prints and writes as results.csv: means over seeds with their 95
        % intervals, unrounded.

        Args:
            against: A method, such as ``random``: two measures are added that compare with it on
                equal seeds, ``against METHOD`` and ``detectable`` (of Pass@1, in percentage
                points), and the same of regret.

        Returns:
            ``method``, a column for each setting in which the runs differ, ``measure``, ``mean``,
            ``low``, ``high``, the number of ``seeds`` and the measure's ``name``; the notes below
            the report's table are in ``attrs["notes"]``.

        Raises:
            UserError: No method is called ``against``, or runs of one config and seed differ.
        """
        import pandas

        study = group_runs(self._runs)
        table, _ = tables(study, against)
        names, rows = tidy_rows(study, table)
        found = pandas.DataFrame(rows, columns=names)
        found.attrs["notes"] = list(table.notes)
        return found

    def _frame(
        self, kind: type[Record], read: Callable[[RunDirectory], Sequence[Record]]
    ) -> "DataFrame":
        rows = [read(RunDirectory(run.path)) for run in self._runs]
        return frame(kind, run_columns(self._runs), rows)
