"""One HTML file with a study's tables and figures: no network, no script, light and dark."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from knexa.report.aggregate import Study
from knexa.report.figures import Picture
from knexa.report.table import Cell, Table

# Figures are drawn for white paper; in the page their colours follow the reader's scheme. The
# heat map keeps its own, since its numbers are chosen by how dark a cell is.
_THEMED = {
    "#1a1a1a": "ink",
    "#444444": "soft",
    "#555555": "soft",
    "#8a8a8a": "grey",
    "#e6e6e6": "rule",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#332288": "indigo",
    "#882255": "wine",
}
_UNTHEMED = ("pairing",)

_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1a1a1a; --soft: #444444;
  --grey: #8a8a8a; --rule: #e6e6e6; --tint: #f6f7f9; --shade: #0000004d;
  --blue: #0072b2; --indigo: #332288; --wine: #882255; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171b; --ink: #ececec; --soft: #b9bcc2;
  --grey: #8f949c; --rule: #33373e; --tint: #1e2127; --shade: #ffffff4d;
  --blue: #4aa5e0; --indigo: #9a8cf0; --wine: #d7689a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.2rem; margin: 3rem 0 .6rem; padding-top: .4rem;
  border-top: 1px solid var(--rule); }
p, li { color: var(--soft); max-width: 46rem; }
nav { font-size: .9rem; margin: 1rem 0 0; line-height: 1.9; }
nav a { color: var(--blue); margin-right: 1rem; text-decoration: none; white-space: nowrap; }
nav a:hover, nav a:focus { text-decoration: underline; }
/* Shadows say that a table goes on: each stays at its edge and is covered by a patch of paper that
   moves with the table. The first column stays. */
.scroll { overflow-x: auto; background: linear-gradient(to left, var(--paper) 40%, transparent)
    right / 3.5rem 100% no-repeat local,
  linear-gradient(to left, var(--shade), transparent) right / 1.1rem 100% no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; font-size: .82rem;
  font-variant-numeric: tabular-nums; }
thead th { text-align: left; vertical-align: bottom; font-weight: 600; min-width: 4.5rem;
  border-bottom: 1.5px solid var(--ink); }
th, td { padding: .4rem .9rem .4rem 0; }
th.number, td.number { text-align: right; }
tbody th { text-align: left; font-weight: 400; }
tbody th, td { border-bottom: 1px solid var(--rule); white-space: nowrap; }
tr > :first-child { position: sticky; left: 0; z-index: 1; background: var(--paper); }
td small { color: var(--grey); font-size: .92em; }
tbody tr:hover > * { background: var(--tint); }
.notes { font-size: .85rem; padding-left: 1.1rem; }
figure { margin: 0; }
figure svg { fill: var(--ink); display: block; width: 100%; height: auto; max-width: 52rem;
  margin: .4rem 0; }
figure.plain svg { fill: #1a1a1a; background: #ffffff; border-radius: 6px; padding: .6rem; }
figcaption { font-size: .88rem; color: var(--soft); max-width: 46rem; }
dt { font-weight: 600; margin-top: .5rem; } dd { margin: 0; color: var(--soft); }
@media (max-width: 40rem) { body { padding-top: 1.5rem; }
  tbody th { white-space: normal; overflow-wrap: break-word; min-width: 7rem;
    max-width: 9rem; } }
@media print { body { max-width: none; } h2 { break-after: avoid; }
  figure { break-inside: avoid; } }
"""


def render(study: Study, tables: Sequence[Table], pictures: Sequence[Picture], folder: Path) -> str:
    """Return the page; ``folder`` holds the pictures' SVG files, which become part of it."""
    drawn = [picture for picture in pictures if picture.missing is None]
    missing = [picture for picture in pictures if picture.missing is not None]
    links = [(table.name, table.title) for table in tables]
    links += [(picture.name, picture.title) for picture in drawn]
    links += [("missing", "Left out")] if missing else []
    body = [
        "<header>",
        "<h1>Who should teach whom: comparison of runs</h1>",
        f"<p>{escape(_opening(study))}</p>",
        "<nav>",
        *(f'<a href="#{name}">{escape(title)}</a>' for name, title in links),
        "</nav>",
        "</header>",
        *(_table(table) for table in tables),
        *(_figure(p, (folder / f"{p.name}.svg").read_text(encoding="utf-8")) for p in drawn),
        _missing(missing) if missing else "",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>knexa: comparison of runs</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _opening(study: Study) -> str:
    runs = [run for group in study.groups for run in group.runs]
    seeds = sorted({run.seed for run in runs})
    shown = ", ".join(map(str, seeds))
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        shown = f"{seeds[0]} to {seeds[-1]}"
    methods, settings = len(study.labels), len(study.settings)
    text = f"{_count(len(runs), 'finished run')} of {_count(methods, 'method')}"
    text += f" in {_count(settings, 'setting')}" if settings > 1 else ""
    text += f", {'seed' if len(seeds) == 1 else 'seeds'} {shown}."
    if study.setting_keys:
        text += f" Settings differ in {', '.join(study.setting_keys)}."
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _table(table: Table) -> str:
    columns = table.shown
    kinds = [' class="number"' if column.numeric else "" for column in columns]
    head = "".join(
        f'<th scope="col"{kind}>{escape(column.heading)}</th>'
        for kind, column in zip(kinds, columns, strict=True)
    )
    rows = []
    for first, *cells in zip(*(column.cells for column in columns), strict=True):
        shown = "".join(f"<td{k}>{_cell(c)}</td>" for k, c in zip(kinds[1:], cells, strict=True))
        rows.append(f'<tr><th scope="row">{_breakable(first.text)}</th>{shown}</tr>')
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.footnotes)
    return (
        f'<section>\n<h2 id="{table.name}">{escape(table.title)}</h2>\n'
        f'<div class="scroll" role="region" aria-labelledby="{table.name}" tabindex="0"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{chr(10).join(rows)}\n</tbody>\n</table></div>\n"
        f'<ul class="notes">{notes}</ul>\n</section>'
    )


def _breakable(text: str) -> str:
    """Return a name that may break after its slashes, underscores and equals signs."""
    return re.sub("([/_=])", r"\1<wbr>", escape(text))


def _cell(cell: Cell) -> str:
    """Return its text, the best value bold, an interval's brackets smaller than its mean."""
    mean, space, rest = escape(cell.text).partition(" ")
    mean = f"<b>{mean}</b>" if cell.best else mean
    return mean + space + re.sub(r"(\[.*?\])", r"<small>\1</small>", rest)


def _figure(picture: Picture, svg: str) -> str:
    kind = ' class="plain"' if picture.name in _UNTHEMED else ""
    return (
        f'<section>\n<h2 id="{picture.name}">{escape(picture.title)}</h2>\n<figure{kind}>\n'
        f"{_inline(svg, picture)}\n<figcaption>{escape(picture.caption)}</figcaption>\n"
        "</figure>\n</section>"
    )


def _inline(svg: str, picture: Picture) -> str:
    """Return the svg element alone: ids of its own, themed colours, named for screen readers."""
    element = svg[svg.index("<svg") :].strip()
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    prefix = f"{picture.name}-"
    element = re.sub(r'\bid="', f'id="{prefix}', element)
    element = re.sub(r'(xlink:href="|href="|url\()#', rf"\g<1>#{prefix}", element)
    if picture.name not in _UNTHEMED:
        pattern = re.compile("|".join(_THEMED), flags=re.IGNORECASE)
        element = pattern.sub(lambda found: f"var(--{_THEMED[found[0].lower()]})", element)
    # Fixed points would stop it from growing with the page; the viewBox keeps its shape.
    element = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", element)
    element = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", element)
    name = escape(f"{picture.title}. {picture.caption}", quote=True)
    return element.replace("<svg", f'<svg role="img" aria-label="{name}"', 1)


def _missing(pictures: Sequence[Picture]) -> str:
    items = "".join(
        f"<dt>{escape(picture.title)}</dt><dd>{escape(picture.missing or '')}</dd>"
        for picture in pictures
    )
    return f'<section>\n<h2 id="missing">Left out</h2>\n<dl>{items}</dl>\n</section>'
