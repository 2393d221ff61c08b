"""What the report's figures share: methods' colours, panels by setting, lines with bands."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from knexa.report.aggregate import Group, Named, Study, without_common_exchange
from knexa.report.measures import Curves
from knexa.report.runs import NO_EXCHANGE
from knexa.tracking import plot_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_PANELS = 12
_PANEL = (2.75, 2.2)  # inches
# Okabe and Ito's, then some of Tol's muted scheme; a new turn has other dashes and markers.
_COLOURS = (*style.AGENTS, "#882255", "#999933", "#332288", "#44AA99")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 1.6), (1.5, 1.5), (6, 1.5, 1.5, 1.5))
_MARKERS = ("o", "s", "D", "^")
_CROWD = 4  # more bands than this are drawn fainter


class NotDrawnError(Exception):
    """Why a figure cannot be drawn from these runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a method is drawn, in every figure alike.

    Attributes:
        name: Its label, without the exchange where all methods share one.
        colour: One that colour-blind readers can tell from its neighbours.
        dashes: The line's pattern, different for neighbouring hues.
        marker: The dot's shape, likewise.
    """

    name: str
    colour: str
    dashes: tuple[float, ...] = ()
    marker: str = "o"


Looks = Mapping[str, Look]
"""How each label is drawn."""


def looks(study: Study) -> dict[str, Look]:
    """Return each label's look; methods without exchange are grey."""
    names = without_common_exchange(study)
    found: dict[str, Look] = {}
    for label in study.labels:
        if label.partition(" ")[0] == NO_EXCHANGE:
            found[label] = Look(name=names[label], colour=style.GREY, dashes=_DASHES[1])
            continue
        place = sum(look.colour != style.GREY for look in found.values())
        turn = place // len(style.AGENTS) % len(_DASHES)
        found[label] = Look(
            name=names[label],
            colour=_COLOURS[place % len(_COLOURS)],
            dashes=_DASHES[turn],
            marker=_MARKERS[turn],
        )
    return found


def by_setting(groups: Sequence[Group]) -> dict[Named, list[Group]]:
    """Return the groups of each setting, in order."""
    found: dict[Named, list[Group]] = {}
    for group in groups:
        found.setdefault(group.setting, []).append(group)
    return found


def check_panels(count: int) -> None:
    """Raise ``NotDrawnError`` where a figure of that many panels could not be read."""
    if count > MAX_PANELS:
        raise NotDrawnError(
            f"{count} panels are too many to read (at most {MAX_PANELS}): name fewer runs"
        )


def grid_of(titles: Sequence[str]) -> "tuple[Figure, tuple[Axes, ...]]":
    """Return a figure with one panel per title; a single panel is larger."""
    count, room = len(titles), 76
    if count == 1:
        figure, axes = style.panels(6.0, 3.3, 1)
    else:
        columns = 2 if count in (2, 4) else 3
        rows = -(-count // columns)
        width, height = (2 * 3.4, 2.6) if columns == 2 else (3 * _PANEL[0], _PANEL[1])
        room = 40 if columns == 2 else 28
        figure, axes = style.panels(width, 0.5 + height * rows, count, rows=rows)
    for panel, title in zip(axes, titles, strict=True):
        panel.set_title(wrapped(title, room))
    return figure, axes


def tidy(axes: "Sequence[Axes]", *, share: Literal["x", "y"]) -> None:
    """Give the panels of a grid one scale, and axis labels at its left and bottom edge only."""
    limits = [panel.get_xlim() if share == "x" else panel.get_ylim() for panel in axes]
    both = (min(low for low, _ in limits), max(high for _, high in limits))
    for index, panel in enumerate(axes):
        (panel.set_xlim if share == "x" else panel.set_ylim)(both)
        spec: Any = panel.get_subplotspec()
        if not spec.is_first_col() and share == "y":
            panel.set_ylabel("")
        if index + spec.get_gridspec().ncols < len(axes):
            panel.set_xlabel("")


def wrapped(title: str, width: int) -> str:
    """Return a title in lines of at most ``width`` characters, so that it ends with its panel."""
    return textwrap.fill(title, width, break_on_hyphens=False)


def draw_band(
    axes: "Axes", curves: Curves, look: Look, *, scale: float = 1.0, num_bands: int = 1
) -> None:
    """Draw a mean line with its interval; of many bands, each is fainter."""
    markers = look.marker if len(curves.x_R) <= 12 else ""
    axes.fill_between(
        curves.x_R,
        scale * curves.low_R,
        scale * curves.high_R,
        color=look.colour,
        alpha=0.16 if num_bands <= _CROWD else 0.08,
        linewidth=0,
    )
    axes.plot(
        curves.x_R,
        scale * curves.mean_R,
        color=look.colour,
        dashes=look.dashes,
        marker=markers,
        markersize=3.2,
    )


def name_lines(
    figure: "Figure",
    axes: "Sequence[Axes]",
    ends: Mapping[int, Sequence[tuple[float, float, str]]],
    all_looks: Looks,
) -> None:
    """Name the lines: at their ends in a lone panel, in one legend below several.

    Args:
        figure: Where the panels are.
        axes: The panels.
        ends: By panel, (x, y, label) of each line's last point.
        all_looks: Looks by label.
    """
    if len(axes) == 1:
        last = max(x for x, _, _ in ends[0])
        far = []
        for x, y, label in ends[0]:
            look = all_looks[label]
            if x > 0.97 * last:
                far.append((y, look.name, look.colour))
            else:
                axes[0].annotate(
                    look.name,
                    xy=(x, y),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=7.5,
                    color=look.colour,
                )
        style.label_line_ends(axes[0], last, far)
        return
    drawn = {label for panel in ends.values() for _, _, label in panel}
    legend(figure, [look for label, look in all_looks.items() if label in drawn])


def plain_log(axes: "Axes") -> None:
    """Make both axes logarithmic with ticks at 1, 2, 5, 10, ... written plainly."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def legend(figure: "Figure", entries: Sequence[Look]) -> None:
    """Draw one legend under all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=look.colour,
            dashes=look.dashes,
            marker=look.marker,
            markersize=3.5,
            linewidth=1.8,
        )
        for look in entries
    ]
    longest = max(len(look.name) for look in entries)
    figure.legend(
        handles,
        [look.name for look in entries],
        loc="outside lower center",
        ncols=max(1, min(len(entries), 110 // (longest + 8))),
        frameon=False,
        fontsize=7.5,
    )
