"""Writes a report: ``index.html``, ``tables/`` and ``figures/``; equal runs give equal files."""

from collections.abc import Sequence
from pathlib import Path

from knexa.report.aggregate import Study
from knexa.report.figures import Picture, draw_all
from knexa.report.formats import WRITERS
from knexa.report.page import render
from knexa.report.robust import ROBUST
from knexa.report.table import Table
from knexa.tracking.files import write_atomically


def write_report(
    study: Study, tables: Sequence[Table], folder: Path, slope: tuple[float, float] | None = None
) -> tuple[Picture, ...]:
    """Write everything into ``folder`` and return the figures, also those left out.

    Args:
        study: The groups.
        tables: Its tables.
        folder: Made if need be; files of an earlier report are replaced.
        slope: First and last round of the regret's slope; None takes the last nine tenths.
    """
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    for ending in WRITERS:  # not asked for in every report
        (folder / "tables" / f"{ROBUST}.{ending}").unlink(missing_ok=True)
    for table in tables:
        for ending, write in WRITERS.items():
            path = folder / "tables" / f"{table.name}.{ending}"
            write_atomically(path, write(study, table).encode())
    pictures = draw_all(study, folder / "figures", slope)
    page = render(study, tables, pictures, folder / "figures")
    write_atomically(folder / "index.html", page.encode())
    return pictures
