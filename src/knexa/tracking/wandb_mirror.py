"""The W&B mirror process: ``python -m knexa.tracking.wandb_mirror RUN_DIR``.

Follows a run by short notes on stdin ({"round": 3}, {"end": "finished"}) and pushes what the run
directory's files hold. Without notes (started by hand, stdin at its end) it pushes the whole run.
All that W&B shows comes from these files, so a mirror can be deleted and made again; a resumed run
does so with its offline run, which W&B cannot resume.
"""

import contextlib
import fcntl
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

from knexa.errors import UserError
from knexa.tracking.metrics import agent_names, pair_counts, replay
from knexa.tracking.rows import ExchangeRow, RoundRow, Scores, Summary
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.schema import as_document

FOLDER = "wandb"
"""Where the mirror keeps its files in a run directory."""

SETTINGS_FILE, LOG_FILE, LOCK_FILE = "mirror.json", "mirror.log", ".mirror.lock"
End = Literal["finished", "stopped"]

# What W&B's tables of runs show of a metric; the default is its last value.
SUMMARIES = {
    "pass@1_greedy": "max,last",
    "own_pass@1_greedy": "max,last",
    "codebleu_compat": "max,last",
    "codebleu_fixed": "max,last",
    "validation_loss": "min,last",
    "cumulative_regret": "last",
    "random_regret": "last",
}


def main(run_path: str) -> int:
    """Mirror one run until its end; return the exit code."""
    os.nice(10)  # the run comes first on a small machine
    run_dir = RunDirectory(run_path)
    if run_dir.is_finished():
        try:
            run_dir.verify()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    settings = json.loads((run_dir.path / FOLDER / SETTINGS_FILE).read_text())
    notes: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(notes, settings["linger_s"]), daemon=True).start()
    _take_over(run_dir)
    mode = settings["init"]["mode"]
    if mode == "offline":
        _remove_old_runs(run_dir)
    # Otherwise W&B drops its data of this id, which may be from before rerun=true.
    resumes = mode == "online" and bool(settings["resumed"])
    run = _start_run(run_dir, settings["init"], resumes=resumes)
    end = _push_rounds(run, run_dir, notes, resumed=resumes)
    if end == "finished":
        _push_end(run, run_dir)
    run.finish(exit_code=0 if end == "finished" else 1)
    return 0


def _listen(notes: "queue.Queue[dict[str, Any]]", linger_s: float) -> None:
    """Forward notes; after the run has ended, end this process within ``linger_s``."""
    for line in sys.stdin:
        with contextlib.suppress(ValueError):
            note = json.loads(line)
            notes.put(note)
            if "end" in note:
                break
    else:
        notes.put({"end": None})
    time.sleep(linger_s)
    print(f"not done {linger_s:g} s after the run's end: giving up", flush=True)
    os._exit(3)


def _take_over(run_dir: RunDirectory) -> None:
    """End the mirror of an earlier start of this run if it is still running."""
    handle = os.open(run_dir.path / FOLDER / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    for attempt in range(100):
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            # The lock is held, so this id cannot have passed to another process.
            with contextlib.suppress(ValueError, ProcessLookupError):
                holder = int(os.pread(handle, 32, 0))
                os.kill(holder, signal.SIGTERM if attempt < 50 else signal.SIGKILL)
            time.sleep(0.1)
    else:
        raise RuntimeError("an earlier mirror of this run does not end")
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


def _remove_old_runs(run_dir: RunDirectory) -> None:
    for old in (run_dir.path / FOLDER).glob("offline-run-*"):
        shutil.rmtree(old, ignore_errors=True)


def quiet_settings() -> Any:
    """Return W&B settings that print nothing, and collect and send only what is logged.

    W&B would send the machine's name, working directory, interpreter, program and hardware.
    """
    import wandb

    return wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        host="",
        program="knexa",
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_executable="python",
        x_save_requirements=False,
    )


def _start_run(run_dir: RunDirectory, init: dict[str, Any], *, resumes: bool) -> Any:
    import wandb

    environment = run_dir.read_environment()
    told = {key: environment.get(key) for key in ("command", "git")}
    run = wandb.init(
        **init | {"config": {**init["config"], **told}},
        dir=str(run_dir.path),
        resume="allow" if resumes else None,
        settings=quiet_settings(),
    )
    run.define_metric("round")
    run.define_metric("*", step_metric="round")
    for name, summary in SUMMARIES.items():
        run.define_metric(name, step_metric="round", summary=summary)
    return run


def _push_rounds(
    run: Any, run_dir: RunDirectory, notes: "queue.Queue[dict[str, Any]]", *, resumed: bool
) -> End:
    """Push every finished round once; return how the run ended."""
    pushed = -1
    if resumed:  # W&B has the last round
        with contextlib.suppress(KeyError, TypeError, ValueError):
            pushed = int(run.summary["round"])
    for note in _notes(notes):
        until = note.get("round", sys.maxsize)
        for round, metrics in replay(run_dir):
            if pushed < round <= until:
                run.log({"round": round, **metrics})
                pushed = round
        if "end" in note:
            end = note["end"] or ("finished" if run_dir.summary.exists() else "stopped")
            return "finished" if end == "finished" else "stopped"
    raise AssertionError("the notes have no end")


def _notes(notes: "queue.Queue[dict[str, Any]]") -> Iterator[dict[str, Any]]:
    """Yield notes as they come; of several that wait, only the last."""
    while True:
        note = notes.get()
        while "end" not in note and not notes.empty():
            note = notes.get()
        yield note


def _push_end(run: Any, run_dir: RunDirectory) -> None:
    """Push the summary, the tables and the plots of a finished run."""
    import wandb

    summary, rounds = run_dir.read_summary(), run_dir.read_rows(RoundRow)
    names = agent_names(rounds)
    for name, value in flat_summary(summary).items():
        run.summary[f"final/{name}"] = value
    counts = pair_counts(run_dir.read_rows(ExchangeRow), len(names))
    final = final_table(summary.scores, names)
    tables = {
        "tables/final": wandb.Table(
            columns=list(final[0]), data=[list(row.values()) for row in final]
        ),
        "tables/pairing_matrix": wandb.Table(
            columns=["teacher \\ student", *names],
            data=[[name, *row] for name, row in zip(names, counts, strict=True)],
        ),
    }
    images = {
        f"plots/{path.stem}": wandb.Image(str(path)) for path in sorted(run_dir.plots.glob("*.png"))
    }
    last_round = max((row.round for row in rounds), default=0)
    run.log({"round": last_round, **tables, **images})


def flat_summary(summary: Summary) -> dict[str, float]:
    """Return the summary's numbers by flat names, e.g. ``pass@1``, ``pass@1_low``."""
    flat = {
        name: value
        for name, value in as_document(summary).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    for name, score in summary.scores.named().items():
        flat |= {name: score.mean, f"{name}_low": score.low, f"{name}_high": score.high}
    return flat


def final_table(scores: Scores, names: list[str]) -> list[dict[str, float | str | None]]:
    """Return one row per agent with its final scores, and one with their means."""
    named = scores.named()
    rows: list[dict[str, float | str | None]] = [
        {"agent": agent} | {name: _at(score.per_agent, i) for name, score in named.items()}
        for i, agent in enumerate(names)
    ]
    return [*rows, {"agent": "mean"} | {name: score.mean for name, score in named.items()}]


def _at(values: tuple[float, ...], index: int) -> float | None:
    return values[index] if index < len(values) else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
