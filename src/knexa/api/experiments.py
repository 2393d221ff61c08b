"""Runs the experiments of a command line from Python, and loads finished ones."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from knexa.api.results import Results
from knexa.cli.experiments import main, run_job, settings_of
from knexa.config import compose
from knexa.errors import UserError
from knexa.report.runs import outdated_runs, read_run, read_runs, unfinished_runs
from knexa.tracking.run_directory import RunDirectory

_PRINTING = ("cfg", "info", "help", "hydra_help", "shell_completion")
"""Options of Hydra that print something and run nothing, as ``--version`` does."""


def run(arguments: Sequence[str] = ()) -> Results:
    """Run what ``knexa`` with these arguments would; return the finished runs.

    Settings are checked before anything is loaded, every job of a multirun (``-m``, ``sweep=``). A
    run that is finished already answers from its files, an interrupted one resumes. Progress is
    printed. Runs lie below ``outputs/`` in the current folder.

    Args:
        arguments: The command line, one text each: ``["-m", "matchmaker=linucb,random"]``.

    Returns:
        The runs, in the order in which the command line names them.

    Raises:
        UserError: What the command line would report in one line with exit code 2, or jobs of a
            multirun that failed; the others have been run. Any other exception of a single run is
            passed on as it is.
    """
    if isinstance(arguments, str):
        raise UserError(f"knexa.run takes a list of texts: knexa.run([{arguments!r}])")
    prints = "--version" in arguments  # which Hydra's parser would answer by leaving Python
    if not prints:
        parsed = compose.parse_arguments(arguments)
        prints = any(getattr(parsed, option) for option in _PRINTING)
    if prints:
        raise UserError(f"{' '.join(arguments)} runs nothing: type it after knexa, in a shell")
    compose.register_sweeps()
    plan = compose.compose(parsed)
    if plan.is_search:
        raise UserError(
            "a search chooses its runs while it goes on: type it after knexa, in a shell, and load "
            "its folder with knexa.load"
        )
    settings = [settings_of(job, arguments) for job in plan.jobs]
    if any(each.dry_run for each in settings):
        raise UserError("dry_run=true leaves no results to return: type it after knexa, in a shell")
    if plan.is_multirun:
        _run_all(arguments, [each.run_path for each in settings])
    else:
        run_job(settings[0], rerun=plan.jobs[0].config["rerun"])
    return Results([read_run(each.run_path.absolute()) for each in settings])


def _run_all(arguments: Sequence[str], paths: Sequence[Path]) -> None:
    """Run a multirun by Hydra's launcher, which passes no exception on; raise if a run failed."""
    exit_code = main(arguments)
    failed = [path.name for path in paths if not RunDirectory(path).is_finished()]
    if failed:
        text = f"{len(failed)} of {len(paths)} runs failed, as printed above: {', '.join(failed)}"
        if len(failed) < len(paths):
            text += f"; knexa.load({str(paths[0].parent)!r}) has the others"
        raise UserError(f"{text}; the same call tries again")
    if exit_code:
        raise UserError("the runs are finished, but the command failed, as printed above")


def load(*folders: str | Path) -> Results:
    """Return the finished runs at or below folders, by method and seed.

    Each is checked by the checksums that it was finished with. Runs that are not finished, or that
    only older versions read, are left out with a warning.

    Args:
        folders: Run directories, or folders of them such as ``outputs/table4``.

    Raises:
        UserError: A folder does not exist, none holds a finished run, or a run is damaged.
    """
    if not folders:
        raise UserError("knexa.load takes at least one folder: knexa.load('outputs/default')")
    paths = [Path(folder).expanduser() for folder in folders]
    runs = read_runs(paths)
    left_out = dict.fromkeys(unfinished_runs(paths), "not finished")
    left_out |= {path: f"made by recipe {old}" for path, old in outdated_runs(paths).items()}
    if left_out:
        named = ", ".join(f"{path.name} ({reason})" for path, reason in left_out.items())
        warnings.warn(f"left out: {named}", stacklevel=2)
    return Results(runs)
