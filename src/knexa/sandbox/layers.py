"""The kernel layers around a program; each reports whether it is in force.

``enter_namespaces``, ``mounts.enter_private_root``, ``restrict_files`` and ``drop_privileges`` run
once in the sandbox server, and what they apply is inherited by the forks that run programs;
``seccomp`` and ``limit_resources`` run in each fork. A layer that the kernel lacks raises nothing:
functions return the names of layers in force, ``kernel.refused`` has the reasons for the others,
and the executor warns or, when strict, refuses to run. Linux on x86-64 and aarch64; elsewhere only
resource limits remain.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import socket
import stat
import struct
import sys

from . import kernel, mounts

_CLONE = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000}
_CLONE |= {"pid": 0x20000000, "network": 0x40000000}
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_NOBODY = 65534
_HOST_NAME = "sandbox"


def enter_namespaces() -> tuple[str, ...]:
    """Enter new network, process, mount, IPC and UTS namespaces, or fewer where these are denied.

    The new process namespace applies from the next fork on.
    """
    if kernel.libc is None:
        return ()
    uid, gid = os.getuid(), os.getgid()
    everything = ("network", "pid", "mount", "ipc", "uts")
    for names in (everything, ("user", *everything), ("user", "network"), ("network",)):
        # Tried in a child first: entering a user namespace without a mapping is irreversible.
        number = kernel.trial(functools.partial(_enter, names, uid, gid))
        if number == 0:
            _enter(names, uid, gid)
            return tuple(f"{name}-namespace" for name in names)
        for name in set(names) & set(everything):
            kernel.refused[f"{name}-namespace"] = f"unshare: {os.strerror(number)}"
    return ()


def _enter(names: tuple[str, ...], uid: int, gid: int) -> None:
    assert kernel.libc is not None
    kernel.check(kernel.libc.unshare(sum(_CLONE[name] for name in names)), "unshare")
    if "user" in names:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)
    if "uts" in names:
        socket.sethostname(_HOST_NAME)
        kernel.check(kernel.libc.setdomainname(b"", ctypes.c_size_t(0)), "setdomainname")


def restrict_files(scratch: str, proc: int | None) -> tuple[str, ...]:
    """Restrict reads to the interpreter and system libraries, writes to ``scratch`` (Landlock).

    ``proc`` is a folder that this process reads through its descriptor.
    """
    abi = kernel.syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        kernel.refused["landlock"] = f"landlock_create_ruleset: {kernel.reason()}"
        return ()
    num_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    handled = (1 << num_rights) - 1
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scoped)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = kernel.syscall(_SYS_LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0:
        kernel.refused["landlock"] = f"landlock_create_ruleset: {kernel.reason()}"
        return ()
    run, write, read, list_names = (1 << bit for bit in range(4))
    everything = run | read | list_names
    rules = [
        (path, everything if is_whole else list_names)
        for path, is_whole in mounts.readable_entries()
    ]
    rules += [(scratch, handled), ("/dev/null", write | read)]
    for path, rights in rules:
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _allow(ruleset, descriptor, rights & handled)
            os.close(descriptor)
    if proc is not None:
        _allow(ruleset, proc, read | list_names)
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    done = kernel.syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0) == 0
    if not done:
        kernel.refused["landlock"] = f"landlock_restrict_self: {kernel.reason()}"
    os.close(ruleset)
    return (f"landlock-{abi}",) if done else ()


def _allow(ruleset: int, descriptor: int, rights: int) -> None:
    if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
        rights &= 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
    kernel.syscall(_SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)


def drop_privileges(own_uid: int, *, is_own_namespace: bool) -> tuple[str, ...]:
    """Drop root and all capabilities; switch to a user of its own where possible.

    The kernel limits processes by user and exempts root. So a server run by root becomes
    ``own_uid``, which nobody else uses, or else the user nobody; an unprivileged caller keeps its
    uid, which a user namespace (``is_own_namespace``) counts separately.
    """
    for capability in range(64):
        kernel.prctl(_PR_CAPBSET_DROP, capability)
    names = ["own-user"] if is_own_namespace and os.geteuid() != 0 else []
    if os.geteuid() == 0:
        for uid in (own_uid, _NOBODY):
            # Modules are still imported from disk after the switch.
            number = kernel.trial(functools.partial(_read_as, uid))
            if number == 0:
                _become(uid)
                names += ["own-user"] if uid == own_uid else []
                break
            text = f"as uid {uid}, reading {os.__file__}: {os.strerror(number)}"
            kernel.refused["not-root"] = text
    if os.geteuid() != 0:
        names.append("not-root")
    if "own-user" not in names:
        kernel.refused["own-user"] = "neither an unused uid nor a user namespace is to be had"
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if kernel.libc is not None and kernel.libc.capset(header, nothing) == 0:
        names.append("no-capabilities")
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1) == 0:
        names.append("no-new-privileges")
    kernel.hide_memory()
    return tuple(names)


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _read_as(uid: int) -> None:
    _become(uid)
    with open(os.__file__, "rb") as file:  # noqa: PTH123
        file.read(1)


def mapped_bytes() -> int:
    """Return this process's address space in bytes; needs /proc."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_resources(
    *, cpu_s: float, address_space: int, file_mb: int, num_tasks: int | None
) -> None:
    """Set hard resource limits on this process; the CPU limit is rounded up to whole seconds.

    ``num_tasks`` limits threads and processes of the user, so it is None if the user is shared.

    Raises:
        OSError: A limit was refused.
    """
    seconds = int(cpu_s) + 2
    limits = [
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ]
    if sys.platform == "linux":
        # Their defaults tell how much memory the machine has, and signals that wait would count
        # for all sandboxes of one user together.
        limits += [(resource.RLIMIT_SIGPENDING, 256), (resource.RLIMIT_MSGQUEUE, 0)]
        limits += [(resource.RLIMIT_MEMLOCK, 0)]
    if num_tasks is not None:
        limits.append((resource.RLIMIT_NPROC, num_tasks))
    for kind, value in limits:
        hard = resource.getrlimit(kind)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (bound, bound))
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
