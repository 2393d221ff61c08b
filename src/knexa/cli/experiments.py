"""Runs experiments: checks the overrides, lets Hydra run the jobs, and reports how they ended.

Every job is composed and its components are constructed before Hydra starts, so that a mistake is
one line and writes nothing. Torch is imported by the first run that is not finished already.
"""

import contextlib
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from knexa.cli.exit_codes import EXIT_FAILED, EXIT_OK, say_error
from knexa.config.components import is_inside
from knexa.errors import MachineError, UserError, first_line, one_line

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from knexa.config.compose import Job
    from knexa.federation.settings import Settings
    from knexa.tracking.rows import Summary
    from knexa.tracking.run_directory import RunDirectory

_RAISE = "HYDRA_FULL_ERROR"
_BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def main(arguments: Sequence[str]) -> int:
    """Run the jobs that overrides and Hydra's options name; return the exit code."""
    from knexa.config import compose
    from knexa.config.build import build_components

    parsed = compose.parse_arguments(arguments)
    compose.register_sweeps()
    is_multirun = False
    if not (parsed.shell_completion or parsed.hydra_help):
        plan = compose.compose(parsed)
        is_multirun = plan.is_multirun
        if parsed.cfg is None and parsed.info is None:
            for job in plan.jobs:
                try:
                    build_components(job)
                except UserError:
                    raise
                except Exception as error:
                    _say_crash(error, job.config["trusted_modules"])
                    return EXIT_FAILED
    task = _Task(arguments, is_multirun=is_multirun)
    exit_code = _run_hydra(task, arguments)
    if task.failed:
        count = len(task.failed)
        print(f"error: {count} run{'s' * (count > 1)} of this command failed:", file=sys.stderr)
        for overrides in task.failed:
            print(f"  {overrides}", file=sys.stderr)
    return exit_code or task.exit_code


def _run_hydra(task: "_Task", arguments: Sequence[str]) -> int:
    """Run the command line with Hydra; return the exit code."""
    import hydra
    from hydra.errors import HydraException

    from knexa.config import folders
    from knexa.config.compose import CONFIG_NAME, VERSION_BASE

    decorate = hydra.main(
        config_path=str(folders.config_folder()),
        config_name=CONFIG_NAME,
        version_base=VERSION_BASE,
    )
    before, raises = sys.argv, os.environ.get(_RAISE)
    sys.argv = [before[0], *arguments]
    os.environ[_RAISE] = "1"  # else Hydra prints a traceback itself, whatever the error
    try:
        decorate(task.__call__)()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else EXIT_FAILED
    except _JobFailedError as error:
        print(f"error: a job failed: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:  # a folder that Hydra cannot make
        what = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        raise UserError(f"{what}; type the command in a folder that can be written to") from error
    except (ValueError, HydraException) as error:  # its own: options that exclude each other
        raise UserError(one_line(error)) from error
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    finally:
        sys.argv = before
        del os.environ[_RAISE]
        if raises is not None:
            os.environ[_RAISE] = raises
    return EXIT_OK


class _JobFailedError(Exception):
    """A job failed in another process, which has printed the details."""


class _Task:
    """Called by Hydra for each job; a failed job of a multirun does not stop the others."""

    def __init__(self, arguments: Sequence[str], *, is_multirun: bool) -> None:
        self._arguments = list(arguments)
        self._is_multirun = is_multirun
        self.exit_code = EXIT_OK
        self.failed: list[str] = []

    def __call__(self, config: "DictConfig") -> float | None:
        from hydra.core.hydra_config import HydraConfig

        from knexa.cli.interrupts import listen
        from knexa.config.build import secret_settings
        from knexa.config.compose import job_of

        hydra_config = HydraConfig.get()
        elsewhere = self._is_multirun and hydra_config.launcher._target_ != _BASIC_LAUNCHER
        try:
            if elsewhere:
                listen()
            job = job_of(config, hydra_config)
            settings = settings_of(job, self._arguments, beside_others=elsewhere)
            if self._is_multirun and any(secret_settings(job).values()):
                # Hydra's record of the sweep: it holds the whole config as it was typed.
                folder = Path(hydra_config.runtime.cwd, hydra_config.sweep.dir)
                (folder / "multirun.yaml").unlink(missing_ok=True)
            summary = run_job(settings, rerun=bool(config.rerun))
        except Exception as error:
            if isinstance(error, UserError):
                exit_code = say_error(error)
            else:
                exit_code = EXIT_FAILED
                _say_crash(error, config.trusted_modules)
            self.exit_code = EXIT_FAILED if self._is_multirun else exit_code
            if elsewhere:
                # This may be another process: only Hydra can pass the failure on.
                raise _JobFailedError(first_line(error) or type(error).__name__) from None
            if self._is_multirun:
                self.failed.append(" ".join(hydra_config.overrides.task))
            return None
        return objective(summary)


def settings_of(job: "Job", arguments: Sequence[str], *, beside_others: bool = False) -> "Settings":
    """Return the settings of a job of a command line, which is recorded without secrets.

    ``beside_others``: whether the job may run while others do, in another process.

    Raises:
        UserError: For a wrong value.
    """
    from knexa.config.build import build_settings, secret_settings, without_secret_values

    typed = without_secret_values(arguments, secret_settings(job))
    settings = build_settings(job)
    # An organisation's own roster may be one agent; a federation of one has nobody to learn from.
    if settings.roster is not None and settings.roster.num_agents < 2:
        raise UserError("roster.agents names one agent, who has no peer: name at least two")
    return replace(settings, command=shlex.join(["knexa", *typed]), beside_others=beside_others)


def run_job(settings: "Settings", *, rerun: bool) -> "Summary | None":
    """Run one job unless it is finished already; return its summary, None of a dry run.

    Raises:
        UserError: When the run cannot work as configured, e.g. models or data are missing.
    """
    from knexa.tracking.run_directory import RunDirectory
    from knexa.tracking.tables import shown_path

    run_directory = RunDirectory(settings.run_path)
    if run_directory.is_finished() and not rerun and not settings.dry_run:
        run_directory.verify()
        print(
            f"{shown_path(run_directory.path)} is finished (rerun=true runs it again, for another "
            "logger too)"
        )
        return _show_finished(run_directory, brief=settings.beside_others)
    if not (run_directory.path.exists() or settings.dry_run):
        _say_older(settings)
    from knexa.federation.experiment import run_experiment

    if settings.dry_run:  # in a folder that is thrown away, so that no real run is touched
        with tempfile.TemporaryDirectory() as folder:
            return run_experiment(settings, RunDirectory(Path(folder) / settings.run_path))
    try:
        with run_directory:
            if rerun:
                run_directory.clear()
            try:
                return run_experiment(settings, run_directory)
            except UserError:
                raise
            except Exception as error:
                run_directory.check_held()  # a directory that is gone explains any error
                if (explained := _explained(error, run_directory)) is not None:
                    raise explained from error
                raise
    finally:
        if _remove_while_empty(run_directory.path):
            print(f"results: {shown_path(run_directory.path)}")


def _say_older(settings: "Settings") -> None:
    """Say where runs of the same config by another recipe are."""
    from knexa.tracking.run_directory import RunDirectory

    prefix = f"{settings.matchmaker_name}-s{settings.seed}-"
    for path in sorted(settings.run_path.parent.glob(f"{prefix}*")):
        recipe = RunDirectory(path).other_recipe(settings.config)
        if recipe is not None:
            print(
                f"{path} is this run by recipe {recipe}; recipe {settings.config['recipe']} makes "
                "it anew beside it (knexa/recipe.py says why)"
            )


def _explained(error: Exception, run_directory: "RunDirectory") -> UserError | None:
    """Return a one-line error for a full disk or memory, or a file of the run that fails."""
    from knexa.tracking.files import is_disk_full

    if isinstance(error, MemoryError):
        what = (
            f"this machine has too little memory ({one_line(error) or 'out of memory'}): free some"
        )
    elif not isinstance(error, OSError):
        return None
    elif is_disk_full(error):
        what = f"{error.filename or run_directory.path}: {error.strerror}: make room there"
    elif _is_in(run_directory.path, error.filename):
        return UserError(
            f"{error.filename}: {error.strerror}: mend that, then type the same command again"
        )
    else:
        return None
    checkpoint = run_directory.latest_checkpoint()
    where = "the beginning" if checkpoint is None else f"round {checkpoint[0] + 1}"
    return MachineError(f"{what}, then type the same command again; it goes on from {where}")


def _is_in(folder: Path, name: object) -> bool:
    return isinstance(name, str | Path) and folder in Path(name).absolute().parents


def _show_finished(run_directory: "RunDirectory", *, brief: bool) -> "Summary":
    """Print the closing table of a finished run; return its summary."""
    from knexa.tracking.console import Console
    from knexa.tracking.info import ClosingInfo
    from knexa.tracking.rows import ExchangeRow, RoundRow

    summary = run_directory.read_summary()
    Console(brief=brief).close(
        ClosingInfo(
            run_path=run_directory.path,
            summary=summary,
            rounds=run_directory.read_rows(RoundRow),
            exchanges=run_directory.read_rows(ExchangeRow),
        )
    )
    return summary


def objective(summary: "Summary | None") -> float | None:
    """Return what a hyperparameter search maximises: the mean reward, None without exchanges.

    Rewards are measured on validation data; tuning never reads the test set.
    """
    return None if summary is None else summary.costs.mean_reward


def _remove_while_empty(path: Path) -> bool:
    """Remove the run's folder and those above it if they are empty; return whether it is left."""
    with contextlib.suppress(OSError):  # not empty
        for folder in (path, path.parent, path.parent.parent):
            folder.rmdir()
    return path.exists()


def _say_crash(error: Exception, trusted_modules: Sequence[str]) -> None:
    """Print an exception's traceback and, if it comes from a trusted module, say so."""
    from knexa.tracking.tables import shown_path

    traceback.print_exception(error)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = frame.f_globals.get("__name__", "")
        if is_inside(module, trusted_modules):
            code = frame.f_code
            where = f"{code.co_qualname} ({shown_path(Path(code.co_filename))}, line {line})"
            print(
                f"error: {type(error).__name__} in {where}: code of {module}, which "
                "trusted_modules names, not of knexa",
                file=sys.stderr,
            )
            return
