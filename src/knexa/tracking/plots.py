"""The figures of a run, drawn from its directory's files alone."""

from pathlib import Path

from knexa.tracking.run_directory import RunDirectory


def draw_plots(run_dir: RunDirectory) -> list[Path]:
    """Draw every figure that the run's files allow into plots/; return their paths."""
    return []
