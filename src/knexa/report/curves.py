"""Figures over rounds: learning curves, regret with its slope, divergence of the pairs' data.

Each function returns a figure, or raises ``NotDrawnError`` where the runs lack what it needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from knexa.data.divergence import jensen_shannon
from knexa.report import drawing
from knexa.report.aggregate import Group, Named, Study, show_named
from knexa.report.drawing import Look, Looks, NotDrawnError
from knexa.report.measures import (
    Array,
    Curves,
    band,
    common_rounds,
    learning_curve,
    log_log_slope,
    regret_curves,
    slope_range,
    steps_curve,
)
from knexa.report.runs import Run
from knexa.tracking import plot_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ALL_PAIRS = Look(name="all pairs", colour=style.GREY, dashes=(3.0, 2.0), marker="")
MAX_SLOPES_INSIDE = 5  # more in the panel leave the lines no room
C = TypeVar("C")


def learning(study: Study, looks: Looks) -> "Figure":
    """Draw greedy Pass@1 over rounds, a band per method."""
    lines = _lines(study, learning_curve)
    if not any(len(curves.x_R) > 1 for found in lines.values() for _, curves in found):
        raise NotDrawnError("no run measured Pass@1 in more than one round (evaluation.every)")
    return _draw(lines, looks, "Round", "Pass@1, greedy (%)", 100)


def learning_by_steps(study: Study, looks: Looks) -> "Figure":
    """Draw greedy Pass@1 over optimizer steps: what each method made of equal training."""
    lines = _lines(study, steps_curve)
    if not lines:
        raise NotDrawnError("no run recorded optimizer steps beside a learning curve")
    if not any(len(c.rounds_R) > 1 for g in study.groups for r in g.runs if (c := r.curve)):
        raise NotDrawnError("no run measured Pass@1 in more than one round (evaluation.every)")
    return _draw(lines, looks, "Optimizer steps, all agents", "Pass@1, greedy (%)", 100)


def divergence(study: Study, looks: Looks) -> "Figure":
    """Draw the mean Jensen-Shannon divergence of the data of each round's pairs.

    The grey line is the mean over all pairs of the same federations: random pairing's expectation.
    """
    lines = _lines(study, _divergence_curve)
    if not lines:
        raise NotDrawnError("no run has pairs of agents with data in exchanges.jsonl")
    levels = {}
    for setting, found in lines.items():
        means = [_mean_divergence(run.data_shares) for group, _ in found for run in group.runs]
        levels[setting] = float(np.mean([value for value in means if value is not None]))
    return _draw(lines, looks, "Round", "Divergence of a pair's data (bits)", 1, levels)


def regret(study: Study, looks: Looks, asked: tuple[float, float] | None = None) -> "Figure":
    """Draw cumulative regret with bands, plain and log-log with its slope, per setting."""
    found = _lines(study, lambda group: regret_curves(group, "chosen"))
    if not found:
        raise NotDrawnError("no run has counterfactual probes (regret.every)")
    drawing.check_panels(len(found))
    first, last = slope_range(study, asked)
    crowded = max(map(len, found.values())) > MAX_SLOPES_INSIDE
    width, height = 10.6 if crowded else 7.6, 0.4 + 2.8 * len(found)
    figure, axes = style.panels(width, height, 2 * len(found), rows=len(found))
    for row, (setting, members) in enumerate(found.items()):
        left, right = axes[2 * row], axes[2 * row + 1]
        ends, slopes = [], []
        for look, rounds_R, cumulative_SR in _with_random(members, looks):
            curves = band(rounds_R, cumulative_SR)
            drawing.draw_band(left, curves, look, num_bands=len(members))
            ends.append((float(curves.mean_R[-1]), look.name, look.colour))
            slope = log_log_slope(rounds_R, cumulative_SR, first, last)
            if not isinstance(slope, str):
                name = f"{slope.mean:.2f} [{slope.low:.2f}, {slope.high:.2f}] {look.name}"
                slopes.append((look, curves, name))
        left.axhline(0, color=style.GREY, linewidth=0.8)
        left.set(xlabel="Round", ylabel="Cumulative regret (raw reward)")
        title = drawing.wrapped(show_named(setting), 44)
        left.set_title(title or "Regret against the best pairing")
        style.integer_rounds(left)
        style.label_line_ends(left, float(left.dataLim.x1), ends)
        _draw_slopes(right, slopes, (first, last))
    return figure


def _draw_slopes(
    axes: "Axes", slopes: Sequence[tuple[Look, Curves, str]], fitted: tuple[float, float]
) -> None:
    """Draw regret on logarithmic axes, with the slopes in the legend."""
    axes.set_title(f"Log-log slope over rounds {fitted[0]:g} to {fitted[1]:g}")
    if not slopes:
        axes.text(
            0.5,
            0.5,
            "no slope: too few probed rounds,\nor regret that is not positive",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=style.GREY,
        )
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        return
    drawing.plain_log(axes)
    axes.set(xlabel="Round", ylabel="Cumulative regret")
    axes.axvspan(*fitted, color="#e6e6e6", alpha=0.45, linewidth=0, zorder=0)
    for look, curves, name in slopes:
        positive = curves.mean_R > 0
        x, y = curves.x_R[positive], curves.mean_R[positive]
        axes.plot(x, y, color=look.colour, dashes=look.dashes, label=name)
    # Handles as long as the longest pattern of dashes, which alone tells lines of one colour apart.
    style_of: dict[str, Any] = {"frameon": False, "fontsize": 6.5, "handlelength": 3.2}
    if len(slopes) > MAX_SLOPES_INSIDE + 1:  # random's expectation may stand beside the methods
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), **style_of)
        return
    axes.legend(loc="upper left", **style_of)
    low, high = axes.get_ylim()
    room = 0.03 + 0.057 * len(slopes)  # the legend's share of the height
    axes.set_ylim(low, high * (high / low) ** (room / (1.0 - room)))


def _with_random(
    members: Sequence[tuple[Group, tuple[Array, Array]]], looks: Looks
) -> list[tuple[Look, Array, Array]]:
    """Return the curves to draw; where no method pairs at random, its expectation beside them."""
    drawn = [(looks[group.label], *curve) for group, curve in members]
    if not any(group.runs[0].matchmaker == "random" for group, _ in members):
        expected = regret_curves(members[0][0], "random")
        if expected is not None:
            name = f"random (expected along {looks[members[0][0].label].name})"
            look = Look(name=name, colour=style.GREY, dashes=(3.0, 2.0))
            drawn.append((look, *expected))
    return drawn


def _lines(
    study: Study, curve_of: Callable[[Group], C | None]
) -> dict[Named, list[tuple[Group, C]]]:
    """Return the groups of each setting that have a curve, with it."""
    found: dict[Named, list[tuple[Group, C]]] = {}
    for group in study.groups:
        if (curve := curve_of(group)) is not None:
            found.setdefault(group.setting, []).append((group, curve))
    return found


def _draw(
    lines: Mapping[Named, Sequence[tuple[Group, Curves]]],
    looks: Looks,
    xlabel: str,
    ylabel: str,
    scale: float,
    levels: Mapping[Named, float] | None = None,
) -> "Figure":
    drawing.check_panels(len(lines))
    figure, axes = drawing.grid_of([show_named(setting) for setting in lines])
    ends: dict[int, list[tuple[float, float, str]]] = {}
    for index, (setting, found) in enumerate(lines.items()):
        for group, curves in found:
            look = looks[group.label]
            drawing.draw_band(axes[index], curves, look, scale=scale, num_bands=len(found))
            end = (float(curves.x_R[-1]), float(scale * curves.mean_R[-1]), group.label)
            ends.setdefault(index, []).append(end)
        if levels is not None:
            axes[index].axhline(levels[setting], color=style.GREY, linewidth=0.9, dashes=(3, 2))
            ends[index].append((ends[index][0][0], levels[setting], _ALL_PAIRS.name))
        axes[index].set(xlabel=xlabel, ylabel=ylabel)
        style.integer_rounds(axes[index])
    drawing.tidy(axes, share="y")
    drawing.name_lines(figure, axes, ends, {**looks, _ALL_PAIRS.name: _ALL_PAIRS})
    return figure


def _divergence_curve(group: Group) -> Curves | None:
    found = [_divergences(run) for run in group.runs]
    found = [(rounds_K, values_K) for rounds_K, values_K in found if len(rounds_K)]
    # With abstention, rounds without pairs differ from seed to seed.
    common = common_rounds([rounds_K for rounds_K, _ in found])
    if not common:
        return None
    curves = [
        [float(values_K[rounds_K == number].mean()) for number in common]
        for rounds_K, values_K in found
    ]
    return band(np.array(common, dtype=np.float64), np.array(curves))


def _divergences(run: Run) -> tuple[NDArray[np.int64], Array]:
    """Return (rounds_K, values_K) of the run's pairs."""
    js_NN = jensen_shannon(run.data_shares)
    # A server agent has no data of its own to compare.
    with_data_K3 = run.pairs_K3[(run.pairs_K3[:, 1:] < len(js_NN)).all(axis=1)]
    rounds_K, teachers_K, students_K = with_data_K3.T
    return rounds_K, js_NN[teachers_K, students_K]


def _mean_divergence(shares_NB: Array) -> float | None:
    if len(shares_NB) < 2:
        return None
    js_NN = jensen_shannon(shares_NB)
    return float(js_NN[~np.eye(len(js_NN), dtype=bool)].mean())
