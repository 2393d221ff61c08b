"""Figures of final scores: Pass@1, Pass@1 over a setting, gains over random, gains by agent.

Each function returns a figure, or raises ``NotDrawnError`` where the runs lack what it needs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from knexa.report import drawing
from knexa.report.aggregate import Group, Named, Study, show_named
from knexa.report.drawing import Look, Looks, NotDrawnError
from knexa.report.measures import Array, over_seeds, paired
from knexa.report.runs import num_agents
from knexa.statistics import Interval
from knexa.tracking import plot_style as style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED_AGENTS = 12


def final(study: Study, looks: Looks) -> "Figure":
    """Draw each method's final Pass@1: a dot per seed, the mean with its interval."""
    settings = drawing.by_setting([g for g in study.groups if g.values("pass@1")])
    if not settings:
        raise NotDrawnError("no run has a final Pass@1")
    drawing.check_panels(len(settings))
    most = max(len(groups) for groups in settings.values())
    columns = min(len(settings), 2)
    rows = -(-len(settings) // columns)
    figure, axes = style.panels(
        5.2 if columns == 1 else 8.2, rows * (0.75 + 0.26 * most), len(settings), rows=rows
    )
    for panel, (setting, groups) in zip(axes, settings.items(), strict=True):
        ordered = sorted(groups, key=lambda g: np.mean(list(g.values("pass@1").values())))
        for place, group in enumerate(ordered):
            values = [100 * value for value in group.values("pass@1").values()]
            _mark(panel, place, over_seeds(values), looks[group.label], values)
        panel.set_yticks(range(len(ordered)), [looks[group.label].name for group in ordered])
        panel.set_ylim(-0.6, len(ordered) - 0.4)
        panel.grid(axis="y", visible=False)
        panel.set_xlabel("Final Pass@1 (%)")
        panel.set_title(drawing.wrapped(show_named(setting), 44))
    drawing.tidy(axes, share="x")
    return figure


def over_setting(study: Study, looks: Looks) -> "Figure":
    """Draw final Pass@1 against a setting that is a number, e.g. ``partition.alpha``."""
    for index, key in enumerate(study.setting_keys):
        numbers = {_number(group.setting[index][1]) for group in study.groups}
        if None not in numbers and len(numbers) > 1 and key != "num_agents":
            break
    else:
        raise NotDrawnError("no setting that is a number varies")
    panels: dict[Named, list[Group]] = {}
    for group in study.groups:
        rest = group.setting[:index] + group.setting[index + 1 :]
        panels.setdefault(rest, []).append(group)
    lines = {
        rest: _lines(groups, lambda group: (_number(group.setting[index][1]), _final(group)))
        for rest, groups in panels.items()
    }
    return _draw_lines(lines, looks, key, "Final Pass@1 (%)")


def gain_by_size(study: Study, looks: Looks) -> "Figure":
    """Draw the paired gain of final Pass@1 over random pairing against the federation's size."""
    sizes = {size for group in study.groups if (size := num_agents(group.runs[0])) is not None}
    if len(sizes) < 2:
        raise NotDrawnError("all federations are of one size")
    panels: dict[Named, list[Group]] = {}
    for group in study.groups:
        rest = tuple(pair for pair in group.setting if pair[0] not in ("num_agents", "agents"))
        if group.runs[0].matchmaker != "random" and study.random_of(group) is not None:
            panels.setdefault(rest, []).append(group)
    lines = {
        rest: _lines(groups, lambda group: (num_agents(group.runs[0]), _gain(study, group)))
        for rest, groups in panels.items()
    }
    if not any(lines.values()):
        raise NotDrawnError("no run pairs at random in the same setting")
    return _draw_lines(lines, looks, "Agents", "Gain over random (points of Pass@1)", zero=True)


def agents(study: Study, looks: Looks) -> "Figure":
    """Draw what each agent gained in greedy Pass@1 from the first to the last measured round."""
    gains = {
        id(group): rows_SA for group in study.groups if (rows_SA := _agent_gains(group)) is not None
    }
    settings = drawing.by_setting([g for g in study.groups if id(g) in gains])
    if not settings:
        raise NotDrawnError("no run measured its agents in two rounds")
    drawing.check_panels(len(settings))
    most = max(rows_SA.shape[1] for rows_SA in gains.values())
    named = most <= MAX_NAMED_AGENTS
    figure, axes = drawing.grid_of([show_named(setting) for setting in settings])
    if len(axes) == 1:
        figure.set_size_inches(6.0, 1.1 + 0.5 * most if named else 3.2)
    for panel, groups in zip(axes, settings.values(), strict=True):
        panel.axvline(0, color=style.GREY, linewidth=0.8)
        for place, group in enumerate(groups):
            rows_SA, look = gains[id(group)], looks[group.label]
            if named:
                shift = 0.7 * ((place + 0.5) / len(groups) - 0.5)
                for agent in np.flatnonzero(np.isfinite(rows_SA).all(axis=0)):
                    values = [100 * value for value in rows_SA[:, agent]]
                    _mark(panel, int(agent) + shift, over_seeds(values), look, ())
            else:
                measured_SA = rows_SA[:, np.isfinite(rows_SA).all(axis=0)]
                sorted_A = np.sort(100 * measured_SA, axis=1).mean(axis=0)
                shares_A = (np.arange(len(sorted_A)) + 0.5) / len(sorted_A)
                panel.plot(sorted_A, 100 * shares_A, color=look.colour, dashes=look.dashes)
        panel.set_xlabel("Gain since the first round (points)")
        if named:
            names = groups[0].runs[0].names
            panel.set_yticks(range(len(names)), names)
            panel.set_ylim(len(names) - 0.5, -0.5)
            panel.grid(axis="y", visible=False)
        else:
            panel.set_ylabel("Agents that gained less (%)")
    drawing.tidy(axes, share="x")
    drawing.legend(figure, [looks[x] for x in looks if x in {g.label for g in study.groups}])
    return figure


def _mark(
    axes: "Axes", y: float, interval: Interval | None, look: Look, values: Sequence[float]
) -> None:
    """Draw the mean with its interval, and seeds as faint dots below, where the bar hides none."""
    if interval is None:
        return
    colour = look.colour
    axes.plot(values, [y - 0.25] * len(values), "o", color=colour, markersize=3, alpha=0.4, mew=0)
    axes.plot([interval.low, interval.high], [y, y], color=colour, linewidth=2.0)
    axes.plot([interval.mean], [y], look.marker, color=colour, markersize=5, mec="white", mew=0.7)


_Line = tuple[str, list[tuple[float, Interval]]]


def _lines(
    groups: Sequence[Group], point_of: Callable[[Group], tuple[float | None, Interval | None]]
) -> list[_Line]:
    found: dict[str, list[tuple[float, Interval]]] = {}
    for group in groups:
        x, interval = point_of(group)
        if x is not None and interval is not None:
            found.setdefault(group.label, []).append((float(x), interval))
    return [(label, sorted(points, key=lambda p: p[0])) for label, points in found.items()]


def _draw_lines(
    lines: Mapping[Named, Sequence[_Line]],
    looks: Looks,
    xlabel: str,
    ylabel: str,
    *,
    zero: bool = False,
) -> "Figure":
    drawing.check_panels(len(lines))
    figure, axes = drawing.grid_of([show_named(rest) for rest in lines])
    ends: dict[int, list[tuple[float, float, str]]] = {}
    for index, (panel, found) in enumerate(zip(axes, lines.values(), strict=True)):
        xs = sorted({x for _, points in found for x, _ in points})
        if zero:
            panel.axhline(0, color=style.GREY, linewidth=0.8)
        for place, (label, points) in enumerate(found):
            # Side by side, so that intervals at one x do not cover each other.
            shift = 1 + 0.02 * (place - (len(found) - 1) / 2)
            x = [point * shift for point, _ in points]
            y = [interval.mean for _, interval in points]
            bars = [[i.mean - i.low for _, i in points], [i.high - i.mean for _, i in points]]
            look = looks[label]
            drawn = panel.errorbar(
                x, y, yerr=bars, color=look.colour, marker=look.marker, markersize=3.5, elinewidth=1
            )
            drawn.lines[0].set_dashes(look.dashes)
            # Names of lines that reach the last x are written beyond all their intervals.
            end = xs[-1] * (1 + 0.01 * (len(found) - 1)) if points[-1][0] == xs[-1] else x[-1]
            ends.setdefault(index, []).append((end, y[-1], label))
        if xs and xs[0] > 0 and xs[-1] / xs[0] >= 4:
            panel.set_xscale("log")
        panel.set_xticks(xs, [f"{x:g}" for x in xs])
        panel.minorticks_off()
        panel.set(xlabel=xlabel, ylabel=ylabel)
    drawing.tidy(axes, share="y")
    drawing.name_lines(figure, axes, ends, looks)
    return figure


def _final(group: Group) -> Interval | None:
    return over_seeds([100 * value for value in group.values("pass@1").values()])


def _gain(study: Study, group: Group) -> Interval | None:
    reference = study.random_of(group)
    if reference is None:
        return None
    mine, theirs = (
        {seed: 100 * value for seed, value in g.values("pass@1").items()}
        for g in (group, reference)
    )
    found = paired(mine, theirs)
    return None if found is None else found.difference


def _agent_gains(group: Group) -> Array | None:
    """Return gains_SA of S seeds and A agents, NaN for agents that were not measured."""
    curves = [r.curve for r in group.runs if r.curve is not None and len(r.curve.rounds_R) > 1]
    rows = [curve.pass_RA[-1] - curve.pass_RA[0] for curve in curves]
    if len({len(row) for row in rows}) != 1:
        return None
    gains_SA = np.array(rows)
    return gains_SA if np.isfinite(gains_SA).all(axis=0).any() else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
