"""Pushes a report as one W&B run: tables, figures, and curves by round; offline unless asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from knexa.errors import UserError, one_line
from knexa.report.aggregate import Group, Study, show_named
from knexa.report.formats import tidy_rows
from knexa.report.measures import band, learning_curve, over_seeds, regret_curves
from knexa.report.table import Table
from knexa.tracking.wandb_mirror import quiet_settings


def push(
    study: Study,
    tables: Sequence[Table],
    figures: Path,
    *,
    folder: Path,
    mode: Literal["offline", "online"],
    project: str,
) -> str:
    """Push tables, figures and curves, and return how to view or upload the run.

    Args:
        study: The groups.
        tables: Its tables.
        figures: Folder of its PNG figures.
        folder: W&B writes its files into ``wandb/`` there.
        mode: ``offline`` writes files that ``wandb sync`` uploads later.
        project: W&B project.

    Raises:
        UserError: W&B refuses, e.g. online without an account.
    """
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            mode=mode,
            project=project,
            job_type="report",
            name="report",
            config=_config(study),
            dir=str(folder),
            settings=quiet_settings(),
        )
        run.define_metric("round")
        run.define_metric("*", step_metric="round")
        rows = _rows_by_round(study)
        for number, row in sorted(rows.items()):
            run.log({"round": number, **row})
        run.log({"round": max(rows, default=0), **_media(study, tables, figures)})
        for group in study.groups:
            interval = over_seeds(list(group.values("pass@1").values()))
            if interval is not None:
                for bound, value in interval.as_dict().items():
                    run.summary[f"final/{_name(group)}/pass@1_{bound}"] = value
        run.finish()
    except (wandb.Error, OSError) as error:
        raise UserError(f"W&B: {one_line(error)}") from error
    where = Path(str(run.dir)).parent
    return f"W&B: wandb sync {where}" if mode == "offline" else f"W&B: {run.url}"


def _config(study: Study) -> dict[str, Any]:
    return {
        "methods": list(study.labels),
        "settings": [show_named(setting) for setting in study.settings if setting],
        "seeds": sorted({seed for group in study.groups for seed in group.seeds}),
        "runs": sorted(run.config_hash for group in study.groups for run in group.runs),
    }


def _media(study: Study, tables: Sequence[Table], figures: Path) -> dict[str, Any]:
    import wandb

    media: dict[str, Any] = {}
    for table in tables:
        columns, rows = tidy_rows(study, table)
        media[f"tables/{table.name}"] = wandb.Table(
            columns=[*table.headings], data=[[cell.text for cell in row] for row in table.rows]
        )
        media[f"tables/{table.name}_numbers"] = wandb.Table(columns=[*columns], data=[*rows])
    for path in sorted(figures.glob("*.png")):
        media[f"figures/{path.stem}"] = wandb.Image(str(path))
    return media


def _rows_by_round(study: Study) -> dict[int, dict[str, float]]:
    """Return by round what is drawn there: mean and interval of every group's curves."""
    rows: dict[int, dict[str, float]] = {}
    for group in study.groups:
        regret = regret_curves(group, "chosen")
        found = {
            "pass@1_greedy": learning_curve(group),
            "cumulative_regret": None if regret is None else band(*regret),
        }
        for measure, curves in found.items():
            if curves is None:
                continue
            points = zip(curves.x_R, curves.mean_R, curves.low_R, curves.high_R, strict=True)
            for number, *values in points:
                row = rows.setdefault(int(number), {})
                for bound, value in zip(("mean", "low", "high"), values, strict=True):
                    row[f"{measure}/{_name(group)}/{bound}"] = float(value)
    return rows


def _name(group: Group) -> str:
    """Return the group's name; a slash would make a W&B section of it."""
    setting = f" [{show_named(group.setting)}]" if group.setting else ""
    return f"{group.label}{setting}".replace("/", "+")
