"""Kill one run again and again, resume it by the same command, and compare all it wrote.

``make torture`` runs this file; tests/test_torture.py asks it for fewer kills. One process imports
everything and loads the benchmark check, then forks each attempt, so that an attempt costs what
the run costs and not what starting Python costs. An attempt runs the whole command line and gets
its kill -9 at a moment that is named beforehand: a task of a phase, a file operation, the middle of
a row, or, at ``anywhere``, after some CPU time, wherever that is (the timer's signal ends a process
as kill -9 does: no handler, no ``finally``).

A run that finishes before its moment comes is compared; the moment is tried on the next run.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tests.whole_runs import SMALL, files

OVERRIDES = (
    *SMALL,
    "data.num_train=36",
    "data.num_test=12",
    "data.num_transfer=12",
    "evaluation.max_new_tokens=24",
    "roster.agents=[{name:a,backbone:tiny-qwen2},{name:b,backbone:tiny-gpt2},"
    "{name:c,backbone:tiny-qwen2}]",
)
NUM_ROUNDS = 2


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When to die.

    Attributes:
        group: What the figures count it as.
        kind: ``phase`` (``detail`` names it), ``file`` (an operation on a path with that ending),
            ``row`` (in the middle of that rows file's write) or ``anywhere`` (seconds of CPU).
        detail: See ``kind``.
        event: For files, the audit event.
        round: The tracker's round at that moment: a checkpoint's is one more than what it holds.
        nth: Which of several such moments; for phases, 0 is before the first task.
    """

    group: str
    kind: str
    detail: str
    event: str = ""
    round: int | None = None
    nth: int = 0

    def sooner(self) -> "Moment":
        """Return a moment of the same kind that no run is too short for."""
        return replace(self, nth=0, detail="0.2" if self.kind == "anywhere" else self.detail)


def moments(num_kills: int, rng: random.Random) -> list[Moment]:
    """Return that many moments in the order in which a run comes to them; all kinds from 50 on."""
    catalogue = [
        Moment(group="config", kind="file", detail=".config.yaml.tmp", event="open"),
        Moment(group="environment", kind="file", detail=".environment.json.tmp", event="open"),
        Moment(group="rows", kind="row", detail="rounds.jsonl", round=0),
        *_checkpoint(1),
    ]
    for number in range(1, NUM_ROUNDS + 1):
        for phase in ("update_locally", "teach", "receive", "measure", "learn"):
            catalogue.append(_phase(phase, number, rng))
        catalogue.append(Moment(group="rows", kind="row", detail="exchanges.jsonl", round=number))
        if number == 1:  # the probed round
            catalogue.append(Moment(group="rows", kind="row", detail="regret.jsonl", round=number))
        else:
            catalogue.append(_phase("evaluate", number, rng))
        catalogue.append(Moment(group="rows", kind="row", detail="rounds.jsonl", round=number))
        catalogue += _checkpoint(number + 1)
    catalogue += [
        _phase("answer_finally", NUM_ROUNDS + 1, rng),
        _file("samples", ".samples.jsonl.zst.tmp", "open"),
        _file("samples", ".samples.jsonl.zst.tmp", "os.rename"),
        _file("summary", ".summary.json.tmp", "open"),
        _file("summary", ".summary.json.tmp", "os.rename"),
        _file("plots", "learning_curve.png", "open"),
        _file("plots", "skills.png", "open"),
        _file("DONE", "checkpoint.previous", "shutil.rmtree", round=NUM_ROUNDS + 1),
        _file("DONE", ".DONE.tmp", "open"),
        _file("DONE", ".DONE.tmp", "os.rename"),
        _file("after DONE", ".lock", "os.remove"),
    ]
    num_anywhere = max(num_kills // 5, num_kills - len(catalogue))
    chosen = sorted(rng.sample(range(len(catalogue)), num_kills - num_anywhere))
    found = [catalogue[index] for index in chosen]
    for _ in range(num_anywhere):
        seconds = f"{rng.uniform(0.2, 3.0):.3f}"
        place = rng.randrange(len(found) + 1)
        found.insert(place, Moment(group="anywhere", kind="anywhere", detail=seconds))
    return found


def _phase(name: str, number: int, rng: random.Random) -> Moment:
    return Moment(group=name, kind="phase", detail=name, round=number, nth=rng.randrange(3))


def _file(group: str, ending: str, event: str, round: int | None = None) -> Moment:
    return Moment(group=group, kind="file", detail=ending, event=event, round=round)


def _checkpoint(number: int) -> list[Moment]:
    found = [
        _file("checkpoint", "agents/1.safetensors", "open", number),
        _file("checkpoint", ".manifest.json.tmp", "os.rename", number),
    ]
    if number > 1:
        found.append(_file("checkpoint", "/checkpoint", "os.rename", number))
    return [*found, _file("checkpoint", "/checkpoint.tmp", "os.rename", number)]


# In the forked attempt


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: Moment, act: Callable[[], object] = _die) -> None:
    """Have this process do something, by default die, at the moment."""
    from knexa.federation.progress import Progress
    from knexa.tracking import files as run_files
    from knexa.tracking.tracker import Tracker

    trackers: list[Tracker] = []
    left = [moment.nth]

    def due() -> bool:
        return moment.round in (None, trackers[-1].round if trackers else None)

    def at_task(_: Progress, phase: str, *rest: Any) -> None:
        if phase == moment.detail and due():
            if left[0] == 0:
                act()
            left[0] -= 1

    def at_rows(path: Path, lines: Sequence[bytes]) -> None:
        if path.name == moment.detail and due():
            content = b"".join(lines)
            with path.open("ab") as file:
                file.write(content[: len(content) * 2 // 3])
            act()

    def at_file(event: str, arguments: tuple[Any, ...]) -> None:
        if event == moment.event and str(arguments[0]).endswith(moment.detail) and due():
            act()

    before(Tracker, "__init__", lambda tracker, *_: trackers.append(tracker))
    if moment.kind == "phase":
        before(Progress, "begin", at_task)
        before(Progress, "done", at_task)
    elif moment.kind == "row":
        before(run_files, "append_lines", at_rows)
    elif moment.kind == "file":
        sys.addaudithook(at_file)
    else:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, float(moment.detail))


def before(owner: Any, name: str, hook: Callable[..., None]) -> None:
    """Have ``hook`` called with the same positional arguments before a function is."""
    original = getattr(owner, name)

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        hook(*arguments)
        return original(*arguments, **keywords)

    setattr(owner, name, wrapped)


def attempt(folder: Path, num_workers: int, prepare: Callable[[], object] = lambda: None) -> int:
    """Run the command in a child of its own; return its exit code, or minus the signal.

    Args:
        folder: Where the command is typed; what it prints is added to its ``log.txt``.
        num_workers: Worker processes.
        prepare: Called in the child before.

    Raises:
        AssertionError: It printed a traceback.
    """
    return finish(folder, begin(folder, num_workers, prepare))


def begin(folder: Path, num_workers: int, prepare: Callable[[], object] = lambda: None) -> int:
    """Start what ``attempt`` runs; return the child's process id."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            prepare()
            code = _live(folder, num_workers)
        finally:
            os._exit(code)
    return child


def finish(folder: Path, child: int) -> int:
    """Wait for an attempt; return its exit code, or minus the signal."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = (folder / "log.txt").read_text()
    assert "Traceback" not in output, output
    return code


def _live(folder: Path, num_workers: int) -> int:
    from knexa.cli.commands import run_command_line

    handle = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.chdir(folder)
    temporary = folder / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    code = run_command_line([*OVERRIDES, f"engine.num_workers={num_workers}"])
    sys.stdout.flush()
    return code


# The whole of it


def warm_environment() -> None:
    """Set what must be set before torch and tokenizers are imported."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def warm_up(folder: Path) -> None:
    """Import and load what every attempt needs, once."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    import knexa.agents.lightning_module  # noqa: F401
    from knexa.cli.commands import run_command_line

    os.chdir(folder)
    assert run_command_line([*OVERRIDES, "engine.num_workers=1", "dry_run=true"]) == 0


def live_through(folder: Path) -> dict[str, bytes]:
    """Return the files of an uninterrupted run; warms this process up."""
    folder.mkdir()
    warm_up(folder)
    assert attempt(folder, 1) == 0, (folder / "log.txt").read_text()
    return contract(folder)


def contract(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file that equal runs have equal."""
    return {name: content for name, content in files(folder).items() if name != ".lock"}


def torture(folder: Path, expected: dict[str, bytes], num_kills: int, seed: int) -> dict[str, Any]:
    """Kill runs that often; return the figures.

    Raises:
        AssertionError: A run did not end well, or not in the bytes of an uninterrupted one.
    """
    start, rng = time.monotonic(), random.Random(seed)
    folder.mkdir(exist_ok=True)
    waiting, kills, num_runs = moments(num_kills, rng), [], 0
    while waiting:
        num_runs += 1
        run = folder / f"run-{num_runs}"
        run.mkdir()
        late: list[Moment] = []
        code = -signal.SIGKILL
        while code < 0:
            moment = waiting.pop(0) if waiting else None
            prepare = (lambda: None) if moment is None else partial(arm, moment)
            code = attempt(run, rng.choice((1, 1, 2)), prepare)
            assert code in (0, -signal.SIGKILL, -signal.SIGPROF), (run / "log.txt").read_text()
            if moment is not None:
                (kills if code < 0 else late).append(moment)
        assert contract(run) == expected, f"run {num_runs} differs after {kills}"
        waiting = [moment.sooner() for moment in late] + waiting
    return {
        "kills": len(kills),
        "runs": num_runs,
        "files_equal": len(expected),
        "by_moment": dict(sorted(Counter(moment.group for moment in kills).items())),
        "seconds": round(time.monotonic() - start),
    }


def main() -> None:
    """Print the figures, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        expected = live_through(Path(folder) / "whole")
        figures = torture(Path(folder), expected, arguments.kills, arguments.seed)
        os.chdir(here)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    warm_environment()
    main()
