"""The robust table: interquartile mean and probability of improvement over all settings.

After Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice":
a setting is a task, a seed a run; intervals resample seeds within each setting, always with the
same draws, so that equal runs give equal reports.
"""

from collections.abc import Sequence
from dataclasses import replace

from knexa.errors import UserError
from knexa.report.aggregate import Group, Study, resolve_method
from knexa.report.measures import PASS
from knexa.report.table import (
    BOLD,
    MISSING,
    SEES,
    Cell,
    Column,
    Kind,
    Table,
    mark_best,
    sees_probes,
    show,
    text_column,
)
from knexa.seeding import derive_rng
from knexa.statistics import Interval, interquartile_mean, probability_of_improvement

ROBUST = "robust"
"""The table's name."""


def robust_table(study: Study, against: str | None = None) -> Table:
    """Return the table, a row a method over all settings where it was measured, best first.

    Args:
        study: The groups.
        against: Method that improvement is taken over, within each setting.

    Raises:
        UserError: No run has a final Pass@1, or ``against`` is not there.
    """
    if against is not None:
        against = resolve_method(study, against)
    measured = [group for group in study.groups if group.values(PASS.name)]
    if not measured:
        raise UserError("--robust compares final Pass@1, which none of these runs has")
    rows = [[g for g in measured if g.label == label] for label in study.labels]
    found = [(_middle(groups), groups) for groups in rows if groups]
    found.sort(key=lambda row: -row[0].mean)
    rows = [groups for _, groups in found]
    cells = [
        replace(show(interval, PASS.digits, bounds=_several(groups)), half="")
        for interval, groups in found
    ]
    columns = [
        text_column("method", "method", [g[0].label for g in rows], kind=Kind.ROW),
        text_column("sees", SEES, [g[0].needs for g in rows]),
        text_column("settings", "settings", [str(len(g)) for g in rows]),
        text_column("seeds", "seeds", [_seeds(g) for g in rows]),
        Column(
            name="iqm",
            heading="interquartile mean of pass@1 %",
            cells=mark_best(cells, PASS, [("", sees_probes(g[0])) for g in rows]),
            brief=r"IQM (\%)",
        ),
    ]
    columns[1] = replace(columns[1], usual=any(g[0].needs != "nothing" for g in rows))
    notes = [
        "Interquartile mean: of the scores of all seeds and settings, the mean of the middle half. "
        "Intervals are 95 % by a bootstrap of seeds within each setting (Agarwal et al. 2021), not "
        "corrected; of few seeds they are too narrow. Methods compare where their settings are the "
        "same."
    ]
    if against is not None:
        columns.append(
            Column(
                name="improvement",
                heading=f"P(better than {against})",
                cells=tuple(_improvement(study, groups, against) for groups in rows),
                brief=r"$P(>)$",
                kind=Kind.PROBABILITY,
            )
        )
        notes.append(
            f"P(better than {against}): how likely a run's Pass@1 is above one of that method in "
            "the same setting (equal ones count half), averaged over settings; 0.5 is no "
            "difference."
        )
    notes += [BOLD] * any(cell.best for cell in columns[4].cells)
    return Table(
        name=ROBUST,
        title="Robust comparison",
        columns=tuple(columns),
        notes=tuple(notes),
        against=against,
        means="Interquartile means (IQM)",
    )


def _middle(groups: Sequence[Group]) -> Interval:
    scores = [[PASS.scale * v for v in group.values(PASS.name).values()] for group in groups]
    return interquartile_mean(scores, rng=derive_rng(0, "report"))


def _improvement(study: Study, groups: Sequence[Group], against: str) -> Cell:
    pairs = [(group, study.reference(group, against)) for group in groups]
    others = [(group, other) for group, other in pairs if other is not None and other is not group]
    found = [(g, o) for g, o in others if o.values(PASS.name)]
    if not found:
        return Cell(text=MISSING)
    mine, theirs = (
        [list(pair[side].values(PASS.name).values()) for pair in found] for side in (0, 1)
    )
    interval = probability_of_improvement(mine, theirs, rng=derive_rng(0, "report"))
    cell = replace(show(interval, 2, bounds=_several([g for pair in found for g in pair])), half="")
    text = f"{cell.text} ({len(found)} settings)" if len(found) < len(groups) else cell.text
    return replace(cell, text=text, num_seeds=min(len(scores) for scores in mine + theirs))


def _several(groups: Sequence[Group]) -> bool:
    """Return whether resampling seeds can say anything."""
    return any(len(group.values(PASS.name)) > 1 for group in groups)


def _seeds(groups: Sequence[Group]) -> str:
    counts = sorted({len(group.values(PASS.name)) for group in groups})
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
