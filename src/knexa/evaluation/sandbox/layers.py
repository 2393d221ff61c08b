"""The kernel layers around a program, applied through ctypes; each says whether it took hold.

``confine_server`` runs once in the sandbox server, everything it applies is inherited by the forks
that run programs; ``confine_program`` runs in each fork. Nothing here raises when the kernel lacks
a layer: what is in force comes back by name, and the executor says loudly what is missing. Linux on
x86-64 and aarch64; elsewhere only resource limits remain.
"""

import contextlib
import ctypes
import functools
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Callable

_CLONE = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000}
_CLONE |= {"pid": 0x20000000, "network": 0x40000000}
_MS_REC_PRIVATE = 0x4000 | 0x40000
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_RESTRICT = 444, 445, 446
_SYS_MOUNT_SETATTR = 442
_NOBODY = 65534
_SCRATCH_MB = 64

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _syscall(*args: object) -> int:
    if _libc is None:
        return -1
    # Pointers and sizes need the full register width.
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return int(_libc.syscall(*wide))


def _prctl(option: int, *args: object) -> int:
    if _libc is None:
        return -1
    wide = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    return int(_libc.prctl(option, *wide, *[ctypes.c_ulong(0)] * (4 - len(args))))


def hide_memory() -> None:
    """Keep other processes of the same user out of this one's memory and environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def enter_namespaces() -> tuple[str, ...]:
    """Leave the host's network, processes, mounts and IPC; falls back to fewer step by step.

    The new process namespace holds from the next fork on.
    """
    if _libc is None:
        return ()
    uid, gid = os.getuid(), os.getgid()
    everything = ("network", "pid", "mount", "ipc", "uts")
    for names in (everything, ("user", *everything), ("user", "network"), ("network",)):
        # Tried in a child first: a user namespace that cannot be mapped has no way back.
        if _succeeds(functools.partial(_enter, names, uid, gid)):
            _enter(names, uid, gid)
            return tuple(f"{name}-namespace" for name in names)
    return ()


def _enter(names: tuple[str, ...], uid: int, gid: int) -> None:
    assert _libc is not None
    if _libc.unshare(sum(_CLONE[name] for name in names)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if "user" in names:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)


def _succeeds(action: Callable[[], object]) -> bool:
    """Whether the action ends without an OSError in a child process."""
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(OSError):
            action()
            code = 0
        os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def private_mounts() -> tuple[str | None, tuple[str, ...]]:
    """Make the file tree read-only and mount an empty scratch directory of bounded size.

    Returns:
        The scratch directory (None when it could not be mounted) and the layers' names. Needs a
        mount namespace of its own; /proc is replaced by one that shows this namespace alone.
    """
    if _libc is None or _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) != 0:
        return None, ()
    names = []
    if _libc.mount(b"proc", b"/proc", b"proc", _MS_NOSUID_NODEV_NOEXEC, None) == 0:
        names.append("own-proc")
    read_only = struct.pack("QQQQ", 1, 0, 0, 0)
    if _syscall(_SYS_MOUNT_SETATTR, -100, b"/", 0x8000, read_only, len(read_only)) == 0:
        names.append("read-only-root")
    inside = [os.path.realpath(path) for path in (sys.base_prefix, _stdlib())]
    for path in ("/tmp", "/var/tmp", "/dev/shm"):
        if os.path.isdir(path) and not any(p.startswith(path + "/") for p in inside):  # noqa: PTH112
            options = f"size={_SCRATCH_MB}m,mode=0777,nr_inodes=4096".encode()
            flags = _MS_NOSUID_NODEV_NOEXEC
            if _libc.mount(b"tmpfs", path.encode(), b"tmpfs", flags, options) == 0:
                return path, (*names, "own-scratch")
    return None, tuple(names)


def _stdlib() -> str:
    return sysconfig.get_path("stdlib")


def restrict_files(scratch: str) -> tuple[str, ...]:
    """Landlock: read only the interpreter and system libraries, write only ``scratch``."""
    abi = _syscall(_SYS_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        return ()
    num_rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)
    handled = (1 << num_rights) - 1
    network = 3 if abi >= 4 else 0
    scoped = 3 if abi >= 6 else 0
    attributes = struct.pack("QQQ", handled, network, scoped)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _syscall(_SYS_LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0:
        return ()
    read = 1 << 0 | 1 << 2 | 1 << 3
    rules = [(path, read) for path in (_stdlib(), sys.base_prefix + "/lib", *_SYSTEM)]
    rules += [("/proc", read), (scratch, handled), ("/dev/null", 1 << 1 | 1 << 2)]
    for path, rights in rules:
        _allow(ruleset, path, rights & handled)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    done = _syscall(_SYS_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return (f"landlock-{abi}",) if done else ()


_SYSTEM = (
    *("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"),
    *("/etc/localtime", "/dev/urandom", "/dev/random", "/dev/zero"),
)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):  # noqa: PTH112
        rights &= 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
    _syscall(_SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
    os.close(descriptor)


def drop_privileges() -> tuple[str, ...]:
    """Become nobody where nobody can read the interpreter; always lose all capabilities."""
    names = []
    # Modules are still imported from disk after the switch.
    if os.geteuid() == 0 and _succeeds(_read_as_nobody):
        _become_nobody()
        names.append("nobody")
    for capability in range(64):
        _prctl(_PR_CAPBSET_DROP, capability)
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if _libc is not None and _libc.capset(header, nothing) == 0:
        names.append("no-capabilities")
    if _prctl(_PR_SET_NO_NEW_PRIVS, 1) == 0:
        names.append("no-new-privileges")
    hide_memory()
    return tuple(names)


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)


def _read_as_nobody() -> None:
    _become_nobody()
    with open(os.__file__, "rb") as file:  # noqa: PTH123
        file.read(1)


# Number of each system call on (x86-64, aarch64); None where the machine lacks it.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "clone3": (435, 435),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
}
_DENIED: tuple[tuple[int | None, int | None], ...] = (
    (59, 221),  # execve
    (322, 281),  # execveat
    (41, 198),  # socket
    (101, 117),  # ptrace
    (310, 270),  # process_vm_readv
    (311, 271),  # process_vm_writev
    (424, 424),  # pidfd_send_signal
    (434, 434),  # pidfd_open
    (438, 438),  # pidfd_getfd
    (440, 440),  # process_madvise
    (165, 40),  # mount
    (166, 39),  # umount2
    (272, 97),  # unshare
    (308, 268),  # setns
    (161, 51),  # chroot
    (155, 41),  # pivot_root
    (428, 428),  # open_tree
    (429, 429),  # move_mount
    (430, 430),  # fsopen
    (442, 442),  # mount_setattr
    (321, 280),  # bpf
    (298, 241),  # perf_event_open
    (323, 282),  # userfaultfd
    (425, 425),  # io_uring_setup
    (248, 217),  # add_key
    (249, 218),  # request_key
    (250, 219),  # keyctl
    (319, 279),  # memfd_create
    (447, 447),  # memfd_secret
    (29, 194),  # shmget
    (64, 190),  # semget
    (68, 186),  # msgget
    (240, 180),  # mq_open
    (141, 140),  # setpriority
    (144, 119),  # sched_setscheduler
    (142, 118),  # sched_setparam
    (314, 274),  # sched_setattr
    (203, 122),  # sched_setaffinity
    (206, 0),  # io_setup
)
_ALLOW, _ERRNO, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
_CLONE_THREAD = 0x00010000


def _machine() -> int | None:
    return {"x86_64": 0, "aarch64": 1}.get(platform.machine()) if _libc is not None else None


def seccomp_filter(pid: int, children: bool) -> bytes | None:
    """Return the BPF program for one process; None on an unknown machine.

    Threads are allowed, processes only with ``children``; signals and limits reach the process
    itself alone; no sockets, no other programs, no tracing, no mounts, no shared memory.
    """
    column = _machine()
    if column is None:
        return None
    audit = (0xC000003E, 0xC00000B7)[column]
    code = [_bpf(0x20, k=4), _bpf(0x15, 1, 0, audit), _bpf(0x06, k=0x80000000), _bpf(0x20, k=0)]
    if column == 0:  # the x32 calls are the same calls under other numbers
        code += [_bpf(0x35, 0, 1, 0x40000000), _bpf(0x06, k=_ERRNO | _EPERM)]

    def number(name: str) -> int | None:
        return _CALLS[name][column]

    def deny(call: int | None, error: int) -> None:
        if call is not None:
            code.extend([_bpf(0x15, 0, 1, call), _bpf(0x06, k=_ERRNO | error)])

    for pair in _DENIED:
        deny(pair[column], _EPERM)
    if not children:
        deny(number("fork"), _EPERM)
        deny(number("vfork"), _EPERM)
        deny(number("clone3"), _ENOSYS)  # the C library falls back to clone
        clone = number("clone")
        assert clone is not None
        code += [_bpf(0x15, 0, 4, clone), _bpf(0x20, k=16), _bpf(0x45, 1, 0, _CLONE_THREAD)]
        code += [_bpf(0x06, k=_ERRNO | _EPERM), _bpf(0x06, k=_ALLOW)]
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "prlimit64"):
        call = number(name)
        assert call is not None
        targets = (pid, 0) if name == "prlimit64" else (pid,)
        tests = [_bpf(0x15, len(targets) - i, 0, who) for i, who in enumerate(targets)]
        block = [_bpf(0x20, k=16), *tests, _bpf(0x06, k=_ERRNO | _EPERM), _bpf(0x06, k=_ALLOW)]
        code += [_bpf(0x15, 0, len(block), call), *block]
    deny(number("tkill"), _EPERM)
    code.append(_bpf(0x06, k=_ALLOW))
    return b"".join(code)


def _bpf(code: int, jump_true: int = 0, jump_false: int = 0, k: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


def install_seccomp(program: bytes | None) -> bool:
    """Attach a filter to this process (and what it starts) for good."""
    if program is None:
        return False
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return _prctl(_PR_SET_SECCOMP, 2, header) == 0


def mapped_bytes() -> int:
    """Return this process's address space in bytes."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[0]) * resource.getpagesize()


def limit_resources(*, cpu_s: float, address_space: int, file_mb: int) -> None:
    """Set hard limits on this process; the CPU limit is the kernel's backstop, in whole seconds."""
    seconds = int(cpu_s) + 2
    for kind, value in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, file_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))
