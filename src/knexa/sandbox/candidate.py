"""The sandbox server: a warm interpreter without tests that forks once per program.

The trusted verifier starts it with a control socket. It confines itself (``layers``) and becomes
two processes: the zygote forks a program for each request, which answers calls on a channel of its
own; the watcher passes requests on, watches CPU and wall time, has the program killed when the
verifier is done or a limit is exceeded, and reports. The zygote learns nothing of a program, for
what it knew the next one would find in its memory. Whatever a program sends is treated as data
only.
"""

import contextlib
import functools
import gc
import json
import marshal
import os
import random
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from . import cgroup, codec, kernel, layers, mounts, scratch, seccomp
from .program_side import ProgramSide
from .values import Values

# Modules that small programs import; imported here, so that forks have them at no cost.
WARM = (
    *("array", "bisect", "calendar", "cmath", "collections", "copy", "dataclasses", "datetime"),
    *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "json"),
    *("math", "operator", "random", "re", "statistics", "string", "sys", "textwrap", "time"),
    *("typing", "unicodedata"),  # not threading: it would run its clean-up in every fork
)
_FIRST_UID, _NUM_UIDS = 0x70000000, 1 << 28  # far above what systems hand out
_FIRST_PID = 300  # the kernel goes on from here when it has used the last one
_NUM_THREADS = 128
_NUM_CORES = os.cpu_count() or 1
_FOLDER = "program"
_TICK_NS = 10_000_000  # the coarsest clock of a file system
_GROUPED, _ALONE = b"g", b"a"
_MAX_REQUEST = 4096
_DEFAULT_LIMITS = {"cpu_s": 3.0, "memory_mb": 512, "file_mb": 1, "processes": 0}


def main(control_fd: int, folder: str) -> NoReturn:
    """Confine this process, report the layers in force, and serve until the verifier closes."""
    # The first process of a namespace ignores every signal that it has no handler for.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    control = socket.socket(fileno=control_fd)
    for name in WARM:
        __import__(name)
    mapped = layers.mapped_bytes()  # read before /proc is gone
    names = list(layers.enter_namespaces())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child:
        theirs.close()
        _accompany(child, ours, control)
    ours.close()
    held = _Held()
    message, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
    if message == _GROUPED:
        held.memory = descriptors[0]
        names.append(cgroup.NAME)
    if "pid-namespace" in names:
        with contextlib.suppress(OSError):
            held.load = os.open("/proc/loadavg", os.O_RDONLY)
    if "mount-namespace" in names:
        more, held.proc = mounts.enter_private_root()
        folder = mounts.SCRATCH if more else folder
        names += more
    if held.proc is not None:
        # In a child: a program would find the number in its memory.
        kernel.trial(functools.partial(_start_anywhere, held.proc))
    names += layers.restrict_files(folder, held.proc)
    is_own_namespace = "user-namespace" in names
    own_uid = _FIRST_UID + random.SystemRandom().randrange(_NUM_UIDS)
    names += layers.drop_privileges(own_uid, is_own_namespace=is_own_namespace)
    os.umask(0o077)
    os.chdir(folder)
    zygote = _Zygote(f"{folder}/{_FOLDER}", mapped, has_own_user="own-user" in names)
    names += zygote.probe()
    watcher = _Watcher(control, held, folder, names, zygote)
    _warm_up()
    watcher.settle()
    gc.collect()
    gc.freeze()
    refused = {name: why for name, why in kernel.refused.items() if name not in names}
    theirs.send(json.dumps({"layers": names, "refused": refused}).encode())
    theirs.close()
    watcher.serve()


def _accompany(child: int, link: socket.socket, control: socket.socket) -> NoReturn:
    """Give the inner process its cgroup, complete its hello, and wait for its end."""
    group = cgroup.MemoryGroup.make()
    is_joined = group is not None and group.add(child)
    with contextlib.suppress(OSError):  # the inner process has ended
        if group is not None and is_joined:
            socket.send_fds(link, [_GROUPED], [group.limit])
        else:
            link.send(_ALONE)
        hello = json.loads(link.recv(1 << 16) or "null")
        if hello:
            if not is_joined:
                hello["refused"] |= {cgroup.NAME: kernel.refused[cgroup.NAME]}
            control.send(json.dumps(hello | {"group": group and group.path}).encode())
    control.close()
    os.waitpid(child, 0)
    if group is not None:
        group.remove()
    os._exit(0)


def _start_anywhere(proc: int) -> None:
    """Let this namespace's process numbers go on from a random one.

    Else a program would see that its server is new, which the program before it can bring about.
    """
    with open(os.open("sys/kernel/pid_max", os.O_RDONLY, dir_fd=proc)) as file:  # noqa: PTH123
        number = random.SystemRandom().randrange(_FIRST_PID, int(file.read()) - 1)
    os.write(os.open("sys/kernel/ns_last_pid", os.O_WRONLY, dir_fd=proc), b"%d" % number)


def _warm_up() -> None:
    """Run a harmless program: pages that Python writes at first use would be copied per fork."""
    ours, theirs = socket.socketpair()
    source = "def answer(*items): return [*items] if items[1:] else items[0]"
    code = marshal.dumps(compile(source, "<warm-up>", "exec"))
    typical: tuple[Any, ...] = ((1,), ([1, 2],), (1, "a", (1.5, [{2: {3}}]), None))
    call = {"do": "call", "name": "answer", "names": []}
    calls = [call | Values().write(values) for values in typical]
    load = {"codes": [code], "source": None, "classes": []}
    program = ProgramSide()
    program.open(theirs, 1 << 16)
    for index in range(300):
        codec.send_request(ours, calls[index % 3] if index else load)
        program.serve_one()
        codec.receive(ours)
    del sys.modules["candidate"]


@dataclass
class _Held:
    """What the server holds open, and a program must not inherit."""

    load: int | None = None
    """Descriptor of /proc/loadavg, which tells the last process number used."""
    proc: int | None = None
    """Descriptor of the folder /proc, which is not in the tree."""
    memory: int | None = None
    """Descriptor of the limit of its memory cgroup."""

    def close(self) -> None:
        for descriptor in (self.load, self.proc, self.memory):
            if descriptor is not None:
                os.close(descriptor)


class _Zygote:
    """Forks programs. The same happens in its memory whatever they are and do."""

    def __init__(self, folder: str, mapped: int, *, has_own_user: bool) -> None:
        os.mkdir(folder)  # noqa: PTH102
        self.folder = folder
        self._program = ProgramSide()
        self._mapped = mapped
        self._has_own_user = has_own_user
        self._filters = {allowed: seccomp.Filter(children=allowed) for allowed in (False, True)}
        self._applied: frozenset[str] = frozenset()

    def probe(self) -> list[str]:
        """Return the layers that a fork of this process can apply to itself."""
        names = []
        for name, action in (
            ("seccomp", self._filters[False].attach),
            ("resource-limits", lambda: self._limit(_DEFAULT_LIMITS)),
        ):
            number = kernel.trial(action)
            if number:
                kernel.refused[name] = f"setting it: {os.strerror(number)}"
            else:
                names.append(name)
        self._applied = frozenset(names)
        return names

    def _limit(self, limits: dict[str, Any]) -> None:
        layers.limit_resources(
            cpu_s=limits["cpu_s"],
            address_space=self._mapped + (limits["memory_mb"] << 20),
            file_mb=limits["file_mb"],
            num_tasks=_NUM_THREADS + limits["processes"] if self._has_own_user else None,
        )

    def serve(self, requests: socket.socket, link: socket.socket) -> NoReturn:
        """Fork for each request, which the fork reads; reap it when the watcher says so."""
        try:
            while requests.recv(1, socket.MSG_PEEK):
                pid = os.fork()
                if pid == 0:
                    data, descriptors, _, _ = socket.recv_fds(requests, _MAX_REQUEST, 1)
                    link.send(b"%d" % os.getpid())
                    requests.close()
                    link.close()
                    self.run(data, descriptors[0])
                if not link.recv(1):
                    break
                link.send(b"%d" % os.waitpid(pid, 0)[1])
        finally:
            os._exit(0)

    def run(self, request: bytes, descriptor: int) -> NoReturn:
        """Run a program in this process, with its channel; never returns."""
        try:
            limits, channel = json.loads(request), socket.socket(fileno=descriptor)
            os.setsid()
            os.chdir(self.folder)
            # Opened anew: flags of a shared open file would persist to the next program.
            null = os.open("/dev/null", os.O_RDWR)
            for standard in (0, 1, 2):
                os.dup2(null, standard)
            os.close(null)
            # A layer that passed the probe and fails now ends the program.
            if "resource-limits" in self._applied:
                self._limit(limits)
            if "seccomp" in self._applied:
                self._filters[limits["processes"] > 0].attach()
            random.seed(0)
            self._program.open(channel, limits["output_kb"] << 10)
            while True:
                self._program.serve_one()
        finally:
            os._exit(70)


class _Watcher:
    """Watches programs, one after the other, and reports why they ended.

    A program that may start processes is forked by the watcher itself, as their parent when they
    are orphans; no other is served after it.
    """

    def __init__(
        self,
        control: socket.socket,
        held: _Held,
        root: str,
        layers_in_force: Sequence[str],
        zygote: _Zygote,
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
                data, descriptors, _, _ = socket.recv_fds(self._control, _MAX_REQUEST, 1)
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
            pid = int(self._link.recv(_MAX_REQUEST))
            report = self._watch(pid, limits)
            report |= self._end(report, limits, report["cpu_s"], self._reaped())
            report["clean"] = self._clean(pid)
        if not self._control.recv(1):  # the verifier's signal may come after the program's end
            raise EOFError
        self._control.send(json.dumps(report).encode())

    def _reaped(self) -> int:
        """Have the zygote reap its program; return the status of its end."""
        self._link.send(b".")
        return int(self._link.recv(_MAX_REQUEST))

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
