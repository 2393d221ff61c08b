"""``python -m knexa.report RUNS...``: finished runs compared, methods as rows.

Every argument is a run directory or a folder of them. Without --to the tables are printed and
nothing is written. The intervals are over seeds.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from knexa.errors import UserError
from knexa.report.aggregate import group_runs
from knexa.report.runs import outdated_runs, read_runs, unfinished_runs
from knexa.report.table import markdown, tables
from knexa.report.write import write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, and do what is asked; return the exit code.

    2 is the user's mistake, told in one line.
    """
    options = _parser().parse_args(arguments)
    try:
        _report(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knexa.report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, or folders of them")
    parser.add_argument(
        "--against", metavar="METHOD", help="add paired differences to this method, e.g. random/akd"
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        help="write index.html, and its tables (.md .csv .tex) and figures (.svg .png), there",
    )
    parser.add_argument(
        "--slope",
        metavar=("FIRST", "LAST"),
        nargs=2,
        type=int,
        help="rounds that the log-log slope of regret is fitted over (default: the last nine "
        "tenths)",
    )
    parser.add_argument("--wandb", action="store_true", help="push all of it as one W&B run")
    parser.add_argument(
        "--wandb-mode",
        choices=("offline", "online"),
        default="offline",
        help="offline (default) writes files that `wandb sync` uploads later",
    )
    parser.add_argument("--wandb-project", metavar="NAME", default="knexa")
    return parser


def _report(options: argparse.Namespace) -> None:
    if options.slope is not None and not 0 < options.slope[0] < options.slope[1]:
        first, last = options.slope
        raise UserError(f"--slope {first} {last}: name two rounds, the earlier first, from 1 on")
    if options.to is not None and options.to.exists() and not options.to.is_dir():
        raise UserError(f"--to {options.to} is a file: name a folder")
    study = group_runs(read_runs(options.runs))
    made = tables(study, options.against)
    for table in made:
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
        pictures = write_report(study, made, options.to, slope)
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
            told = push(
                study,
                made,
                figures,
                folder=options.to or Path(),
                mode=options.wandb_mode,
                project=options.wandb_project,
            )
        print(told)


if __name__ == "__main__":
    sys.exit(main())
