"""All figures of a report: titles and captions, and how they are drawn into files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from knexa.report import curves, drawing, pairs, scores
from knexa.report.aggregate import Study
from knexa.report.measures import slope_range
from knexa.tracking import plot_style as style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Slope = tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One figure of a report.

    Attributes:
        name: File name without its ending.
        title: Heading.
        caption: What it shows; also read out to readers who cannot see it.
        missing: Why it is not drawn; None where its files are written.
    """

    name: str
    title: str
    caption: str
    missing: str | None


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    title: str
    caption: str
    draw: "Callable[[Study, drawing.Looks], Figure]"


_BANDS = "Lines are means over seeds, bands 95 % intervals over seeds."
_KINDS = (
    _Kind(
        "final",
        "Final Pass@1",
        "Faint dots are seeds; the bar is the 95 % interval of their mean.",
        scores.final,
    ),
    _Kind(
        "learning_curves",
        "Learning curves",
        f"Greedy Pass@1 on the global test set, mean over agents. {_BANDS}",
        curves.learning,
    ),
    _Kind(
        "learning_by_steps",
        "Learning at equal optimizer steps",
        f"The same curves over the optimizer steps spent by all agents. {_BANDS}",
        curves.learning_by_steps,
    ),
    _Kind(
        "over_setting",
        "Pass@1 over a setting",
        "Final Pass@1; bars are 95 % intervals over seeds.",
        scores.over_setting,
    ),
    _Kind(
        "gain_by_size",
        "Gain over random by federation size",
        "Paired by seed with random pairing in the same setting; 95 % intervals.",
        scores.gain_by_size,
    ),
    _Kind(
        "regret",
        "Cumulative regret",
        "Best pairing minus chosen, in raw reward, summed over the probed rounds, of each method "
        f"along its own way. {_BANDS} "
        "Slopes are least squares through the mean, with intervals over seeds; 1 is linear regret.",
        curves.regret,
    ),
    _Kind(
        "divergence",
        "How different the pairs' data are",
        "Jensen-Shannon divergence of teacher's and student's category histograms, mean over the "
        f"round's pairs. Dashed: mean over all pairs, what random pairing expects. {_BANDS}",
        curves.divergence,
    ),
    _Kind(
        "pairing",
        "Pairing heat map",
        "Exchanges of each teacher (row) and student (column) in a run, mean over seeds.",
        pairs.heat_map,
    ),
    _Kind(
        "graph",
        "Who taught whom",
        "Arrows point from teacher to student; the wider, the more often (mean over seeds).",
        pairs.graph,
    ),
    _Kind(
        "agents",
        "Gains by agent",
        "Greedy Pass@1 of the last measured round minus the first; of many agents, their "
        "distribution.",
        scores.agents,
    ),
)
_SAVED = {"svg": style.save_svg, "png": style.save, "pdf": style.save_pdf}


def draw_all(study: Study, folder: Path, asked: Slope = None) -> tuple[Picture, ...]:
    """Draw what the runs allow as ``<name>.svg``, ``.png`` and ``.pdf`` into ``folder``.

    Args:
        study: The groups.
        folder: Made if need be; older files of these names are replaced or removed.
        asked: First and last round of the regret's slope; None takes the last nine tenths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    looks = drawing.looks(study)
    with style.applied():
        for kind in _KINDS:
            caption, missing = kind.caption, None
            draw = kind.draw
            if kind.name == "regret":
                first, last = slope_range(study, asked)
                caption = f"{caption} They are fitted over rounds {first:g} to {last:g}."
                draw = partial(curves.regret, asked=asked)
            try:
                figure = draw(study, looks)
            except drawing.NotDrawnError as reason:
                missing = str(reason)
                for ending in _SAVED:
                    (folder / f"{kind.name}.{ending}").unlink(missing_ok=True)
            else:
                for ending, save in _SAVED.items():
                    save(figure, folder / f"{kind.name}.{ending}")
            pictures.append(
                Picture(name=kind.name, title=kind.title, caption=caption, missing=missing)
            )
    return tuple(pictures)
