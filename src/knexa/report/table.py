"""A study's tables: results and costs, one row a method and setting; Markdown, LaTeX and CSV.

Markdown and LaTeX show ``mean [low, high]``; the CSV holds one number a line, unrounded, for other
programs.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knexa.report.aggregate import Study, resolve_method
from knexa.report.measures import (
    BYZANTINE,
    COSTS,
    HIDDEN,
    SCORES,
    Measure,
    at_steps,
    over_seeds,
    paired,
    step_budget,
)
from knexa.statistics import Interval

MISSING = "-"
_COMPARED = {"pass@1": "", "cumulative_regret": "regret "}
"""Measures with a difference to the reference, and how its heading begins."""
SEES = "sees beyond profiles and rewards"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one place of a table shows, and the numbers behind it.

    Attributes:
        text: As printed.
        interval: Mean and bounds, in the column's unit; None for text.
        num_seeds: Seeds behind the interval.
    """

    text: str
    interval: Interval | None = None
    num_seeds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: File name without its ending.
        title: Heading.
        headings: One per column.
        rows: Cells, as many as headings.
        notes: Sentences shown under it.
    """

    name: str
    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()


_Column = tuple[str, list[Cell]]


def tables(study: Study, against: str | None = None) -> tuple[Table, Table]:
    """Return the table of results and the table of costs.

    Args:
        study: The groups.
        against: Method that differences are taken to, paired by seed, within each setting.

    Raises:
        UserError: ``against`` is not there.
    """
    if against is not None:
        against = resolve_method(study, against)
    return _results(study, against), _costs(study, against)


def _results(study: Study, against: str | None) -> Table:
    columns = _names(study, needs=True)
    notes = [
        "Mean over seeds with its 95 % interval over seeds (Student's t). "
        "Pass@k samples completions at the end; greedy Pass@1 is the learning curve's, whose "
        "highest point is the peak: a last round far below it is a collapse (some of the gap is "
        "the noise that a maximum picks up)."
    ]
    if against is not None:
        notes.append(
            f"Differences are to {against} on equal seeds and in the same setting. "
            "Detectable: the smallest true difference that so many seeds would have shown with 80 "
            "% power (two-sided 5 % paired t test): (t(0.975) + t(0.80)) s / sqrt(n), n - 1 "
            "degrees of freedom, s the standard deviation of the paired differences."
        )
    absent = []
    for measure in SCORES:
        values = [group.values(measure.name) for group in study.groups]
        if not any(values):
            absent.append(measure.heading)
            continue
        columns.append(_measured(study, measure, values))
        if against is not None and measure.name in _COMPARED:
            columns += _differences(study, against, measure, values, _COMPARED[measure.name])
    columns += _optional(study, HIDDEN)
    columns += _byzantine_columns(study, notes)
    if absent:
        notes.append(f"Not measured in these runs: {', '.join(absent)}.")
    if any("probes" in need for group in study.groups for need in group.runs[0].needs):
        notes.append(
            "A method that sees probes (counterfactual rewards) is no matchmaker that could be "
            "deployed: it marks what there was to gain."
        )
    return _table("results", "Results", columns, [*notes, *study.notes])


def _optional(study: Study, measures: Sequence[Measure]) -> list[_Column]:
    """Return the columns of the measures that any run has."""
    found = [(measure, [g.values(measure.name) for g in study.groups]) for measure in measures]
    return [_measured(study, measure, values) for measure, values in found if any(values)]


def _byzantine_columns(study: Study, notes: list[str]) -> list[_Column]:
    """Return the columns on Byzantine agents where any run has them, and add a note on them."""
    columns = _optional(study, BYZANTINE)
    if columns:
        notes.append(
            "Honest agents are those that do not lie. The liars' teaching is the share of honest "
            "agents' lessons that liars gave, over the share that uniformly random pairs would "
            "give them; the rounds are those until its moving mean over five rounds is below a "
            "third and stays there, over the seeds where that happened; where each topic is asked "
            "about by itself, also the first round from which on every single one is."
        )
    return columns


def _costs(study: Study, against: str | None) -> Table:
    columns = _names(study)
    notes = ["All agents together, over the whole run."]
    absent = []
    for measure in COSTS:
        values = [group.values(measure.name) for group in study.groups]
        if any(any(found.values()) for found in values):
            columns.append(_measured(study, measure, values, bounds=False))
        else:
            absent.append(measure.heading)
    if absent:
        notes.append(f"Zero or not recorded in all of these runs: {', '.join(absent)}.")
    budgets = {setting: step_budget(study.within(setting)) for setting in study.settings}
    reached = [
        {} if (budget := budgets[group.setting]) is None else at_steps(group, budget)
        for group in study.groups
    ]
    if sum(map(bool, reached)) < 2:
        notes.append(
            "No comparison at equal optimizer steps: no two curves reach down to the fewest steps "
            "(evaluation.every=0 measures the last round alone)."
        )
        return _table("costs", "Costs", columns, notes)
    equal = Measure(name="", heading="greedy pass@1 % at equal steps", scale=100, digits=1)
    steps = [budgets[group.setting] for group in study.groups]
    columns.append(
        ("equal steps", [Cell(text=MISSING if s is None else f"{s:,.0f}") for s in steps])
    )
    columns.append(_measured(study, equal, reached))
    if against is not None:
        columns += _differences(study, against, equal, reached)[:1]
    notes.append(
        "Equal steps: every curve is read (between rounds by linear interpolation) at the "
        "optimizer steps that all runs of the setting have reached."
    )
    return _table("costs", "Costs", columns, notes)


def _table(name: str, title: str, columns: Sequence[_Column], notes: Sequence[str]) -> Table:
    return Table(
        name=name,
        title=title,
        headings=tuple(heading for heading, _ in columns),
        rows=tuple(zip(*(cells for _, cells in columns), strict=True)),
        notes=tuple(notes),
    )


def _names(study: Study, *, needs: bool = False) -> list[_Column]:
    columns: list[_Column] = [("method", [Cell(text=group.label) for group in study.groups])]
    for index, key in enumerate(study.setting_keys):
        columns.append((key, [Cell(text=group.setting[index][1]) for group in study.groups]))
    if needs:
        columns.append((SEES, [Cell(text=group.needs) for group in study.groups]))
    columns.append(("seeds", [Cell(text=str(len(group.runs))) for group in study.groups]))
    return columns


def _measured(
    study: Study, measure: Measure, values: Sequence[dict[int, float]], *, bounds: bool = True
) -> _Column:
    cells = []
    for group, mine in zip(study.groups, values, strict=True):
        interval = over_seeds([measure.scale * value for value in mine.values()])
        text = _show(interval, measure.digits, bounds=bounds and len(mine) > 1)
        if interval is not None and len(mine) < len(group.runs):
            text += f" ({len(mine)} of {len(group.runs)} seeds)"
        cells.append(Cell(text=text, interval=interval, num_seeds=len(mine)))
    return measure.heading, cells


def _differences(
    study: Study,
    against: str,
    measure: Measure,
    values: Sequence[dict[int, float]],
    prefix: str = "",
) -> list[_Column]:
    by_row = {
        (group.label, group.setting): {seed: measure.scale * v for seed, v in mine.items()}
        for group, mine in zip(study.groups, values, strict=True)
    }
    differences, smallest = [], []
    for group in study.groups:
        reference = study.reference(group, against)
        found, text = None, "no reference here"
        if reference is group:
            text = "0"
        elif reference is not None:
            mine, theirs = (by_row[g.label, g.setting] for g in (group, reference))
            found = paired(mine, theirs)
            text = "no common seed" if mine and theirs else MISSING
        if found is None:
            differences.append(Cell(text=text))
            smallest.append(Cell(text=MISSING))
            continue
        interval, detectable, count = found
        text = _show(interval, measure.digits, bounds=count > 1, sign="+")
        if count < len(group.runs):
            text += f" ({count} seeds)"
        differences.append(Cell(text=text, interval=interval, num_seeds=count))
        exact = None if detectable is None else Interval(detectable, detectable, detectable)
        smallest.append(
            Cell(text=_show(exact, measure.digits, bounds=False), interval=exact, num_seeds=count)
        )
    return [(f"{prefix}against {against}", differences), (f"{prefix}detectable", smallest)]


def _show(interval: Interval | None, digits: int, *, bounds: bool, sign: str = "") -> str:
    if interval is None:
        return MISSING
    mean, low, high = (
        f"{value:{sign},.{digits}f}" for value in (interval.mean, interval.low, interval.high)
    )
    return f"{mean} [{low}, {high}]" if bounds else mean


def markdown(table: Table) -> str:
    """Return the table in Markdown, its notes below."""
    lines = [f"| {' | '.join(table.headings)} |", "|" + "---|" * len(table.headings)]
    lines += ["| " + " | ".join(cell.text for cell in row) + " |" for row in table.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in table.notes)]) + "\n"


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    character: f"\\{character}" for character in "&%$#_{}"
}


def latex(table: Table) -> str:
    r"""Return a ``tabular`` for the package booktabs; intervals are small."""

    def escape(text: str) -> str:
        return "".join(_TEX.get(character, character) for character in text)

    def show(cell: Cell) -> str:
        mean, bracket, bounds = cell.text.partition(" [")
        if cell.interval is None or not bracket:
            return escape(cell.text)
        return f"{escape(mean)} {{\\scriptsize [{escape(bounds)}}}"

    numeric = [any(row[i].interval for row in table.rows) for i in range(len(table.headings))]
    lines = [
        f"% {table.title}; needs \\usepackage{{booktabs}}",
        *(f"% {note}" for note in table.notes),
        f"\\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numeric)}}}",
        "\\toprule",
        " & ".join(escape(heading) for heading in table.headings) + r" \\",
        "\\midrule",
        *(" & ".join(show(cell) for cell in row) + r" \\" for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def tidy_rows(study: Study, table: Table) -> tuple[list[str], list[list[str | float | int]]]:
    """Return (columns, rows), a row per number: method, settings, measure, interval, seeds."""
    columns = ["method", *study.setting_keys, SEES, "measure", "mean", "low", "high", "seeds"]
    rows: list[list[str | float | int]] = []
    for group, cells in zip(study.groups, table.rows, strict=True):
        settings = [value for _, value in group.setting]
        for heading, cell in zip(table.headings, cells, strict=True):
            if (interval := cell.interval) is not None:
                numbers = (interval.mean, interval.low, interval.high, cell.num_seeds)
                rows.append([group.label, *settings, group.needs, heading, *numbers])
    return columns, rows


def tidy_csv(study: Study, table: Table) -> str:
    """Return ``tidy_rows`` as CSV."""
    out = io.StringIO()
    columns, rows = tidy_rows(study, table)
    csv.writer(out, lineterminator="\n").writerows([columns, *rows])
    return out.getvalue()


WRITERS: dict[str, Callable[[Study, Table], str]] = {
    "md": lambda _, table: markdown(table),
    "tex": lambda _, table: latex(table),
    "csv": tidy_csv,
}
"""File endings to what fills such a file."""
