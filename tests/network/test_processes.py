"""Seven real processes that route, with mutual TLS, kills, and a connection that is cut.

Each has a network namespace and an address of its own where the machine grants that, which the
test's id says; else all are on loopback.

Rounds 1 and 2 must be those of one process although an agent and then the matchmaker are killed in
them; in round 3 the link to one student is cut, which may cost that student its packages and nobody
else anything. The wire to that agent is captured throughout.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knexa.agents.state import load_state
from knexa.cli.commands import run_command_line
from knexa.network.authority import MATCHMAKER
from tests import whole_runs
from tests.network.hosts import Loopback, best
from tests.network.small_network import Forwarder

AGENTS = ("qwen2-a", "gpt2-a", "bloom", "neox", "qwen2-b", "gpt2-b")
OVERRIDES = (
    *whole_runs.SMALL,
    "regret=none",
    "federation.num_rounds=3",
    "training.local_epochs=6",  # so that some answers are right
    "evaluation.num_samples=1",
    "evaluation.ks=[1]",
    "evaluation.max_new_tokens=40",
    "data.num_test=12",
)
NUM_ROUTES = 6 * 12
"""Directives of a round: a student and topic each."""
WAIT_S = 240.0
PACKAGE_S = "45"
"""Longer than learning takes on a busy machine; also the wait for the lost packages."""


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Members:
    """The processes of a federation, by name."""

    def __init__(self, folder: Path, hosts: Loopback) -> None:
        self.folder, self.processes = folder, dict[str, subprocess.Popen[bytes]]()
        self.hosts = hosts
        self.ports = dict(zip((MATCHMAKER, *AGENTS), free_ports(7), strict=True))
        self.addresses, self.forwarders = dict[str, int](), list[Forwarder]()
        certificates = str(folder / "certificates")
        assert run_command_line(["certs", "init", certificates]) == 0
        assert run_command_line(["certs", "issue", certificates, MATCHMAKER, *AGENTS]) == 0

    def start(self, name: str) -> None:
        """Start a member, or start it again, with the same command."""
        address = self.hosts.addresses[name]
        command = [
            *self.hosts.command(name),
            *(sys.executable, "-m", "knexa", "serve" if name == MATCHMAKER else "join"),
            *("--certificates", str(self.folder / "certificates")),
            *("--listen", f"{address}:{self.ports[name]}"),
            *("--state", str(self.folder / name)),
        ]
        if name == MATCHMAKER:
            # Nobody counts as gone before a slow machine has started it again.
            command += ["--beat-s", "30"]
        else:
            cpm = f"{self.hosts.addresses[MATCHMAKER]}:{self.ports[MATCHMAKER]}"
            command += ["--name", name, "--cpm", cpm]
            command += ["--package-s", PACKAGE_S]
            if name in self.addresses:
                command += ["--address", f"{self.hosts.here}:{self.addresses[name]}"]
        with self.log(name).open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*command, *OVERRIDES],
                cwd=self.folder,
                env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def forward(self, name: str) -> Forwarder:
        """Let an agent be reached by a link of its own."""
        forwarder = Forwarder(
            self.ports[name], host=self.hosts.addresses[name], here=self.hosts.here
        )
        self.addresses[name] = forwarder.port
        self.forwarders.append(forwarder)
        return forwarder

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def wait(self, what: Callable[[], bool]) -> None:
        """Wait until something has happened, as long as everybody is still running."""
        end = time.monotonic() + WAIT_S
        while not what():
            assert time.monotonic() < end, self.story()
            ended = {n: p.poll() for n, p in self.processes.items() if p.poll() is not None}
            assert not ended, f"{ended}\n{self.story()}"
            time.sleep(0.05)

    def has_logged(self, name: str, text: str) -> bool:
        return text in self.log(name).read_text()

    def rows(self) -> list[dict[str, Any]]:
        path = self.folder / MATCHMAKER / "exchanges.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def story(self) -> str:
        return "\n".join(f"{n}: {self.log(n).read_text()[-600:]}" for n in self.processes)


@pytest.fixture(params=[best()], ids=lambda kind: kind.__name__.lower())
def members(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Members]:
    hosts = request.param((MATCHMAKER, *AGENTS))
    here = Members(tmp_path, hosts)
    yield here
    for process in here.processes.values():
        if process.poll() is None:
            process.kill()
        process.wait()
    for forwarder in here.forwarders:
        forwarder.close()
    hosts.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_seven_processes_live_through_the_rounds_of_one(members: Members, tmp_path: Path) -> None:
    whole_runs.run(tmp_path, *OVERRIDES[len(whole_runs.SMALL) :], "engine.num_workers=1")
    (run,) = tmp_path.glob("outputs/smoke/*")
    expected = [json.loads(line) for line in (run / "exchanges.jsonl").read_text().splitlines()]
    rounds = {n: [row for row in expected if row["round"] == n] for n in (1, 2, 3)}
    (cut,) = rounds[3][-1]["students"]
    forwarder = members.forward(AGENTS[cut])

    for name in (MATCHMAKER, *AGENTS):
        members.start(name)
    victim = AGENTS[rounds[1][0]["students"][0]]
    members.wait(lambda: members.has_logged(MATCHMAKER, f"round 1: {NUM_ROUTES} directives"))
    members.kill(victim)
    members.start(victim)
    members.wait(lambda: members.has_logged(MATCHMAKER, f"round 2: {NUM_ROUTES} directives"))
    members.kill(MATCHMAKER)
    members.start(MATCHMAKER)
    members.wait(lambda: any(row["round"] == 2 for row in members.rows()))
    forwarder.cut()
    for name in (*AGENTS, MATCHMAKER):
        code = members.processes[name].wait(timeout=WAIT_S)
        assert code == 0, f"{name}: {code}\n{members.story()}"

    happened = members.rows()
    columns = list(happened[0])
    told = [{key: row[key] for key in columns} for row in expected]
    assert happened[: 2 * NUM_ROUTES] == told[: 2 * NUM_ROUTES]
    assert any(row["answers_new"] for row in told)
    assert len(happened) == 3 * NUM_ROUTES
    for row, alike in zip(happened[2 * NUM_ROUTES :], told[2 * NUM_ROUTES :], strict=True):
        if row["students"] == [cut]:
            assert (row["outcome"], row["reward_raw"]) == ("lost", None)
            assert (row["teachers"], row["topics"]) == (alike["teachers"], alike["topics"])
        else:
            assert row == alike
    for index in set(range(6)) - {cut}:
        mine = load_state(members.folder / AGENTS[index] / "checkpoint" / "agent.safetensors")
        alone = load_state(run / "checkpoint" / "agents" / f"{index}.safetensors")
        assert mine.replay == alone.replay
        assert mine.history.learn_rewards == alone.history.learn_rewards
        for name, tensor in alone.adapter.items():
            assert tensor.equal(mine.adapter[name]), AGENTS[index]

    assert len(forwarder.seen) > 3000
    for plain in (b"completion", b"task_id", b"confidence", b"return", b"def "):
        assert plain not in forwarder.seen
    refusals = json.loads((members.folder / MATCHMAKER / "refusals.json").read_text())
    assert set(refusals) <= {"handshake"}  # who knocked while the matchmaker was away
