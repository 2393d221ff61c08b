"""``knexa serve`` as a process, its disk made full and roomy again, and toy agents that call it."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from knexa.cli.organisation import organisation_settings
from knexa.network.authority import MATCHMAKER
from knexa.network.compatibility import agreement
from knexa.network.refusals import FILE
from knexa.network.transport import RpcClient
from knexa.seeding import derive_rng
from tests.network.servers import CALL_S
from tests.network.small_network import Agent, ToyBackend
from tests.network.trial import AGENTS, copy_of_certificates, identity

OVERRIDES = (
    "roster.agents=["
    + ",".join(f"{{name: {name}, backbone: tiny-qwen2}}" for name in AGENTS)
    + "]",
    "experiment=paired",
    "federation.num_rounds=3",
    "regret=none",
    "seed=5",
)
SETTINGS = organisation_settings(OVERRIDES)
NUM_FEATURES = len(SETTINGS.profile.feature_names)  # type: ignore[union-attr]


class Disk:
    """The matchmaker's disk. This one is full when files may not grow: EFBIG instead of ENOSPC."""

    def __init__(self, state: Path) -> None:
        self.state, self.prefix = state, list[str]()

    def fill(self, pid: int) -> None:
        """Let writes fail from now on."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))

    def free(self) -> None:
        """Make room; a limit has ended with its process."""

    def close(self) -> None:
        """Remove what was set up."""


class Tmpfs(Disk):
    """A file system in memory, in a mount namespace that a sleeping process keeps."""

    def __init__(self, state: Path) -> None:
        state.mkdir(exist_ok=True)
        script = 'mount -t tmpfs -o size=4m none "$1" && echo ready && exec sleep 1000'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise OSError("no tmpfs here")
        super().__init__(Path(f"/proc/{self._holder.pid}/root{state}"))
        self.prefix = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]
        self.prefix += [f"--wdns={state.parent}"]

    def fill(self, pid: int) -> None:
        """Fill the file system to its last byte."""
        with (self.state / "ballast").open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    def free(self) -> None:
        """Remove the ballast."""
        (self.state / "ballast").unlink()

    def close(self) -> None:
        """End the process that holds the namespace."""
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


def best_disk() -> type[Disk]:
    """Return a file system of its own where this machine grants it."""
    import tempfile

    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        return Disk
    with tempfile.TemporaryDirectory() as folder:
        try:
            Tmpfs(Path(folder) / "state").close()
        except OSError:
            return Disk
    return Tmpfs


class MatchmakerProcess:
    """``knexa serve`` for four toy agents; a context manager that ends what it started."""

    def __init__(self, folder: Path, disk: type[Disk] = Disk) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.stack = folder, ExitStack()
        self.certificates = copy_of_certificates(folder)
        self.disk = disk(folder / "cpm")
        self.stack.callback(self.disk.close)
        self.port, self.process = 0, None  # type: int, subprocess.Popen[str] | None
        self.stack.callback(self.end)

    def __enter__(self) -> "MatchmakerProcess":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def start(self, stderr: int | None = None) -> None:
        """Start it, or start it again with the same command, and wait until it serves."""
        command = [*self.disk.prefix, sys.executable, "-m", "knexa", "serve"]
        command += ["--certificates", str(self.certificates), "--state", str(self.folder / "cpm")]
        command += ["--listen", f"127.0.0.1:{self.port}", "--beat-s", "30", *OVERRIDES]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE if stderr is None else stderr,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if stderr is not None:
            return
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if "serving 4 agents on port" in line:
                self.port = int(line.split()[-1])
                return
        raise AssertionError(f"it does not serve: {self.process.wait()}")

    def end(self, number: int = signal.SIGKILL) -> tuple[int, str]:
        """Send a signal if it still runs; return exit code and what it has printed since."""
        if self.process is None:
            return 0, ""
        if self.process.poll() is None and number:
            self.process.send_signal(number)
        _, told = self.process.communicate(timeout=60)
        code, self.process = self.process.returncode, None
        return code, told or ""

    def client(self, name: str) -> RpcClient:
        """Return a connection of a member to the matchmaker."""
        client = RpcClient(identity(name), f"127.0.0.1:{self.port}", MATCHMAKER, "Matchmaker")
        self.stack.callback(client.close)
        return client

    def call(self, name: str, method: str, request: Any) -> Any:
        """Call a method on a connection of its own."""
        with RpcClient(
            identity(name), f"127.0.0.1:{self.port}", MATCHMAKER, "Matchmaker"
        ) as client:
            return client.call(method, request, CALL_S)

    def agents(self) -> list[Agent]:
        """Return toy agents for this matchmaker, not started."""
        alike = agreement(SETTINGS)
        return [Agent(self, name, RealToy(name), agreement=alike) for name in AGENTS]

    def rows(self) -> bytes:
        """Return what it has written of exchanges."""
        return (self.disk.state / "exchanges.jsonl").read_bytes()

    def refusals(self) -> bytes:
        """Return what it has written of refusals."""
        return (self.disk.state / FILE).read_bytes()


class RealToy(ToyBackend):
    """A toy agent whose profile is as long as those of real agents."""

    def first_profile(self) -> list[float]:
        return wide_profile(self.name, self.prepared_round)

    def prepare(self, round_number: int, results: Any) -> Any:
        _, noted = super().prepare(round_number, results)
        return wide_profile(self.name, round_number), noted


def wide_profile(name: str, round_number: int) -> list[float]:
    rng = derive_rng(1, "profile", name, round_number)
    return list(map(float, rng.uniform(0, 1, NUM_FEATURES)))
