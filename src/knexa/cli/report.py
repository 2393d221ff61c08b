"""Compares finished runs, methods as rows.

    knexa report outputs/table4 --against random --to report

Every argument is a run directory or a folder of them. Without --to the tables are printed and
nothing is written. The intervals are over seeds.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from knexa.cli.parser import Parser
from knexa.errors import UserError
from knexa.report.aggregate import group_runs
from knexa.report.formats import markdown
from knexa.report.robust import robust_table
from knexa.report.runs import outdated_runs, read_runs, unfinished_runs
from knexa.report.table import Table, choose, tables
from knexa.report.write import write_report


def main(arguments: Sequence[str]) -> int:
    """Print the tables, and do what is asked; return the exit code."""
    _report(_parser().parse_args(arguments))
    return 0


def _parser() -> Parser:
    parser = Parser("knexa report", __doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="RUNS", type=Path, help="run directories, or folders of them"
    )
    differences = "add paired differences to this method, e.g. random/akd"
    parser.option("--against", "METHOD", differences, otherwise="none are shown")
    parser.option(
        "--columns",
        "NAMES",
        "columns to show, in this order, e.g. pass@1,difference,p; the CSV tables hold all",
        lambda text: [name.strip() for name in text.split(",")],
        otherwise="the usual ones; the notes under a table name the others",
    )
    parser.add_argument(
        "--robust",
        action="store_true",
        help="add interquartile means and, with --against, probabilities of improvement, over all "
        "settings (default: do not)",
    )
    files = "write index.html, its tables (.md .csv .tex) and figures (.svg .png .pdf) there"
    parser.option("--to", "DIR", files, Path, otherwise="nothing is written")
    parser.add_argument(
        "--slope",
        metavar=("FIRST", "LAST"),
        nargs=2,
        type=int,
        help="rounds that the log-log slope of regret is fitted over (default: the last nine "
        "tenths)",
    )
    parser.add_argument(
        "--wandb", action="store_true", help="push all of it as one W&B run (default: do not)"
    )
    parser.add_argument(
        "--wandb-mode",
        choices=("offline", "online"),
        default="offline",
        help="offline writes files that `wandb sync` uploads later (default: %(default)s)",
    )
    parser.option("--wandb-project", "NAME", "W&B's project", default="knexa")
    return parser


def _report(options: argparse.Namespace) -> None:
    if options.slope is not None and not 0 < options.slope[0] < options.slope[1]:
        first, last = options.slope
        raise UserError(f"--slope {first} {last}: name two rounds, the earlier first, from 1 on")
    if options.to is not None and options.to.exists() and not options.to.is_dir():
        raise UserError(f"--to {options.to} is a file: name a folder")
    study = group_runs(read_runs(options.runs))
    shown: tuple[Table, ...] = tables(study, options.against)
    if options.robust:
        shown = (*shown, robust_table(study, options.against))
    if options.columns is not None:
        shown = choose(shown, options.columns)
    for table in shown:
        print(f"## {table.title}\n\n{markdown(table)}")
    if left_out := unfinished_runs(options.runs):
        names = [path.name for path in left_out[:8]] + ["..."] * (len(left_out) > 8)
        print(f"left out, not finished ({len(left_out)}): {', '.join(names)}\n")
    if outdated := outdated_runs(options.runs):
        recipes = ", ".join(sorted({str(recipe) for recipe in outdated.values()}))
        print(
            f"left out, made by recipe {recipes}, which this version does not read "
            f"({len(outdated)}): run them again, or use the version of knexa that made them\n"
        )
    slope = None if options.slope is None else (float(options.slope[0]), float(options.slope[1]))
    if options.to is not None:
        pictures = write_report(study, shown, options.to, slope)
        for picture in pictures:
            if picture.missing is not None:
                print(f"no figure {picture.name}: {picture.missing}")
        print(f"page: {options.to / 'index.html'}")
    if options.wandb:
        from knexa.report.wandb_run import push

        with tempfile.TemporaryDirectory() as scratch:
            figures = options.to / "figures" if options.to is not None else Path(scratch)
            if options.to is None:
                from knexa.report.figures import draw_all

                draw_all(study, figures, slope)
            message = push(
                study,
                shown,
                figures,
                folder=options.to or Path(),
                mode=options.wandb_mode,
                project=options.wandb_project,
            )
        print(message)
