"""Figures of who taught whom: a heat map and a graph, a panel per method and setting.

Only exchanges of one teacher and one student count. Counts are means over seeds; agents are
compared by roster index. A function raises ``NotDrawnError`` where the runs lack what it needs.
Axes: N agents, K pairs.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from knexa.report import drawing
from knexa.report.aggregate import Group, Study, show_named
from knexa.report.drawing import Looks, NotDrawnError
from knexa.report.runs import num_agents
from knexa.tracking import plot_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CELLS, MAX_NODES, MAX_NAMED = 64, 24, 12


def heat_map(study: Study, looks: Looks) -> "Figure":
    """Draw how often each teacher (row) taught each student (column) in a run."""
    found = _counts(study, MAX_CELLS)
    figure, axes = _panels(study, looks, found, 2.7)
    top = max(1.0, *(float(np.nanmax(counts_NN)) for _, counts_NN in found))
    for panel, (group, counts_NN) in zip(axes, found, strict=True):
        image = style.heat_map(panel, counts_NN, maximum=top)
        panel.set_aspect("equal")
        names = _names(group, len(counts_NN))
        if len(counts_NN) <= MAX_NAMED:
            style.name_cells(panel, names, names)
            style.annotate_cells(
                panel, counts_NN, image, lambda v: f"{v:.3g}"[:4], skip_zero=True, fontsize=5.5
            )
            panel.tick_params(labelsize=6)
        else:
            panel.xaxis.set_major_locator(style.integer_locator())
            panel.yaxis.set_major_locator(style.integer_locator())
        panel.set(xlabel="Student", ylabel="Teacher")
    bar: Any = figure.colorbar(image, ax=list(axes), shrink=0.6, pad=0.02, aspect=30)
    bar.set_label("Exchanges in a run, mean over seeds")
    bar.outline.set_visible(False)
    return figure


def graph(study: Study, looks: Looks) -> "Figure":
    """Draw agents on a circle and an arrow from teacher to student, as wide as it was frequent."""
    found = _counts(study, MAX_NODES)
    figure, axes = _panels(study, looks, found, 2.9)
    top = max(1.0, *(float(np.nanmax(counts_NN)) for _, counts_NN in found))
    for panel, (group, counts_NN) in zip(axes, found, strict=True):
        colour = looks[group.label].colour
        _draw_graph(panel, counts_NN, _names(group, len(counts_NN)), top, colour)
    return figure


def _counts(study: Study, most: int) -> list[tuple[Group, NDArray[np.float64]]]:
    """Return the groups whose agents pair, with counts_NN (NaN on the diagonal)."""
    pairing = [group for group in study.groups if any(len(run.pairs_K3) for run in group.runs)]
    if not pairing:
        raise NotDrawnError("no run has exchanges of one teacher and one student")
    sizes = {id(group): max(num_agents(run) or 0 for run in group.runs) for group in pairing}
    kept = [group for group in pairing if sizes[id(group)] <= most]
    if not kept:
        raise NotDrawnError(f"the federations have more than {most} agents, too many to tell apart")
    drawing.check_panels(len(kept))
    found = []
    for group in kept:
        counts_NN = np.zeros((sizes[id(group)], sizes[id(group)]))
        for run in group.runs:
            np.add.at(counts_NN, (run.pairs_K3[:, 1], run.pairs_K3[:, 2]), 1 / len(group.runs))
        np.fill_diagonal(counts_NN, np.nan)
        found.append((group, counts_NN))
    return found


def _panels(
    study: Study, looks: Looks, found: list[tuple[Group, NDArray[np.float64]]], size: float
) -> "tuple[Figure, tuple[Axes, ...]]":
    rows = -(-len(found) // 3)
    columns = -(-len(found) // rows)
    width = size * columns + 0.8 if columns > 1 else 4.2
    figure, axes = style.panels(width, (size + 0.25) * rows, len(found), rows=rows)
    for panel, (group, _) in zip(axes, found, strict=True):
        lines = [looks[group.label].name, show_named(group.setting)]
        panel.set_title("\n".join(drawing.wrapped(line, 34) for line in lines if line))
    return figure, axes


def _names(group: Group, count: int) -> list[str]:
    names = group.runs[0].names
    return [names[i] if i < len(names) else f"{i}" for i in range(count)]


def _draw_graph(
    axes: "Axes", counts_NN: NDArray[np.float64], names: list[str], top: float, colour: str
) -> None:
    from matplotlib.patches import ArrowStyle, FancyArrowPatch

    num_agents = len(counts_NN)
    angles_N = np.pi / 2 - 2 * np.pi * np.arange(num_agents) / num_agents
    places_N2 = np.stack([np.cos(angles_N), np.sin(angles_N)], axis=1)
    radius, head, faintest = (9, 1.0, 0.2) if num_agents <= MAX_NAMED else (5, 0.55, 0.1)
    order = np.argsort(np.nan_to_num(counts_NN), axis=None)  # the widest last, on top
    for teacher, student in zip(*np.unravel_index(order, counts_NN.shape), strict=True):
        share = float(np.nan_to_num(counts_NN[teacher, student])) / top
        if not share > 0:
            continue
        axes.add_patch(
            FancyArrowPatch(
                tuple(places_N2[teacher]),
                tuple(places_N2[student]),
                connectionstyle="arc3,rad=0.16",  # so that the two directions do not coincide
                arrowstyle=ArrowStyle.CurveFilledB(
                    head * (2.2 + 3 * share), head * (1 + 1.8 * share)
                ),
                linewidth=0.4 + 2.6 * share,
                color=colour,
                alpha=faintest + (0.95 - faintest) * share,
                shrinkA=radius * 0.6,
                shrinkB=radius * 0.6,
                mutation_scale=1.0,
            )
        )
    axes.plot(*places_N2.T, "o", color=style.INK, markersize=radius * 0.75, mec="white", zorder=4)
    for (x, y), name in zip(1.14 * places_N2, names, strict=True):
        side = "center" if abs(x) < 0.3 else ("left" if x > 0 else "right")
        level = "center" if abs(x) >= 0.3 else ("bottom" if y > 0 else "top")
        axes.text(x, y, name, ha=side, va=level, fontsize=6.5, color=style.INK)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.32, 1.32), aspect="equal")
    axes.axis("off")
