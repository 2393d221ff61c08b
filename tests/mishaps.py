"""What befalls a run beside kill -9: signals, killed workers, flipped bits, meddlers, no room.

tests/test_torture.py runs this file as a command, since it forks its attempts from one warm process
(see ``torture``). All but the full disk happen to one run, one after the other; in the end its
files are those of an undisturbed one. Prints one JSON object: by mishap, what the user was told.
"""

import ctypes
import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.torture import (
    Moment,
    arm,
    attempt,
    before,
    begin,
    contract,
    finish,
    live_through,
    torture,
    warm_environment,
)

NUM_KILLS = 10
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE, _MS_REMOUNT = 0x4000, 0x40000, 0x20


def one_run(folder: Path, expected: dict[str, bytes]) -> dict[str, str]:
    """Let one run meet them all; return what it printed each time.

    Raises:
        AssertionError: It did not end as it should, or not in the expected bytes.
    """
    folder.mkdir()
    told: dict[str, str] = {}

    def live(name: str, code: int, prepare: Callable[[], object], num_workers: int = 2) -> None:
        given = attempt(folder, num_workers, prepare)
        told[name] = _take_log(folder)
        assert given == code, f"{name}: exit code {given}: {told[name]}"

    row = Moment(group="", kind="row", detail="rounds.jsonl", round=1)
    live("interrupted in a row", 130, partial(arm, row, _interrupt))
    file = Moment(group="", kind="file", detail="1.safetensors", event="open", round=2)
    live("interrupted in a checkpoint", 130, partial(arm, file, _interrupt))
    (run,) = folder.glob("outputs/smoke/*")
    assert json.loads((run / "environment.json").read_text())["status"] == "interrupted"
    live("workers killed", 1, _kill_workers)
    learn = Moment(group="", kind="phase", detail="learn", round=2)
    live("killed", -signal.SIGKILL, partial(arm, learn), 1)
    _flip(run / "rounds.jsonl", -20)
    live("a bit flipped in the rows", -signal.SIGKILL, partial(arm, learn), 1)
    _flip(run / "checkpoint" / "agents" / "0.safetensors", 5000)
    told["two processes"] = _second_process(folder, learn)
    told["a bit flipped in a checkpoint"] = _take_log(folder)
    assert contract(folder) == expected
    return told


def signalled(folder: Path, expected: dict[str, bytes]) -> dict[str, Any]:
    """Let a run be told to end by one signal after another; return its sessions.

    Raises:
        AssertionError: It did not end as it should, or not in the expected bytes.
    """
    folder.mkdir()
    moments = {
        signal.SIGTERM: Moment(group="", kind="phase", detail="teach", round=1),
        signal.SIGHUP: Moment(group="", kind="row", detail="rounds.jsonl", round=1),
        signal.SIGINT: Moment(group="", kind="phase", detail="learn", round=2),
    }
    told = {}
    for number, moment in moments.items():
        code = attempt(folder, 2, partial(_arm_listening, moment, number))
        told[number.name] = _take_log(folder)
        assert code == 128 + number, f"{number.name}: exit code {code}: {told[number.name]}"
    assert attempt(folder, 2) == 0, _take_log(folder)
    assert contract(folder) == expected
    (run,) = folder.glob("outputs/smoke/*")
    return {
        "told": told,
        "sessions": json.loads((run / "environment.json").read_text())["sessions"],
    }


def _arm_listening(moment: Moment, number: signal.Signals) -> None:
    from knexa.cli.interrupts import listen

    if number != signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)  # under nohup it would be left alone
    listen()
    arm(moment, lambda: os.kill(os.getpid(), number))


GONE = {
    "before its config": Moment(group="", kind="file", detail=".config.yaml.tmp", event="open"),
    "in a phase": Moment(group="", kind="phase", detail="update_locally", round=1),
    "in a checkpoint": Moment(group="", kind="file", detail="1.safetensors", event="open", round=2),
    "before a row": Moment(group="", kind="row", detail="exchanges.jsonl", round=1),
    "in the last answers": Moment(group="", kind="phase", detail="answer_finally", round=3),
    "before its samples": Moment(
        group="", kind="file", detail=".samples.jsonl.zst.tmp", event="open"
    ),
    "in its plots": Moment(group="", kind="file", detail="learning_curve.png", event="open"),
    "before its end": Moment(group="", kind="file", detail=".DONE.tmp", event="open"),
}
"""When the run directory is removed."""


def vanished(folder: Path, expected: dict[str, bytes]) -> dict[str, str]:
    """Remove the run directory while the run goes on, at one moment after another.

    Raises:
        AssertionError: It did not end as it should, or made the directory again.
    """
    folder.mkdir()
    told = {}
    for name, moment in GONE.items():
        code = attempt(folder, 1, partial(arm, moment, partial(_remove, folder)))
        told[name] = _take_log(folder)
        assert code == 2, f"{name}: exit code {code}: {told[name]}"
        assert not list(folder.glob("outputs/smoke/*")), name
    return told


def _remove(folder: Path) -> None:
    for run in folder.glob("outputs/smoke/*"):
        shutil.rmtree(run)


def meddled(folder: Path, expected: dict[str, bytes]) -> dict[str, str]:
    """Remove rows while the run goes on, then go on: the files are an undisturbed run's.

    Raises:
        AssertionError: It did not end as it should, or not in the expected bytes.
    """
    folder.mkdir()

    def remove_rows() -> None:
        (path,) = folder.glob("outputs/smoke/*/rounds.jsonl")
        rows = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(rows[:-2]))

    last = Moment(group="", kind="phase", detail="learn", round=2)
    code = attempt(folder, 1, partial(arm, last, remove_rows))
    told = {"rows removed": _take_log(folder)}
    assert code == 2, told
    assert attempt(folder, 1) == 0, _take_log(folder)
    assert contract(folder) == expected
    return told


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _kill_workers() -> None:
    """Kill a worker the first time that agents learn, and all that update agents after that."""
    from knexa.engine.local import _ForkedWorker

    killed: list[str] = []

    def kill(worker: _ForkedWorker, phase: Callable[..., Any], *rest: Any) -> None:
        name = phase.__name__
        if (name == "learn") != ("learn" in killed) and name in ("learn", "update_locally"):
            killed.append(name)
            os.kill(worker.process.pid or 0, signal.SIGKILL)

    before(_ForkedWorker, "begin", kill)


def _second_process(folder: Path, moment: Moment) -> str:
    """Type the command once more while it runs; return what the second process prints."""
    arrived, go_on = os.pipe(), os.pipe()

    def wait() -> None:
        os.write(arrived[1], b".")
        os.read(go_on[0], 1)

    first = begin(folder, 1, partial(arm, moment, wait))
    os.read(arrived[0], 1)
    log, aside = folder / "log.txt", folder / "first.txt"
    log.rename(aside)
    assert attempt(folder, 1) == 2, _take_log(folder)
    told = _take_log(folder)
    assert f"in use by process {first};" in told, told
    aside.rename(log)
    os.write(go_on[1], b".")
    assert finish(folder, first) == 0, _take_log(folder)
    return told


def full_disk(folder: Path, expected: dict[str, bytes]) -> dict[str, str]:
    """Run on a disk that the second round fills, then make room; return what was printed.

    ``disk`` says what was full: a tmpfs in a mount namespace, or where this machine allows none
    the file size limit, which fails a write in the same way.

    Raises:
        AssertionError: It did not end as it should, or not in the expected bytes.
    """
    folder.mkdir()
    child = os.fork()
    if child == 0:  # namespaces and mounts end with this process
        code = 1
        try:
            told = _on_small_disk(folder, expected)
            (folder / "told.json").write_text(json.dumps(told))
            code = 0
        except BaseException:
            (folder / "told.json").write_text(traceback.format_exc())
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = (folder / "told.json").read_text()
    assert code == 0, text
    return dict(json.loads(text))


def _on_small_disk(folder: Path, expected: dict[str, bytes]) -> dict[str, str]:
    checkpoint = [len(c) for name, c in expected.items() if name.startswith("checkpoint/")]
    disk, outputs = "tmpfs", folder / "outputs"
    outputs.mkdir()
    try:
        _mount_tmpfs(outputs, int(1.6 * sum(checkpoint)))
    except OSError as error:
        disk = f"RLIMIT_FSIZE (no tmpfs: {error})"
        limit = (max(checkpoint) - 1000, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    code = attempt(folder, 1)
    full = _take_log(folder)
    assert code == 1, full
    if disk == "tmpfs":
        _mount_tmpfs(outputs, 100 * sum(checkpoint), flags=_MS_REMOUNT)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert attempt(folder, 1) == 0, _take_log(folder)
    assert contract(folder) == expected
    return {"disk": disk, "full": full, "after": _take_log(folder)}


def _mount_tmpfs(path: Path, num_bytes: int, *, flags: int = 0) -> None:
    """Mount a tmpfs of that size, the first time in a mount namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: Any) -> None:
        if getattr(libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    if not flags:
        user, group = os.geteuid(), os.getegid()
        call("unshare", _CLONE_NEWNS | (0 if user == 0 else _CLONE_NEWUSER))
        if user != 0:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    options = f"size={num_bytes}".encode()
    call("mount", b"tmpfs", os.fsencode(path), b"tmpfs", flags, options)


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def _take_log(folder: Path) -> str:
    path = folder / "log.txt"
    text = path.read_text()
    path.unlink()
    return text


def main() -> None:
    """Let everything happen; one failure hides no other."""
    tests: dict[str, Callable[..., Any]] = {
        "kills": partial(torture, num_kills=NUM_KILLS, seed=0),
        "one run": one_run,
        "full disk": full_disk,
        "signalled": signalled,
        "vanished": vanished,
        "meddled": meddled,
    }
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        expected = live_through(Path(folder) / "whole")
        for name, test in tests.items():
            try:
                results[name] = test(Path(folder) / name.replace(" ", "-"), expected)
            except Exception:
                results[name] = {"failed": traceback.format_exc()}
        os.chdir("/")
    print(json.dumps(results))


if __name__ == "__main__":
    warm_environment()
    main()
