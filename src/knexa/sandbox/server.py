"""The sandbox server: a warm interpreter without tests that forks once per program.

The trusted verifier starts it with a control socket. It confines itself (``layers``), and becomes
the ``watcher``, which passes requests on and reports how programs ended, and its ``zygote``, which
forks them. An outer process stays unconfined to hold the cgroup. Whatever a program sends is
treated as data only.
"""

import contextlib
import functools
import gc
import json
import marshal
import os
import random
import signal
import socket
import sys
from typing import Any, NoReturn

from . import cgroup, codec, kernel, layers, mounts
from .program_side import ProgramSide
from .values import Values
from .watcher import Held, Watcher
from .zygote import Zygote

# Modules that small programs import; imported here, so that forks have them at no cost.
WARM = (
    *("array", "bisect", "calendar", "cmath", "collections", "copy", "dataclasses", "datetime"),
    *("decimal", "enum", "fractions", "functools", "hashlib", "heapq", "itertools", "json"),
    *("math", "operator", "random", "re", "statistics", "string", "sys", "textwrap", "time"),
    *("typing", "unicodedata"),  # not threading: it would run its clean-up in every fork
)
_FIRST_UID, _NUM_UIDS = 0x70000000, 1 << 28  # far above what systems hand out
_FIRST_PID = 300  # the kernel goes on from here when it has used the last one
_FOLDER = "program"
_GROUPED, _ALONE = b"g", b"a"


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
    held = Held()
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
    zygote = Zygote(f"{folder}/{_FOLDER}", mapped, has_own_user="own-user" in names)
    names += zygote.probe()
    watcher = Watcher(control, held, folder, names, zygote)
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
