"""Measures membership inference: how well packages reveal whose training set a problem is in.

    knexa audit seed=0,1,2 guardrail=standard,none training=default,dp

The overrides are those of knexa -m: every point is one federation, trained for
federation.num_rounds rounds and attacked. Points that differ only in their seed make one row, with
95 % intervals over seeds (Student's t). guardrail and training are swept as above unless given.
Rows are printed and written to outputs/<name>/membership/membership.json.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knexa.cli.parser import Parser
from knexa.config import compose
from knexa.config.build import build_settings, secret_settings, without_secret_values
from knexa.statistics import student_mean

_SWEPT = ("guardrail=standard,none", "training=default,dp")


def main(arguments: Sequence[str]) -> int:
    """Attack the federations that the overrides name; return the exit code."""
    parser = Parser("knexa audit", __doc__)
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help=f"settings of the federations (default: {' '.join(_SWEPT)})",
    )
    folder = "folder with options of your own"
    parser.option("--config-dir", "DIR", folder, otherwise="the package's alone")
    options = parser.parse_intermixed_args(arguments)
    own = [] if options.config_dir is None else ["-cd", options.config_dir]
    _measure(options.overrides, own)
    return 0


def _measure(given: list[str], own: list[str]) -> None:
    groups = {override.partition("=")[0] for override in given}
    swept = [override for override in _SWEPT if override.partition("=")[0] not in groups]
    compose.register_sweeps()
    plan = compose.compose(
        compose.parse_arguments([*own, "-m", *swept, "logger=none", "regret=none", *given])
    )
    settings = [build_settings(job) for job in plan.jobs]
    from knexa.membership_inference.experiment import attack_run

    powers: dict[str, dict[int, Any]] = {}
    for job, point in zip(plan.jobs, settings, strict=True):
        label = _label(job, plan.jobs)
        print(f"{label or 'the configuration'} seed={point.seed}", file=sys.stderr)
        powers.setdefault(label, {})[point.seed] = attack_run(point)
    rows = [row for label, seeds in powers.items() for row in _rows(label, seeds)]
    report = {
        "overrides": without_secret_values([*swept, *given], secret_settings(plan.jobs[0])),
        "rows": rows,
        "powers": {label: {str(s): p for s, p in seeds.items()} for label, seeds in powers.items()},
    }
    folder = Path("outputs") / settings[0].name / "membership"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "membership.json"
    path.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _show(rows)
    print(f"wrote {path}")


def _label(job: compose.Job, jobs: Sequence[compose.Job]) -> str:
    """Return the overrides that not all points share, their seeds left out."""
    shared = set(jobs[0].overrides).intersection(*(other.overrides for other in jobs))
    own = [override for override in job.overrides if override not in shared]
    own = without_secret_values(own, secret_settings(job))
    return " ".join(override for override in own if not override.startswith("seed="))


def _rows(label: str, seeds: dict[int, Any]) -> list[dict[str, Any]]:
    first = next(iter(seeds.values()))
    rows = []
    for evidence, attacks in first.items():
        for attack, measured in attacks.items():
            row: dict[str, Any] = {"point": label, "evidence": evidence, "attack": attack}
            for measure in measured:
                values = [power[evidence][attack][measure] for power in seeds.values()]
                row[measure] = student_mean(values).as_dict()
            rows.append(row | {"seeds": sorted(seeds)})
    return rows


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="mean over seeds [95 % interval]; guessing is 0.5, 0.05 and 0")
    for column in ("point", "evidence", "attack", "AUC", "TPR at 5 % FPR", "advantage"):
        table.add_column(column)
    for row in rows:
        cells = [
            "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row[measure])
            for measure in ("auc", "tpr", "advantage")
        ]
        table.add_row(row["point"], row["evidence"], row["attack"], *cells)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
