"""Figures of runs whose students ask for answers: who is asked about what, and what it brings.

Axes: N agents, C categories, P panels.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from knexa.tracking import plot_style as style
from knexa.tracking.rows import ExchangeRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 8
MAX_LABELLED_AGENTS = 12


def questions(
    exchanges: Sequence[ExchangeRow], names: Sequence[str], topics: Sequence[str]
) -> "Figure | str":
    """Draw how many students ask each teacher about each topic, a heat map a round.

    In a run of more than ``MAX_PANELS`` rounds a panel is the mean of as many rounds as it takes.

    Args:
        exchanges: Rows of exchanges.jsonl.
        names: Agents' names by index.
        topics: Topics' names by category.
    """
    asked = [row for row in exchanges if row.topics is not None]
    if not asked:
        return "nobody is asked about single topics"
    if len(names) > MAX_LABELLED_AGENTS:
        return f"{len(names)} agents are too many to show one by one"
    last = max(row.issued_round for row in asked)
    parts = np.array_split(np.arange(1, last + 1), min(last, MAX_PANELS))
    counts_PNC = np.zeros((len(parts), len(names), len(topics)))
    place = {int(number): panel for panel, part in enumerate(parts) for number in part}
    for row in asked:
        for teacher in row.teachers:
            for topic in row.topics or ():
                counts_PNC[place[row.issued_round], teacher, topic] += len(row.students)
    counts_PNC /= np.array([len(part) for part in parts])[:, None, None]
    columns = min(len(parts), 4)
    rows = -(-len(parts) // columns)
    height = 1.3 + rows * (0.35 + 0.17 * len(names))
    figure, axes = style.panels(1.0 + 1.9 * columns, height, len(parts), rows=rows)
    maximum = max(1.0, float(counts_PNC.max()))
    for panel, (part, counts_NC, each) in enumerate(zip(parts, counts_PNC, axes, strict=True)):
        image = style.heat_map(each, counts_NC, maximum=maximum)
        style.name_cells(each, names, topics)
        each.tick_params(labelsize=6.5)
        each.tick_params(axis="x", labelrotation=60)
        if panel % columns:
            each.set_yticklabels([])
        if panel + columns < len(parts):
            each.set_xticklabels([])
        first, *rest = part
        each.set_title(f"Rounds {first} to {rest[-1]}" if rest else f"Round {first}")
    bar: Any = figure.colorbar(image, ax=list(axes), shrink=0.8, pad=0.01, aspect=30)
    bar.set_label("Students that ask" if last <= MAX_PANELS else "Students that ask, a round")
    bar.outline.set_visible(False)
    if last <= MAX_PANELS:
        bar.locator = style.integer_locator()
        bar.update_ticks()
    figure.suptitle("Who is asked about what", x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


def answers(exchanges: Sequence[ExchangeRow], names: Sequence[str]) -> "Figure | str":
    """Draw how many right answers each student was brought, and how many of a round's are new."""
    brought = [row for row in exchanges if row.answers_new is not None]
    if not brought:
        return "no exchange counts answers"
    last = max(row.round for row in brought)
    x = range(last + 1)
    new_NR = np.zeros((len(names), last + 1))
    kinds = ("asked", "right", "new")
    totals_3R = np.zeros((len(kinds), last + 1))
    for row in brought:
        counts = row.answers_asked or 0, row.answers_right or 0, row.answers_new or 0
        totals_3R[:, row.round] += counts
        for student in row.students:
            if student < len(names):
                new_NR[student, row.round] += counts[2] / len(row.students)
    figure, (left, right) = style.panels(7.6, 3.1, 2)
    labelled = len(names) <= MAX_LABELLED_AGENTS
    ends = []
    sums_NR = new_NR.cumsum(axis=1)
    for agent, (name, sums_R) in enumerate(zip(names, sums_NR, strict=True)):
        colour = style.agent_colour(agent) if labelled else style.GREY
        left.plot(x, sums_R, color=colour, linewidth=1.0, alpha=0.85 if labelled else 0.25)
        if labelled:
            ends.append((float(sums_R[-1]), name, colour))
    mean_R = sums_NR.mean(axis=0)
    left.plot(x, mean_R, color=style.INK, linewidth=2.4)
    ends.append((float(mean_R[-1]), "mean", style.INK))
    left.set(xlabel="Round", ylabel="Transfer problems")
    left.set_title("Right answers that a student was brought")
    left.set_ylim(bottom=0)
    style.integer_rounds(left)
    style.label_line_ends(left, last, ends)
    shares = []
    colours = style.ARMS["random"], style.ARMS["chosen"], style.ARMS["best"]
    for kind, total_R, colour in zip(kinds, totals_3R, colours, strict=True):
        right.plot(x[1:], total_R[1:], color=colour, marker="o", markersize=3)
        shares.append((float(total_R[-1]), kind, colour))
    right.set(xlabel="Round", ylabel="Answers, all students")
    right.set_title("What was asked, right, and new")
    right.set_ylim(bottom=0)
    style.integer_rounds(right)
    style.label_line_ends(right, last, shares)
    return figure
