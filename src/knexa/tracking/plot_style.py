"""The style of all figures: fonts, colours for colour-blind readers, direct labels."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK, GREY, FAINT, ACCENT = "#1a1a1a", "#8a8a8a", "#eeeeee", "#D55E00"

# Okabe and Ito (2008), yellow left out: it does not show on white.
AGENTS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
ARMS = {"best": "#009E73", "chosen": "#0072B2", "random": "#E69F00", "no teacher": "#8a8a8a"}
LOSSES = {"validation_loss": "#0072B2", "train_loss": "#009E73", "learn_loss": "#CC79A7"}

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.7,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # TrueType: journals refuse the Type 3 that is the default
    "svg.hashsalt": "knexa",  # ids that do not change from one drawing to the next
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Use the style within the block; the user's matplotlibrc is ignored."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters: Any = matplotlib.rcParams  # its keys are typed one by one
        parameters.update(_RC)
        yield


def panels(
    width: float, height: float, count: int, *, rows: int = 1, **grid: Any
) -> "tuple[Figure, tuple[Axes, ...]]":
    """Return a figure of ``count`` panels in rows, sizes in inches; pyplot is not involved."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    layout: Any = figure.get_layout_engine()
    layout.set(w_pad=0.08)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, -(-count // rows), squeeze=False, gridspec_kw=grid)
    for spare in axes.flat[count:]:
        spare.remove()
    return figure, tuple(axes.flat[:count])


def save(figure: "Figure", path: Path) -> None:
    """Write the PNG without metadata that depends on time or version."""
    figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.05, metadata={"Software": None})


def save_svg(figure: "Figure", path: Path) -> None:
    """Write the SVG with text as outlines, so that it looks the same everywhere."""
    figure.savefig(
        path, bbox_inches="tight", pad_inches=0.05, metadata={"Date": None, "Creator": None}
    )


def save_pdf(figure: "Figure", path: Path) -> None:
    """Write the PDF, vectors and fonts, without metadata that depends on time or version."""
    figure.savefig(
        path,
        bbox_inches="tight",
        pad_inches=0.05,
        metadata={"CreationDate": None, "Creator": None, "Producer": None},
    )


def agent_colour(agent: int) -> str:
    """Return the colour of an agent's line."""
    return AGENTS[agent % len(AGENTS)]


def integer_locator() -> Any:
    """Return a tick locator for counts."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=8)


def integer_rounds(axes: "Axes") -> None:
    """Place ticks at whole rounds, and widen the axis of a single one."""
    low, high = axes.get_xlim()
    if high - low < 1:
        axes.set_xlim((low + high) / 2 - 1, (low + high) / 2 + 1)
    axes.xaxis.set_major_locator(integer_locator())


def label_line_ends(axes: "Axes", x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each line's name at its end, in its colour, moved apart where they would overlap.

    Args:
        axes: Where the lines are drawn already.
        x: Where the lines end.
        ends: (y, name, colour) of each line.
    """
    from matplotlib.transforms import offset_copy

    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    gap = 0.058 * (high - low)
    figure: Any = axes.get_figure()
    beside = offset_copy(axes.transData, figure, x=9, units="points")
    places = spread([end[0] for end in sorted(ends)], gap, within=(low, high))
    for (y, name, colour), place in zip(sorted(ends), places, strict=True):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(x, place),
            textcoords=beside,
            color=colour,
            fontsize=7.5,
            fontweight="bold" if colour == INK else "normal",
            va="center",
            annotation_clip=False,
            # From the middle of the label's left edge; from its centre it would cross the others.
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "shrinkA": 1,
                "relpos": (0.0, 0.5),
            },
        )


def spread(
    values: Sequence[float], gap: float, within: tuple[float, float] | None = None
) -> list[float]:
    """Return ascending ``values`` moved as little as needed to be at least ``gap`` apart.

    Least squares: after subtracting ``gap`` times the rank it is isotonic regression, solved by
    pooling adjacent violators. ``within`` bounds the result if the values fit there.
    """
    blocks: list[list[float]] = []  # [sum, count] of values that share one place
    for rank, value in enumerate(values):
        blocks.append([value - rank * gap, 1.0])
        while len(blocks) > 1 and (blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]):
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    places = [total / count for total, count in blocks for _ in range(int(count))]
    if within is not None and (len(values) - 1) * gap <= within[1] - within[0]:
        last = within[1] - (len(values) - 1) * gap
        places = [min(max(place, within[0]), last) for place in places]
    return [place + rank * gap for rank, place in enumerate(places)]


def heat_map(axes: "Axes", values: NDArray[np.float64], *, maximum: float) -> "AxesImage":
    """Draw a matrix from white to dark blue; NaN cells are grey."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = ["#f7fbff", "#9ecae1", "#2171b5", "#08306b"]
    colours = LinearSegmentedColormap.from_list("knexa", stops).with_extremes(bad="#e4e4e4")
    image = axes.imshow(values, cmap=colours, vmin=0, vmax=maximum, aspect="auto")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def name_cells(axes: "Axes", rows: Sequence[str], columns: Sequence[str]) -> None:
    """Name rows and columns, and separate cells by white lines."""
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)


def annotate_cells(
    axes: "Axes",
    values: NDArray[np.float64],
    image: Any,
    text: Callable[[float], str],
    *,
    skip_zero: bool = False,
    fontsize: float = 7.5,
) -> None:
    """Write each value into its cell, light on dark and dark on light."""
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value) or (skip_zero and value == 0):
            continue
        dark = float(image.norm(value)) > 0.5
        axes.text(
            column,
            row,
            text(value),
            ha="center",
            va="center",
            fontsize=fontsize,
            color="white" if dark else INK,
        )


def mark_shares(axes: "Axes", shares: NDArray[np.float64]) -> None:
    """Draw a bar at the foot of each cell, as wide as the share."""
    from matplotlib.patches import Rectangle

    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.01:  # less would be a speck
            axes.add_patch(
                Rectangle(
                    (column - 0.44, row + 0.33),
                    0.88 * float(share),
                    0.11,
                    facecolor=ACCENT,
                    edgecolor="white",
                    linewidth=0.3,
                )
            )
