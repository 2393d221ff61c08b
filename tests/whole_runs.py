"""Whole runs in processes of their own, small but real: how the tests start them and read them."""

import os
import subprocess
import sys
from pathlib import Path

TIMED = {"timings.jsonl", "environment.json"}
SMALL = (
    "debug=smoke",
    "data.num_train=96",
    "data.num_test=24",
    "data.num_transfer=24",
    "partition=iid",
    "logger=csv",
    "seed=7",
)


def start(folder: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    """Start a small run in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "knexa", *SMALL, *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run(folder: Path, *overrides: str, code: int = 0, **environment: str) -> str:
    """Run to the end, check the exit code and return what was printed."""
    process = start(folder, *overrides, **environment)
    output = process.communicate(timeout=280)[0]
    assert process.returncode == code, output
    return output


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file of the folder's one run, but those that hold times."""
    (run,) = folder.glob("outputs/smoke/*")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in TIMED
    }
