"""Draws the figures of a run from its directory's files.

Equal files give equal PNG bytes. A figure whose rows are missing is not drawn, and the log says
why. Axes: N agents, C categories.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knexa.data.problem import CATEGORIES
from knexa.tracking import plot_style as style
from knexa.tracking.answer_plots import answers, questions
from knexa.tracking.metrics import MEANS, PROBE_ARMS, agent_names, mean, pair_counts
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, SampleRow
from knexa.tracking.run_directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

_LOSSES = (
    ("validation_loss", "validation"),
    ("train_loss", "local update"),
    ("learn_loss", "distillation"),
)
MAX_MARKED_ROUNDS = 40  # more markers than this run into one another
MAX_LABELLED_AGENTS = 12  # more lines or cells than this cannot be read


def draw_plots(run_dir: RunDirectory) -> list[Path]:
    """Draw every figure that the run's files allow into plots/; return their paths."""
    rounds, exchanges = run_dir.read_rows(RoundRow), run_dir.read_rows(ExchangeRow)
    samples, names = run_dir.read_samples(), agent_names(rounds)
    scores = run_dir.read_summary().scores if run_dir.summary.exists() else None
    shares, categories = None, tuple(name.replace("_", " ") for name in CATEGORIES)
    if scores is not None:
        shares, categories = scores.data_shares, scores.category_names()
    with style.applied():
        figures = {
            "learning_curve": learning_curve(rounds, names),
            "regret": regret(run_dir.read_rows(RegretRow)),
            "pairing_matrix": pairing_matrix(exchanges, names),
            "questions": questions(exchanges, names, categories),
            "answers": answers(exchanges, names),
            "skills": skills(samples, names, categories, shares),
        }
        run_dir.plots.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, figure in figures.items():
            path = run_dir.plots / f"{name}.png"
            path.unlink(missing_ok=True)
            if isinstance(figure, str):
                log.info("no plot %s: %s", path.name, figure)
            else:
                style.save(figure, path)
                paths.append(path)
    return paths


def learning_curve(rounds: Sequence[RoundRow], names: Sequence[str]) -> "Figure | str":
    """Draw mean and per-agent greedy Pass@1 over rounds, and the mean losses beside them."""
    if not any(row.pass_at_1_greedy is not None for row in rounds):
        return "no round has measured Pass@1"
    has_losses = any(MEANS[key](row) is not None for row in rounds for key, _ in _LOSSES)
    if has_losses:
        figure, (left, right) = style.panels(7.6, 3.1, 2, width_ratios=[1.25, 1])
    else:  # a federation of formulas has none
        figure, (left,) = style.panels(4.6, 3.1, 1)
    ends: list[tuple[float, str, str]] = []
    last_x = 0.0
    for agent, name in enumerate(names):
        x, y = _curve([row for row in rounds if row.agent == agent], "pass@1_greedy", 100)
        labelled = len(names) <= MAX_LABELLED_AGENTS
        colour = style.agent_colour(agent) if labelled else style.GREY
        marker = "o" if len(x) == 1 else ""  # a line through one point does not show
        alpha = 0.85 if labelled else 0.25
        left.plot(x, y, color=colour, linewidth=1.0, marker=marker, markersize=3.5, alpha=alpha)
        if x and labelled:
            ends.append((y[-1], name, colour))
            last_x = max(last_x, x[-1])
    x, y = _curve(rounds, "pass@1_greedy", 100)
    size = 4.5 if len(x) <= MAX_MARKED_ROUNDS else 0.0
    left.plot(x, y, color=style.INK, linewidth=2.4, marker="o", markersize=size, zorder=5)
    ends.append((y[-1], "mean", style.INK))
    own_x, own_y = _curve(rounds, "own_pass@1_greedy", 100)
    if own_x:
        left.plot(own_x, own_y, color=style.INK, linewidth=1.6, linestyle="--", zorder=4)
        ends.append((own_y[-1], "mean, own data", style.INK))
    left.set(xlabel="Round", ylabel="Pass@1, greedy (%)")
    left.set_title("Pass@1 on the global test set")
    left.set_ylim(bottom=0)
    style.integer_rounds(left)
    style.label_line_ends(left, max(last_x, x[-1]), ends)
    if has_losses:
        _draw_losses(right, rounds)
    return figure


def regret(probes: Sequence[RegretRow]) -> "Figure | str":
    """Draw cumulative regret beside uniformly random's, and each probed round's arms."""
    if not probes:
        return "the run has no counterfactual probes (regret.every)"
    figure, (left, right) = style.panels(7.6, 3.1, 2)
    x = [row.round for row in probes]
    summed = {}
    for arm, label in (("random", "uniformly random"), ("chosen", "chosen")):
        totals = [PROBE_ARMS[arm](row) for row in probes]
        regrets = [
            row.best - total for row, total in zip(probes, totals, strict=True) if total is not None
        ]
        if len(regrets) == len(probes):
            summed[arm] = label, np.cumsum(regrets).tolist()
    _draw_arms(left, x, summed)
    left.set(xlabel="Round", ylabel="Cumulative regret (raw reward)")
    left.set_title("Regret against the best choice")
    arms = ("best", "chosen", "random", "no teacher")
    _draw_arms(right, x, {arm: (arm, [_arm_total(row, arm) for row in probes]) for arm in arms})
    right.set(xlabel="Round", ylabel="Total raw reward of the round")
    right.set_title("What each choice would have earned")
    return figure


def _draw_arms(
    axes: "Axes", x: Sequence[int], arms: Mapping[str, tuple[str, Sequence[float | None]]]
) -> None:
    """Draw a line per arm, given its label and values; rounds without a value are left out."""
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    size = 3.5 if len(x) <= MAX_MARKED_ROUNDS else 0.0
    ends = []
    for arm, (label, values) in arms.items():
        points = [(a, b) for a, b in zip(x, values, strict=True) if b is not None]
        if points:
            colour = style.ARMS[arm]
            axes.plot(*zip(*points, strict=True), color=colour, marker="o", markersize=size)
            ends.append((points[-1][1], label, colour))
    style.integer_rounds(axes)
    style.label_line_ends(axes, x[-1], ends)


def pairing_matrix(exchanges: Sequence[ExchangeRow], names: Sequence[str]) -> "Figure | str":
    """Draw how often each teacher taught each student."""
    if not exchanges:
        return "the run has no exchanges"
    counts_NN = np.array(pair_counts(exchanges, len(names)), dtype=float)
    np.fill_diagonal(counts_NN, np.nan)
    labelled = len(names) <= MAX_LABELLED_AGENTS
    size = 1.9 + 0.42 * len(names) if labelled else 4.2  # without names or counts it needs no room
    figure, (axes,) = style.panels(size + 0.9, size, 1)
    image = style.heat_map(axes, counts_NN, maximum=max(1.0, float(np.nanmax(counts_NN))))
    bar: Any = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03)
    bar.set_label("Exchanges")
    bar.outline.set_visible(False)
    bar.locator = style.integer_locator()
    bar.update_ticks()
    axes.set(xlabel="Student", ylabel="Teacher")
    axes.set_title("Who taught whom")
    if labelled:
        style.name_cells(axes, names, names)
        style.annotate_cells(axes, counts_NN, image, lambda value: f"{value:.0f}", skip_zero=True)
    return figure


def skills(
    samples: Sequence[SampleRow],
    names: Sequence[str],
    categories: Sequence[str],
    data_shares: Sequence[Sequence[float]] | None = None,
) -> "Figure | str":
    """Draw each agent's final pass rate by category; a bar marks its own data's share.

    Args:
        samples: Rows of samples.jsonl.zst.
        names: Agents' names by index.
        categories: Categories' names by number.
        data_shares: Per agent, the share of each category in its training data; ``data_shares`` of
            the summary.
    """
    if not samples:
        return "the run has no final samples"
    rates_NC = _pass_rates(samples, len(names), len(categories))
    if len(names) > MAX_LABELLED_AGENTS:
        return f"{len(names)} agents are too many to show one by one"
    figure, (axes,) = style.panels(8.4, 1.7 + 0.36 * len(names), 1)
    image = style.heat_map(axes, 100 * rates_NC, maximum=100.0)
    bar: Any = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.015, aspect=14)
    bar.set_label("Pass@1 (%)")
    bar.outline.set_visible(False)
    style.name_cells(axes, names, categories)
    style.annotate_cells(axes, 100 * rates_NC, image, lambda value: f"{value:.0f}")
    axes.set_title("Final Pass@1 by category", loc="left")
    if data_shares is not None:
        style.mark_shares(axes, np.array(data_shares, dtype=float))
        axes.set_title(
            "orange bar: the category's share of the agent's own data (full width = 100 %)",
            loc="right",
            fontsize=7,
            color=style.ACCENT,
            fontweight="normal",
        )
    return figure


def _draw_losses(axes: "Axes", rounds: Sequence[RoundRow]) -> None:
    ends = []
    for key, label in _LOSSES:
        x, y = _curve(rounds, key)
        if x:
            axes.plot(x, y, color=style.LOSSES[key], marker="o", markersize=3)
            ends.append((y[-1], label, style.LOSSES[key]))
    axes.set(xlabel="Round", ylabel="Loss (nats per token)")
    axes.set_title("Losses, mean over agents")
    style.integer_rounds(axes)
    if ends:
        style.label_line_ends(axes, max(row.round for row in rounds), ends)


def _curve(
    rounds: Sequence[RoundRow], key: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    """Return (rounds, means over the rows of each round), leaving out what was not measured."""
    by_round: dict[int, list[float | None]] = {}
    for row in rounds:
        by_round.setdefault(row.round, []).append(MEANS[key](row))
    means = {number: mean(values) for number, values in sorted(by_round.items())}
    points = [(number, scale * value) for number, value in means.items() if value is not None]
    return [number for number, _ in points], [value for _, value in points]


def _arm_total(row: RegretRow, arm: str) -> float | None:
    """Return an arm's total; of no teacher, the average student's times the best plan's pairs."""
    if arm != "no teacher":
        return PROBE_ARMS[arm](row)
    average = mean(row.no_teacher)
    return None if average is None else average * len(row.best_pairs)


def _pass_rates(
    samples: Sequence[SampleRow], num_agents: int, num_categories: int
) -> "np.ndarray[Any, Any]":
    """Return rates_NC, NaN where a category has no samples."""
    passed_NC, total_NC = np.zeros((2, num_agents, num_categories))
    for row in samples:
        total_NC[row.agent, row.category] += 1
        passed_NC[row.agent, row.category] += row.outcome == "passed"
    return np.divide(passed_NC, total_NC, out=np.full_like(total_NC, np.nan), where=total_NC > 0)
