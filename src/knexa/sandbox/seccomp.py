"""The system call filter around a program: assembles the BPF code and attaches it."""

import ctypes
import errno
import os
import struct

from . import kernel

# Number of each system call on (x86-64, aarch64); None if the machine lacks it.
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
    "fcntl": (72, 25),
    "ioctl": (16, 29),
}
# Allowed commands on descriptors: duplicate, inherit, block, lock (fcntl); query a terminal,
# inherit, block, count (ioctl). Others can signal any process or change state that programs share.
_COMMANDS: dict[str, tuple[int, ...]] = {
    "fcntl": (*range(8), 1030),
    "ioctl": (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451),
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
    (251, 30),  # ioprio_set
    (144, 119),  # sched_setscheduler
    (142, 118),  # sched_setparam
    (314, 274),  # sched_setattr
    (203, 122),  # sched_setaffinity
    (206, 0),  # io_setup
)
_PR_SET_SECCOMP = 22
_PID_MARK = 0x7EADBEE5
_ALLOW, _ERRNO, _EPERM, _ENOSYS = 0x7FFF0000, 0x00050000, 1, 38
_CLONE_THREAD = 0x00010000


def assemble(pid: int, children: bool) -> bytes:
    """Return the BPF program for one process; empty on an unknown machine.

    Allowed are threads, processes if ``children``, signals to and limits of the process itself, and
    harmless commands on descriptors. Sockets, exec, tracing, mounts and shared memory are denied.
    """
    column = kernel.MACHINE
    if column is None:
        return b""
    audit = (0xC000003E, 0xC00000B7)[column]
    code = [_bpf(0x20, k=4), _bpf(0x15, 1, 0, audit), _bpf(0x06, k=0x80000000), _bpf(0x20, k=0)]
    if column == 0:  # x32 has the same calls under other numbers
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
        code += _only(number(name), 0, (pid, 0) if name == "prlimit64" else (pid,))
    for name, commands in _COMMANDS.items():
        code += _only(number(name), 1, commands)
    deny(number("tkill"), _EPERM)
    code.append(_bpf(0x06, k=_ALLOW))
    return b"".join(code)


def _only(call: int | None, index: int, values: tuple[int, ...]) -> list[bytes]:
    """Return the instructions that allow a call only with these values of one argument."""
    assert call is not None
    tests = [_bpf(0x15, len(values) - i, 0, value) for i, value in enumerate(values)]
    load = _bpf(0x20, k=16 + 8 * index)
    block = [load, *tests, _bpf(0x06, k=_ERRNO | _EPERM), _bpf(0x06, k=_ALLOW)]
    return [_bpf(0x15, 0, len(block), call), *block]


def _bpf(code: int, jump_true: int = 0, jump_false: int = 0, k: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k)


class Filter:
    """A filter that a process can attach with a single call.

    It is prepared in memory before the fork, because every page touched after it is copied, and
    these copies are most of the cost of a small program.
    """

    def __init__(self, *, children: bool) -> None:
        """``children`` allows the program to start processes."""
        code = assemble(_PID_MARK, children)
        mark = struct.pack("=I", _PID_MARK)
        self._places = [at + 4 for at in range(0, len(code), 8) if code[at + 4 : at + 8] == mark]
        self._code = ctypes.create_string_buffer(code, len(code))
        header = struct.pack("@HP", len(code) // 8, ctypes.addressof(self._code))
        self._header = ctypes.create_string_buffer(header, len(header))
        self._address = ctypes.c_void_p(ctypes.addressof(self._header))
        self._call = kernel.libc.prctl if kernel.libc is not None and code else None
        self._arguments = (
            *(ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(2), self._address),
            *(ctypes.c_ulong(0), ctypes.c_ulong(0)),
        )

    def attach(self) -> None:
        """Attach the filter irrevocably to this process; needs ``no-new-privileges``.

        Raises:
            OSError: The kernel rejects it, or there is none for this machine.
        """
        if self._call is None:
            raise OSError(errno.ENOSYS, "no filter for this machine")
        pid = os.getpid()
        for place in self._places:
            struct.pack_into("=I", self._code, place, pid)
        kernel.check(self._call(*self._arguments), "prctl")
