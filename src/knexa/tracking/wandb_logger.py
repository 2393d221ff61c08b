"""The W&B logger: starts a mirror process, sends it short notes and never waits long.

W&B is imported in that process only (``knexa.tracking.wandb_mirror``), which reads the run
directory's files, so that nothing W&B does can slow, stop or fail the run.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

import knexa
from knexa.tracking.files import encode_document, write_atomically
from knexa.tracking.info import RunInfo
from knexa.tracking.loggers import Logger
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.wandb_mirror import FOLDER, LOG_FILE, SETTINGS_FILE

# Mirrors that outlive their run: kept, so that no destructor warns of a running process.
_left_running: "list[subprocess.Popen[bytes]]" = []


@dataclass(kw_only=True)
class Wandb(Logger):
    """Mirrors the run to Weights & Biases; offline by default, which needs no account.

    Args:
        mode: ``offline`` writes files that ``wandb sync`` uploads later; ``online`` uploads now.
        project: W&B project.
        entity: W&B user or team; None is the account's default.
        group: W&B group; None takes the run's ``name``.
        tags: Further tags.
        finish_timeout_s: How long a finished run waits for its mirror, at most.
        linger_s: How long the mirror may go on after that, for a slow upload.
    """

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "knexa"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    finish_timeout_s: Annotated[float, Field(ge=0)] = 8.0
    linger_s: Annotated[float, Field(ge=0)] = 600.0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    def start(self, run: RunInfo) -> None:
        """Start the mirror process and return at once."""
        if self.mode == "disabled":
            return
        folder = run.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        init = {
            "mode": self.mode,
            "project": self.project,
            "entity": self.entity,
            "group": self.group or run.group,
            "job_type": run.job_type,
            "tags": [*run.tags, *self.tags],
            "name": run.name,
            "id": run.id,
            "config": run.config,
        }
        settings = {"init": init, "resumed": run.resumed, "linger_s": self.linger_s}
        write_atomically(folder / SETTINGS_FILE, encode_document(settings))
        with (folder / LOG_FILE).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "knexa.tracking.wandb_mirror", str(run.path)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the run only, which notifies the mirror
            )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        """Tell the mirror that the round's rows are on disk."""
        self._send({"round": round})

    def finish(self, run_dir: RunDirectory) -> str | None:
        """Wait a few seconds at most; return how to view or sync, or what went wrong."""
        if self._process is None:
            return None
        log_file = run_dir.path / FOLDER / LOG_FILE
        self._send({"end": "finished"})
        self._close_pipe()
        try:
            code = self._process.wait(timeout=self.finish_timeout_s)
        except subprocess.TimeoutExpired:
            _left_running.append(self._process)
            return (
                f"W&B is not ready yet and goes on by itself (process {self._process.pid}, log "
                f"{log_file}); to upload later: {_sync_command(run_dir)}"
            )
        if code != 0:
            return (
                f"W&B failed, the run is complete without it; see {log_file}; "
                f"to write it again: python -m knexa.tracking.wandb_mirror {run_dir.path}"
            )
        return f"W&B: {_sync_command(run_dir)}" if self.mode == "offline" else None

    def abort(self) -> None:
        """Tell the mirror to close what it has; do not wait."""
        self._send({"end": "stopped"})
        self._close_pipe()
        if self._process is not None:
            _left_running.append(self._process)

    def _send(self, note: Mapping[str, object]) -> None:
        """Write one short line, unless the mirror has ended or its pipe is full."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                os.write(self._process.stdin.fileno(), (json.dumps(note) + "\n").encode())

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def _environment() -> dict[str, str]:
    """Return an environment in which this package is importable and W&B prints nothing."""
    package_root = str(Path(knexa.__file__).resolve().parents[1])
    search_path = [path for path in [os.environ.get("PYTHONPATH"), package_root] if path]
    return os.environ | {"PYTHONPATH": os.pathsep.join(search_path), "WANDB_SILENT": "true"}


def _sync_command(run_dir: RunDirectory) -> str:
    folder = run_dir.path / FOLDER
    runs = sorted(folder.glob("offline-run-*"))
    return f"wandb sync {runs[-1] if runs else folder / 'offline-run-*'}"
