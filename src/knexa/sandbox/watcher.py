"""The process that has programs run, watches their CPU and wall time, and reports their ends."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from . import kernel, mounts, scratch
from .zygote import MAX_REQUEST, Zygote

_NUM_CORES = os.cpu_count() or 1
_TICK_NS = 10_000_000  # the coarsest clock of a file system


@dataclass
class Held:
    """What the server holds open, and a program must not inherit."""

    load: int | None = None
    """Descriptor of /proc/loadavg, which tells the last process number used."""
    proc: int | None = None
    """Descriptor of the folder /proc, which is not in the tree."""
    memory: int | None = None
    """Descriptor of the limit of its memory cgroup."""

    def close(self) -> None:
        """Close all of it, in a fork."""
        for descriptor in (self.load, self.proc, self.memory):
            if descriptor is not None:
                os.close(descriptor)


class Watcher:
    """Watches programs, one after the other, and reports why they ended.

    A program that may start processes is forked by the watcher itself, as their parent when they
    are orphans; no other is served after it.
    """

    def __init__(
        self,
        control: socket.socket,
        held: Held,
        root: str,
        layers_in_force: Sequence[str],
        zygote: Zygote,
    ) -> None:
        self._control = control
        self._held = held
        self._has_own_scratch = "own-scratch" in layers_in_force
        self._has_own_pids = "pid-namespace" in layers_in_force
        self._zygote = zygote
        self._folders = (root, zygote.folder)
        self._initial_state = self._state()
        self._memory_mb = 0

    def serve(self) -> NoReturn:
        """Start the zygote, and serve until the verifier closes."""
        kernel.adopt_orphans()
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._zygote_pid = os.fork()
        if self._zygote_pid == 0:
            self._close()
            self._zygote.serve(requests, link)
        requests.close()
        link.close()
        try:
            while True:
                data, descriptors, _, _ = socket.recv_fds(self._control, MAX_REQUEST, 1)
                if not data:
                    break
                self._serve_one(data, descriptors[0])
        finally:
            os._exit(0)

    def _close(self) -> None:
        """Close, in a fork, what is the watcher's alone."""
        for end in (self._control, self._requests, self._link):
            end.close()
        self._held.close()

    def _serve_one(self, request: bytes, channel: int) -> None:
        """Have a program run, and report why it ended."""
        limits = json.loads(request)
        if self._held.memory is not None and limits["memory_mb"] != self._memory_mb:
            # Beside the program: the scratch folder, and as much for the server and the kernel.
            size = (limits["memory_mb"] + 2 * mounts.SCRATCH_MB) << 20
            os.pwrite(self._held.memory, b"%d" % size, 0)
            self._memory_mb = limits["memory_mb"]
        if limits["processes"]:
            report = self._with_processes(request, channel, limits) | {"clean": False}
        else:
            socket.send_fds(self._requests, [request], [channel])
            os.close(channel)
            pid = int(self._link.recv(MAX_REQUEST))
            report = self._watch(pid, limits)
            report |= self._end(report, limits, report["cpu_s"], self._reaped())
            report["clean"] = self._clean(pid)
        if not self._control.recv(1):  # the verifier's signal may come after the program's end
            raise EOFError
        self._control.send(json.dumps(report).encode())

    def _reaped(self) -> int:
        """Have the zygote reap its program; return the status of its end."""
        self._link.send(b".")
        return int(self._link.recv(MAX_REQUEST))

    def _with_processes(
        self, request: bytes, channel: int, limits: dict[str, Any]
    ) -> dict[str, Any]:
        """Run a program that may start processes, all of whose CPU time counts."""
        os.kill(self._zygote_pid, signal.SIGKILL)
        os.waitpid(self._zygote_pid, 0)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        pid = os.fork()
        if pid == 0:
            self._close()
            self._zygote.run(request, channel)
        os.close(channel)
        report = self._watch(pid, limits)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1 if self._has_own_pids else -pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(ChildProcessError):
            while True:  # its processes, which are this one's now
                os.waitpid(-1, 0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return report | self._end(report, limits, max(cpu, report["cpu_s"]), status)

    @staticmethod
    def _end(
        report: dict[str, Any], limits: dict[str, Any], cpu_s: float, status: int
    ) -> dict[str, Any]:
        """Return what is known of a program once it is reaped."""
        end: dict[str, Any] = {"cpu_s": cpu_s, "code": os.waitstatus_to_exitcode(status)}
        if cpu_s > limits["cpu_s"]:  # whatever ended it first
            end |= {"reason": "cpu", "starved": False}
        return end

    def _watch(self, pid: int, limits: dict[str, Any]) -> dict[str, Any]:
        """Wait for the program's end, the verifier's signal, or a limit; then kill it."""
        clock = (~pid << 3) | 2  # the kernel's CPU-time clock of another process
        start = time.monotonic()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        handle = os.pidfd_open(pid)
        poll.register(handle, select.POLLIN)
        reason, starved, died = "", False, False
        while True:
            cpu_left = limits["cpu_s"] - time.clock_gettime(clock)
            wall_left = limits["wall_s"] - (time.monotonic() - start)
            if cpu_left <= 0:
                reason = "cpu"
                break
            if wall_left <= 0:
                reason, starved = "wall", self._was_starved(pid, limits["wall_s"])
                break
            # Threads on all cores use CPU time faster by the number of cores.
            ready = poll.poll(1000 * min(cpu_left / _NUM_CORES, wall_left) + 1)
            if ready:
                died = any(descriptor == handle for descriptor, _ in ready)
                break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        cpu_s, elapsed_s = time.clock_gettime(clock), time.monotonic() - start
        os.close(handle)
        report = {"reason": reason, "starved": starved, "died": died}
        return report | {"cpu_s": cpu_s, "elapsed_s": elapsed_s}

    def _was_starved(self, pid: int, wall_s: float) -> bool:
        """Whether the process spent its wall time waiting for a core; unknown counts as yes."""
        if self._held.proc is None:
            return True
        try:
            file = os.open(f"{pid}/schedstat", os.O_RDONLY, dir_fd=self._held.proc)
            with open(file) as opened:  # noqa: PTH123
                return int(opened.read().split()[1]) / 1e9 > 0.05 * wall_s
        except (OSError, ValueError, IndexError):
            return True

    def settle(self) -> None:
        """Wait until the kernel's clock gives a change another time than the folders have."""
        changed = max(os.stat(path).st_ctime_ns for path in self._folders)  # noqa: PTH116
        while time.time_ns() - changed < _TICK_NS:
            time.sleep(_TICK_NS / 1e9)

    def _clean(self, pid: int) -> bool:
        """Return whether a program left no trace for the next; the server is replaced if it did.

        The scratch folder then goes with the server. Process numbers that were used up are traces
        too, and so are file numbers, for they change the folder that files were made in.
        """
        if self._state() == self._initial_state:
            return self._is_last(pid)
        if not self._has_own_scratch:
            with contextlib.suppress(OSError):
                os.chmod(self._zygote.folder, 0o700)  # noqa: PTH101
                scratch.remove(self._zygote.folder)
        return False

    def _is_last(self, pid: int) -> bool:
        """Return whether ``pid`` is the last process or thread id used in this namespace."""
        load = self._held.load
        return load is None or int(os.pread(load, 99, 0).split()[-1]) == pid

    def _state(self) -> tuple[Any, ...]:
        """Return what tells any change of the scratch folders: nobody can set ``ctime``."""
        try:
            found = [os.stat(path) for path in self._folders]  # noqa: PTH116
        except OSError:  # moved or removed
            return ()
        return tuple((each.st_ino, each.st_ctime_ns, each.st_atime_ns) for each in found)
