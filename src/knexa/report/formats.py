"""Tables as Markdown and CSV: one to read, one for other programs."""

import csv
import io
from collections.abc import Callable

from knexa.report.aggregate import Study
from knexa.report.latex import latex
from knexa.report.table import SEES, Cell, Table

ALL_SETTINGS = "all"


def markdown(table: Table) -> str:
    """Return the shown columns in Markdown, the best values bold, the notes below."""
    columns = table.shown
    rows = zip(*(column.cells for column in columns), strict=True)
    lines = [
        f"| {' | '.join(column.heading for column in columns)} |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(map(_bold, row)) + " |" for row in rows),
    ]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.footnotes)]) + "\n"


def _bold(cell: Cell) -> str:
    mean, space, rest = cell.text.partition(" ")
    return f"**{mean}**{space}{rest}" if cell.best else cell.text


def tidy_rows(study: Study, table: Table) -> tuple[list[str], list[list[str | float | int]]]:
    """Return (columns, rows) of all the table's numbers, shown or not, a row per number.

    Columns: method, settings (``ALL_SETTINGS`` where a row covers them all), what the method sees,
    the measure's heading, mean, low, high, seeds, and the column's name as ``--columns`` takes it.
    """
    settings = [f"setting {key}" for key in study.setting_keys]
    columns = ["method", *study.setting_keys, SEES, "measure", "mean", "low", "high", "seeds"]
    by_name = {column.name: column for column in table.columns}
    rows: list[list[str | float | int]] = []
    for place in range(len(table.rows)):
        texts = {name: column.cells[place].text for name, column in by_name.items()}
        about = [texts["method"], *(texts.get(key, ALL_SETTINGS) for key in settings)]
        for column in table.columns:
            cell = column.cells[place]
            if (interval := cell.interval) is not None:
                numbers = (interval.mean, interval.low, interval.high, cell.num_seeds)
                rows.append([*about, texts["sees"], column.heading, *numbers, column.name])
    return [*columns, "name"], rows


def tidy_csv(study: Study, table: Table) -> str:
    """Return ``tidy_rows`` as CSV."""
    out = io.StringIO()
    columns, rows = tidy_rows(study, table)
    csv.writer(out, lineterminator="\n").writerows([columns, *rows])
    return out.getvalue()


WRITERS: dict[str, Callable[[Study, Table], str]] = {
    "md": lambda _, table: markdown(table),
    "tex": latex,
    "csv": tidy_csv,
}
"""File endings to what fills such a file."""
