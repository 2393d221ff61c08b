"""Terminal output of a run: the start tree, progress with an ETA, the closing tables.

Where the output is no terminal (a log file, a sweep, CI), plain lines replace the progress bar.
"""

import sys
from collections.abc import Mapping
from typing import IO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from knexa.tracking.info import ClosingInfo, StartInfo
from knexa.tracking.tables import agents_table, brief_result, start_tree, totals_table

MAX_PLAIN_LINES = 20


class Console:
    """Writes to a terminal, or plain text to a file.

    Args:
        file: Where to write; None is the standard output.
        quiet: No progress bar; None decides by whether ``file`` is a terminal.
        brief: Only one line when the run starts and one when it ends, for parallel runs.
    """

    def __init__(
        self, *, file: IO[str] | None = None, quiet: bool | None = None, brief: bool = False
    ) -> None:
        self._console = RichConsole(file=file or sys.stdout, highlight=False)
        if not self._console.is_terminal:
            self._console.width = 110  # a log file has no width of its own
        self._quiet = brief or (not self._console.is_terminal if quiet is None else quiet)
        self._brief = brief
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._first_round, self._round_begin, self._phase = 0, 0, (0, 1)

    def start(self, info: StartInfo) -> None:
        """Print the start-of-run tree and begin the progress bar."""
        if self._brief:
            again = "" if info.resumed_after is None else f" after round {info.resumed_after}"
            self._line(f"{info.run_name} goes on{again}" if again else f"{info.run_name} starts")
            return
        self._console.print(start_tree(info), soft_wrap=True)
        if self._quiet:
            return
        self._first_round = -1 if info.resumed_after is None else info.resumed_after
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[what]:<28}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[score]}"),
            console=self._console,
            transient=True,
        )
        total = info.num_rounds - self._first_round + 1  # the final evaluation counts as a round
        self._task = self._progress.add_task("", total=total, what="starting", score="")
        self._progress.start()

    def phase(self, round: int, name: str, *, index: int = 0, total: int = 1) -> None:
        """Show that phase ``index`` of ``total`` of the round begins; the bar never goes back."""
        self._round_begin = round - self._first_round - 1
        self._phase = (index, total)
        if self._progress is not None:
            self._progress.update(self._task, what=name)
            self.advance(0.0)

    def advance(self, fraction: float) -> None:
        """Show which fraction (0 to 1) of the current phase is done."""
        if self._progress is not None:
            index, total = self._phase
            done = self._round_begin + (index + fraction) / total
            before = self._progress.tasks[0].completed
            self._progress.update(self._task, completed=max(before, done))

    def round_done(self, round: int, num_rounds: int, metrics: Mapping[str, float]) -> None:
        """Show a finished round in the bar, or as a plain line (at most about twenty a run)."""
        if self._brief:
            return
        if self._progress is None:
            step = max(1, num_rounds // MAX_PLAIN_LINES)
            if round % step == 0 or round == num_rounds:
                self._line(round_line(round, num_rounds, metrics))
            return
        score = metrics.get("pass@1_greedy")
        self._progress.update(
            self._task,
            completed=round - self._first_round,
            what=f"round {round}/{num_rounds}",
            score="" if score is None else f"Pass@1 {score:.1%}",
        )

    def warn(self, message: str) -> None:
        """Print a one-line warning."""
        self._console.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)

    def close(self, info: ClosingInfo | None = None) -> None:
        """End the progress bar; print the closing table where there is one."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if info is not None and self._brief:
            self._line(brief_result(info))
        elif info is not None:
            self._console.print(agents_table(info))
            self._console.print(totals_table(info))
            for note in info.notes:
                self._line(note)

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)


def round_line(round: int, num_rounds: int, metrics: Mapping[str, float]) -> str:
    """Return the plain line of a finished round."""
    parts = [f"round {round}/{num_rounds}"]
    for key, label, form in (
        ("pass@1_greedy", "Pass@1", "{:.1%}"),
        ("validation_loss", "validation loss", "{:.3f}"),
        ("exchange/reward", "reward", "{:+.4f}"),
        ("cumulative_regret", "regret", "{:.4f}"),
        ("kilobytes_total", "sent", "{:,.1f} kB"),
    ):
        if key in metrics:
            parts.append(f"{label} {form.format(metrics[key])}")
    return "  ".join(parts)
