"""A study's tables: results and costs, one row a method and setting, best first.

A table holds every column that the runs have. What is read (Markdown, LaTeX, the page) shows the
usual ones, or those that are chosen; the CSV always holds all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from knexa.errors import UserError, did_you_mean
from knexa.report.aggregate import Group, Study, resolve_method
from knexa.report.measures import (
    BYZANTINE,
    COSTS,
    EQUAL_STEPS,
    HIDDEN,
    PASS,
    SCORES,
    Measure,
    at_steps,
    over_seeds,
    paired,
    step_budget,
)
from knexa.statistics import Interval, holm

MISSING = "-"
_COMPARED = {"pass@1": "", "cumulative_regret": "regret "}
"""Measures with a difference to the reference, and how its heading begins."""
SEES = "sees beyond profiles and rewards"
BOLD = "Bold marks the best mean of a setting, methods that see probes aside; it is no test."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one place of a table shows, and the numbers behind it.

    Attributes:
        text: As printed.
        interval: Mean and bounds, in the column's unit; None for text.
        half: Half the interval's width as printed, where the mean is its middle; else empty.
        num_seeds: Seeds behind the interval.
        partial: Whether they are fewer than the row's.
        best: Whether it is the best of its setting.
    """

    text: str
    interval: Interval | None = None
    half: str = ""
    num_seeds: int = 0
    partial: bool = False
    best: bool = False


class Kind(Enum):
    """What a column is for."""

    ROW = "names the row; always shown first"
    MEASURE = "says something of it"
    DIFFERENCE = "difference to the reference"
    P_VALUE = "p-value of that difference"
    PROBABILITY = "probability of being better than the reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        name: For ``--columns`` and in the CSV.
        heading: As printed.
        cells: One per row.
        brief: Heading in LaTeX, a line a word; empty for the heading itself.
        usual: Whether it is shown unless columns are chosen.
        kind: What it is for.
    """

    name: str
    heading: str
    cells: tuple[Cell, ...]
    brief: str = ""
    usual: bool = True
    kind: Kind = Kind.MEASURE

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return any(cell.interval is not None for cell in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table.

    Attributes:
        name: File name without its ending.
        title: Heading.
        columns: All of them.
        notes: Sentences on what is in it.
        chosen: Names of the columns to show, in order; empty for the usual ones.
        against: Method that differences are taken to.
        means: What its scores are over seeds.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    against: str | None = None
    means: str = "Means"

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings of all columns."""
        return tuple(column.heading for column in self.columns)

    @property
    def rows(self) -> tuple[tuple[Cell, ...], ...]:
        """The cells of all columns, by row."""
        return tuple(zip(*(column.cells for column in self.columns), strict=True))

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns to show: what names the row, then the chosen or the usual ones."""
        first = [column for column in self.columns if column.kind is Kind.ROW]
        others = {column.name: column for column in self.columns if column.kind is not Kind.ROW}
        names = self.chosen or [name for name, column in others.items() if column.usual]
        return (*first, *(others[name] for name in names))

    @property
    def num_comparisons(self) -> int:
        """P-values that the table holds, corrected together."""
        found = (column.cells for column in self.columns if column.kind is Kind.P_VALUE)
        return sum(cell.interval is not None for cells in found for cell in cells)

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes, and what is not shown."""
        # What methods see is shown where any sees more than usual.
        seen = {column.name for column in self.shown} | {"sees"}
        hidden = [column.name for column in self.columns if column.name not in seen]
        told = [f"Not shown (--columns, {self.name}.csv): {', '.join(hidden)}."] if hidden else []
        return (*self.notes, *told)


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


def choose(tables: Sequence[Table], names: Sequence[str]) -> tuple[Table, ...]:
    """Return the tables with these columns shown, in this order.

    A table shows its usual columns where no name is a column of its own; a column that several
    tables have is the first one's, and the others' where they show another.

    Raises:
        UserError: A name that no table has, or one given twice.
    """
    by_table = [
        [column.name for column in table.columns if column.kind is not Kind.ROW] for table in tables
    ]
    known = list(dict.fromkeys(name for mine in by_table for name in mine))
    first = {c.heading for table in tables for c in table.columns if c.kind is Kind.ROW}
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"--columns names {name} twice")
        if name not in known:
            why = "always comes first" if name in first else "is no column of these runs"
            raise UserError(
                f"--columns: {name!r} {why}{did_you_mean(name, known)}; "
                f"there are {', '.join(known)}"
            )
    shown = []
    earlier: set[str] = set()
    for table, mine in zip(tables, by_table, strict=True):
        wanted = [name for name in names if name in mine]
        own = any(name not in earlier for name in wanted)
        shown.append(replace(table, chosen=tuple(wanted)) if own else table)
        earlier.update(mine)
    return tuple(shown)


def _results(study: Study, against: str | None) -> Table:
    columns = _names(study)
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
    columns = _without_equal_peak(columns)
    columns += _optional(study, HIDDEN)
    byzantine = _optional(study, BYZANTINE)
    if byzantine:
        columns += byzantine
        notes.append(
            "Honest agents are those that do not lie. The liars' teaching is the share of honest "
            "agents' lessons that liars gave, over the share that uniformly random pairs would "
            "give them; the rounds are those until its moving mean over five rounds is below a "
            "third and stays there, over the seeds where that happened; where each topic is asked "
            "about by itself, also the first round from which on every single one is."
        )
    if absent:
        notes.append(f"Not measured in these runs: {', '.join(absent)}.")
    if any(map(sees_probes, study.groups)):
        notes.append(
            "A method that sees probes (counterfactual rewards) is no matchmaker that could be "
            "deployed: it marks what there was to gain."
        )
    return _table("results", "Results", columns, notes, against, after=study.notes)


def sees_probes(group: Group) -> bool:
    """Return whether the method could not be deployed, since it sees counterfactual rewards."""
    return any("probes" in need for need in group.runs[0].needs)


def _without_equal_peak(columns: Sequence[Column]) -> list[Column]:
    """Return the columns; the greedy ones are unusual where no curve has a peak before its end."""
    means = {
        column.name: [cell.interval and cell.interval.mean for cell in column.cells]
        for column in columns
        if column.name in ("greedy_last", "greedy_peak")
    }
    if len(means) < 2 or means["greedy_last"] != means["greedy_peak"]:
        return list(columns)
    return [replace(c, usual=False) if c.name in means else c for c in columns]


def _optional(study: Study, measures: Sequence[Measure]) -> list[Column]:
    """Return the columns of the measures that any run has."""
    found = [(measure, [g.values(measure.name) for g in study.groups]) for measure in measures]
    return [_measured(study, measure, values) for measure, values in found if any(values)]


def _costs(study: Study, against: str | None) -> Table:
    columns = [replace(c, usual=False) if c.name == "sees" else c for c in _names(study)]
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
        return _table("costs", "Costs", columns, notes, None)
    steps = [budgets[group.setting] for group in study.groups]
    texts = [MISSING if s is None else f"{s:,.0f}" for s in steps]
    columns.append(text_column("equal_steps", "equal steps", texts))
    columns.append(_measured(study, EQUAL_STEPS, reached))
    if against is not None:
        columns += _differences(study, against, EQUAL_STEPS, reached, "equal steps ")
    notes.append(
        "Equal steps: every curve is read (between rounds by linear interpolation) at the "
        "optimizer steps that all runs of the setting have reached."
    )
    return _table("costs", "Costs", columns, notes, against)


def _table(
    name: str,
    title: str,
    columns: Sequence[Column],
    notes: Sequence[str],
    against: str | None,
    *,
    after: Sequence[str] = (),
) -> Table:
    """Return the table: its p-values corrected, and what it marks explained."""
    corrected = _corrected(columns)
    told = list(notes)
    plain = Table(name=name, title=title, columns=corrected, against=against)
    if number := plain.num_comparisons:
        told.append(
            f"p (Holm): two-sided paired t tests, corrected by Holm's method for the {number} "
            f"comparison{'s' * (number != 1)} of this table. Intervals are at 95 % each, not "
            "corrected."
        )
    if any(cell.best for column in corrected for cell in column.cells):
        told.append(BOLD)
    return replace(plain, notes=(*told, *after))


def _corrected(columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns with all p-values together corrected by Holm's method."""
    raw = [
        cell.interval.mean
        for column in columns
        if column.kind is Kind.P_VALUE
        for cell in column.cells
        if cell.interval is not None
    ]
    corrected = iter(holm(np.array(raw)).tolist())

    def correct(cell: Cell) -> Cell:
        if cell.interval is None:
            return cell
        p = next(corrected)
        text = "<0.001" if p < 0.0005 else f"{p:.3f}"
        return replace(cell, text=text, interval=Interval(p, p, p))

    return tuple(
        replace(column, cells=tuple(map(correct, column.cells)))
        if column.kind is Kind.P_VALUE
        else column
        for column in columns
    )


def text_column(
    name: str, heading: str, texts: Sequence[str], *, kind: Kind = Kind.MEASURE
) -> Column:
    """Return a column of words."""
    cells = tuple(Cell(text=text) for text in texts)
    return Column(name=name, heading=heading, cells=cells, kind=kind)


def _names(study: Study) -> list[Column]:
    columns = [text_column("method", "method", [g.label for g in study.groups], kind=Kind.ROW)]
    for index, key in enumerate(study.setting_keys):
        values = [group.setting[index][1] for group in study.groups]
        # Not the bare key: a setting may be called like a measure, e.g. steps.
        columns.append(text_column(f"setting {key}", key, values, kind=Kind.ROW))
    needs = [group.needs for group in study.groups]
    columns.append(replace(text_column("sees", SEES, needs), usual=len({*needs, "nothing"}) > 1))
    columns.append(text_column("seeds", "seeds", [str(len(group.runs)) for group in study.groups]))
    return columns


def _measured(
    study: Study, measure: Measure, values: Sequence[dict[int, float]], *, bounds: bool = True
) -> Column:
    cells = []
    for group, mine in zip(study.groups, values, strict=True):
        interval = over_seeds([measure.scale * value for value in mine.values()])
        cell = show(interval, measure.digits, bounds=bounds and len(mine) > 1)
        partial = interval is not None and len(mine) < len(group.runs)
        text = f"{cell.text} ({len(mine)} of {len(group.runs)} seeds)" if partial else cell.text
        cells.append(replace(cell, text=text, num_seeds=len(mine), partial=partial))
    return Column(
        name=measure.name,
        heading=measure.heading,
        cells=mark_best(cells, measure, [(g.setting, sees_probes(g)) for g in study.groups]),
        brief=measure.brief,
        usual=measure.usual,
    )


def mark_best(
    cells: Sequence[Cell], measure: Measure, rows: Sequence[tuple[object, bool]]
) -> tuple[Cell, ...]:
    """Return the cells with the best of each setting marked, as good as printed; none if all are.

    Args:
        cells: One per row.
        measure: Which values are better; where that is not sure, none is marked.
        rows: (setting, whether the method sees probes and does not compete) of each row.
    """
    competing: dict[object, dict[int, float]] = {}
    for place, (cell, (setting, out)) in enumerate(zip(cells, rows, strict=True)):
        if cell.interval is not None and not out:
            value = round(cell.interval.mean, measure.digits)
            competing.setdefault(setting, {})[place] = value
    best: set[int] = set()
    if measure.better is not None:
        pick = max if measure.better == "higher" else min
        for found in competing.values():
            if len(set(found.values())) > 1:
                top = pick(found.values())
                best |= {place for place, value in found.items() if value == top}
    return tuple(replace(c, best=True) if i in best else c for i, c in enumerate(cells))


def _differences(
    study: Study,
    against: str,
    measure: Measure,
    values: Sequence[dict[int, float]],
    prefix: str,
) -> list[Column]:
    """Return the columns of difference, smallest detectable one, and p-value (uncorrected)."""
    by_row = {
        (group.label, group.setting): {seed: measure.scale * v for seed, v in mine.items()}
        for group, mine in zip(study.groups, values, strict=True)
    }
    differences, smallest, p_values = [], [], []
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
            p_values.append(Cell(text=MISSING))
            continue
        count = found.num_seeds
        cell = show(found.difference, measure.digits, bounds=count > 1, sign="+")
        partial = count < len(group.runs)
        text = f"{cell.text} ({count} seeds)" if partial else cell.text
        differences.append(replace(cell, text=text, num_seeds=count, partial=partial))
        smallest.append(_number(found.detectable, measure.digits, count))
        p_values.append(_number(found.p_value, 3, count))
    name = prefix.replace(" ", "_")
    return [
        Column(
            name=f"{name}difference",
            heading=f"{prefix}against {against}",
            cells=tuple(differences),
            brief=r"$\Delta$" if measure is PASS else rf"$\Delta$ {measure.brief}",
            kind=Kind.DIFFERENCE,
        ),
        Column(
            name=f"{name}detectable",
            heading=f"{prefix}detectable",
            cells=tuple(smallest),
            usual=measure is PASS,
        ),
        Column(
            name=f"{name}p",
            heading=f"{prefix}p (Holm)",
            cells=tuple(p_values),
            brief=r"$p$",
            kind=Kind.P_VALUE,
        ),
    ]


def _number(value: float | None, digits: int, num_seeds: int) -> Cell:
    if value is None:
        return Cell(text=MISSING)
    cell = show(Interval(value, value, value), digits, bounds=False)
    return replace(cell, num_seeds=num_seeds)


def show(interval: Interval | None, digits: int, *, bounds: bool, sign: str = "") -> Cell:
    """Return ``mean [low, high]`` as a cell, with the interval behind it."""
    if interval is None:
        return Cell(text=MISSING)
    mean, low, high = (
        f"{value:{sign},.{digits}f}" for value in (interval.mean, interval.low, interval.high)
    )
    if not bounds:
        return Cell(text=mean, interval=interval)
    half = f"{(interval.high - interval.low) / 2:,.{digits}f}"
    return Cell(text=f"{mean} [{low}, {high}]", interval=interval, half=half)
