"""The memory cgroup around a server: what it bounds, and that it goes with its server."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits, Outcome
from knexa.sandbox import cgroup
from knexa.sandbox.protection import LAYERS, missing
from tests.sandbox.conftest import make_problem
from tests.sandbox.test_hostile import children, servers


def group_of(executor: Executor) -> Path:
    """Return the folder of the memory cgroup of an executor's server."""
    (verifier,) = executor._verifiers
    (server,) = servers(verifier.process.pid)
    own = dict(
        line.split(":", 2)[1:] for line in Path(f"/proc/{server}/cgroup").read_text().splitlines()
    )
    folders = [Path(parent).parent for parent, _ in cgroup._parents()]
    name = Path(own.get("memory") or own[""]).name
    return next(path for folder in folders for path in folder.rglob(name))


@pytest.fixture
def grouped() -> Iterator[Executor]:
    with Executor(limits=Limits(cpu_s=3.0, wall_s=8.0, memory_mb=64, processes=8)) as executor:
        if "memory-cgroup" not in executor.layers:
            pytest.skip(f"no memory cgroup here: {executor.refused['memory-cgroup']}")
        yield executor


def test_memory_of_a_program_s_processes_is_bounded_together(grouped: Executor) -> None:
    # Six processes hold 48 MiB each at once, where 64 and 128 more are allowed for all.
    body = (
        "    ours, theirs = os.pipe()\n    pids = []\n"
        "    for _ in range(6):\n        pids.append(os.fork())\n        if pids[-1] == 0:\n"
        "            held = bytearray(48 << 20)\n"
        "            for at in range(0, len(held), 4096): held[at] = 1\n"
        "            os.write(theirs, b'x'); os.close(theirs)\n"
        "            while True: signal.pause()\n"
        "    os.close(theirs)\n    ended = 0\n    held = 0\n"
        "    while held + ended < 6:\n"
        "        if select.select([ours], [], [], 0.05)[0]: held += len(os.read(ours, 1))\n"
        "        ended = sum(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)\n"
        "                    is not None for pid in pids)\n"
        "    return ended\n"
    )
    problem = make_problem("raise ValueError(repr(candidate(0)))\n")
    (result,) = grouped.run([(problem, f"def solve(x):\n    import os, select, signal\n{body}")])
    if result.outcome is not Outcome.OUT_OF_MEMORY:  # the kernel chose another of its processes
        assert int(result.detail.removeprefix("ValueError: ")) >= 2, result


def test_memory_cgroup_goes_with_its_server(double: Problem) -> None:
    with Executor() as executor:
        if "memory-cgroup" not in executor.layers:
            pytest.skip(f"no memory cgroup here: {executor.refused['memory-cgroup']}")
        assert executor.run([(double, "    return x * 2\n")])[0].passed
        closed = group_of(executor)
        limit = next(closed.glob("memory.limit_in_bytes"), closed / "memory.max")
        assert int(limit.read_text()) == (512 + 128) << 20
    assert not closed.exists()
    with Executor() as executor:
        assert executor.run([(double, "    return x * 2\n")])[0].passed
        killed = group_of(executor)
        assert killed.exists()
        (verifier,) = executor._verifiers
        outer = children(verifier.process.pid)
        verifier.kill()
        for pid in outer:  # the server ends by itself when its verifier is gone
            with contextlib.suppress(FileNotFoundError):
                while Path(f"/proc/{pid}").exists():
                    os.sched_yield()
    assert not killed.exists()


def test_group_of_a_killed_server_is_swept_by_the_next() -> None:
    parents = [parent for parent, _ in cgroup._parents() if os.access(parent, os.W_OK)]
    group = cgroup.MemoryGroup.make()
    if group is None:
        pytest.skip("no memory cgroup here")
    left = Path(parents[0]) / "knexa-999999999"
    left.mkdir()
    other = Path(parents[0]) / "knexa-keep"
    other.mkdir()
    group.remove()
    again = cgroup.MemoryGroup.make()
    assert again is not None
    again.remove()
    assert not left.exists()
    assert other.exists()
    other.rmdir()


def test_extra_layers_are_named_but_not_asked_for() -> None:
    assert [layer.name for layer in LAYERS if layer.is_extra] == ["memory-cgroup"]
    assert "memory-cgroup" in {layer.name for layer in missing(())}
