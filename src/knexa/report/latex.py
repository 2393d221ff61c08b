r"""Tables for papers: a ``tabularx`` with booktabs' rules that fits a column of a paper.

The method's column takes what room the others leave, and wraps. Unless columns are chosen, the
first of the shown ones are taken that fit ``COLUMN_WIDTH``; widths are estimated from counts of
characters in Computer Modern, so that no TeX is needed.
"""

from collections.abc import Collection, Mapping, Sequence

from knexa.report.aggregate import Study, without_common_exchange
from knexa.report.table import MISSING, Cell, Column, Kind, Table

COLUMN_WIDTH = 239.0
"""Points: 3.3 inches, as of AAAI; ACM's and IEEE's two-column pages give a little more."""
MAX_COLUMNS = 7
_METHOD_WIDTH = 62.0
_GAP = 6.0  # twice \tabcolsep as set below
_CHARACTER, _SMALL_CHARACTER = 5.2, 4.1  # of 10 and 7 points, on average
_NOT_IN_PAPERS = frozenset({"sees", "seeds", "settings"})  # footnotes say what is needed of them
_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "_": r"\_\penalty200{}",
    "/": r"/\penalty200{}",
    "=": r"=\penalty200{}",
} | {character: f"\\{character}" for character in "&%$#{}"}


def latex(study: Study, table: Table) -> str:
    r"""Return rows for a ``table`` (or, where wide columns are chosen, ``table*``) environment."""
    columns = table.shown if table.chosen else _fitting(table)
    width = _METHOD_WIDTH + sum(map(_width, columns[1:]))
    above = {
        cell.text
        for cell, sees in zip(columns[0].cells, _cells(table, "sees"), strict=True)
        if "probes" in sees.text
    }
    kinds = "".join("r" if column.numeric else "l" for column in columns[1:])
    lines = [
        f"% {table.title}; needs \\usepackage{{booktabs,tabularx}}",
        *(
            [f"% About {width:.0f} pt wide, more than a column of a paper: use table*."]
            if width > COLUMN_WIDTH
            else []
        ),
        *(f"% {note}" for note in table.footnotes),
        r"\begingroup\setlength{\tabcolsep}{3pt}\noindent",
        rf"\begin{{tabularx}}{{\linewidth}}{{@{{}}>{{\raggedright\arraybackslash"
        rf"\hangindent=0.8em}}X{kinds}@{{}}}}",
        r"\toprule",
        " & ".join(["Method", *map(_heading, columns[1:])]) + r" \\",
        r"\midrule",
        *_rows(columns, without_common_exchange(study), above),
        r"\bottomrule",
        r"\end{tabularx}\par\endgroup",
        r"{\footnotesize\raggedright\noindent",
        *_footnote(study, table, columns, dagger=bool(above)),
        r"\par}",
    ]
    return "\n".join(lines) + "\n"


def _rows(columns: Sequence[Column], names: Mapping[str, str], above: Collection[str]) -> list[str]:
    """Return the rows, a little room between settings, and a dagger at methods ``above`` others."""
    rows: list[str] = []
    num_named = sum(column.kind is Kind.ROW for column in columns)
    setting: list[str] = []
    for cells in zip(*(column.cells for column in columns), strict=True):
        method = escape(names[cells[0].text]) + (r"$^\dagger$" if cells[0].text in above else "")
        before, setting = setting, [cell.text for cell in cells[1:num_named]]
        rows += [r"\addlinespace"] if rows and setting != before else []
        rows.append(" & ".join([method, *map(_show, cells[1:])]) + r" \\")
    return rows


def escape(text: str) -> str:
    """Return text as TeX source; it may break after slashes, underscores and equals signs."""
    return "".join(_TEX.get(character, character) for character in text)


def _fitting(table: Table) -> list[Column]:
    """Return the shown columns up to the first that has no room."""
    columns: list[Column] = []
    left = COLUMN_WIDTH - _METHOD_WIDTH
    for place, column in enumerate(table.shown):
        if column.name in _NOT_IN_PAPERS or column.name.endswith("detectable"):
            continue
        left -= _width(column) if place else 0.0
        if column.kind is not Kind.ROW and (left < 0 or len(columns) == MAX_COLUMNS):
            break
        columns.append(column)
    return columns


def _width(column: Column) -> float:
    """Return about how many points wide the column is, with the gap before it."""
    words = [word.replace("$", "").replace("\\", "") for word in _words(column)]
    widest = max(_CHARACTER * len(word) for word in words)
    for cell in column.cells:
        mean, _, rest = cell.text.partition(" ")
        if cell.interval is None:
            small = rest and f" {rest}"
            widest = max(widest, _CHARACTER * len(mean + small))
        else:
            small = f"+{cell.half}" if cell.half else rest.partition("]")[0]
            small += f"({cell.num_seeds})" if cell.partial else ""
            widest = max(widest, _CHARACTER * len(mean) + _SMALL_CHARACTER * len(small))
    return widest + _GAP


def _show(cell: Cell) -> str:
    if cell.interval is None:
        return "--" if cell.text == MISSING else escape(cell.text)
    mean, _, rest = cell.text.partition(" ")
    mean = _signed(mean)
    shown = rf"\textbf{{{mean}}}" if cell.best else mean
    bounds = rest.partition("]")[0] + "]" if rest.startswith("[") else ""
    small = rf"$\pm${cell.half}" if cell.half else _signed(bounds)
    if cell.partial:
        small += f" ({cell.num_seeds})"
    return rf"{shown} {{\scriptsize {small}}}" if small else shown


def _signed(text: str) -> str:
    return escape(text).replace("-", "$-$")


def _heading(column: Column) -> str:
    """Return the heading, words below each other, so that it is no wider than its numbers."""
    words = _words(column)
    if len(words) == 1:
        return words[0]
    lines, side = r" \\ ".join(words), "r" if column.numeric else "l"
    return rf"\shortstack[{side}]{{{lines}}}"


def _words(column: Column) -> list[str]:
    """Return the heading's words as TeX source; a setting's key has one a word."""
    if column.kind is Kind.ROW:
        return [escape(word) for word in column.heading.split("_") if word]
    return (column.brief or escape(column.heading)).split()


def _footnote(study: Study, table: Table, columns: Sequence[Column], *, dagger: bool) -> list[str]:
    """Return what the shown columns need to be read, a sentence a line."""
    counts = sorted({len(group.runs) for group in study.groups})
    seeds = f"{counts[0]} to {counts[-1]} seeds" if len(counts) > 1 else f"{counts[0]} seeds"
    cells = [cell for column in columns for cell in column.cells]
    lines = [f"{table.means} over {'1 seed' if counts == [1] else seeds}."]
    if any(cell.half for cell in cells):
        lines.append(r"$\pm$: 95\,\% interval over seeds (Student's $t$), not corrected.")
    elif any("[" in cell.text for cell in cells):
        lines.append(r"In brackets: 95\,\% interval (stratified bootstrap).")
    exchanges = {group.runs[0].exchange for group in study.groups} - {None}
    if len(exchanges) == 1:
        lines.append(f"Exchange: {escape(str(exchanges.pop()))}.")
    kinds = {column.kind for column in columns}
    if Kind.DIFFERENCE in kinds and table.against is not None:
        lines.append(
            rf"$\Delta$: difference to {escape(_short(study, table.against))}, paired by seed."
        )
    if Kind.PROBABILITY in kinds and table.against is not None:
        lines.append(
            rf"$P(>)$: probability of a higher score than {escape(_short(study, table.against))}'s."
        )
    if Kind.P_VALUE in kinds:
        lines.append(
            rf"$p$: paired $t$ tests, corrected by Holm's method for {table.num_comparisons} "
            "comparisons."
        )
    if any(cell.partial for cell in cells):
        lines.append("In parentheses: seeds behind a number, where they are fewer.")
    if any(cell.best for cell in cells):
        several = len(study.settings) > 1 and any(c.kind is Kind.ROW for c in columns[1:])
        lines.append(f"Bold: best mean{' of a setting' * several}.")
    if dagger:
        lines.append(r"$^\dagger$Sees counterfactual rewards; not deployable, never bold.")
    return lines


def _short(study: Study, name: str) -> str:
    """Return the short form of a label, or of a method that several labels begin with."""
    exchanges = {group.runs[0].exchange for group in study.groups} - {None}
    if without_common_exchange(study).get(name, "") == name or len(exchanges) != 1:
        return name
    return name.replace(f"/{exchanges.pop()}", "", 1)


def _cells(table: Table, name: str) -> tuple[Cell, ...]:
    return next(column.cells for column in table.columns if column.name == name)
