"""The system call filter around a program: a list of what is allowed, assembled to BPF.

What Python and its library need to compute, to keep files in the scratch folder and to run threads
is allowed, and nothing else. So no call reaches what programs share beside time: the locks, leases,
watches, attributes, futexes and page cache of a library file that others read too, other processes'
clocks, the machine's figures, and memory that no limit counts (splice, Landlock rules).
"""

import ctypes
import errno
import os
import re
import struct
from collections.abc import Sequence

from . import kernel

# Name, number on x86-64, number on aarch64; "-" if the machine lacks it.
_ALLOWED = """
    brk 12 214, mremap 25 216, munmap 11 215, mprotect 10 226, msync 26 227
    read 0 63, pread64 17 67, readv 19 65, preadv 295 69, write 1 64, pwrite64 18 68,
    writev 20 66, pwritev 296 70, creat 85 -, close 3 57, lseek 8 62, stat 4 -, fstat 5 80,
    lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48,
    faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents 78 -, getdents64 217 61,
    getcwd 79 17, chdir 80 49, fchdir 81 50, ftruncate 77 46, truncate 76 45, mkdir 83 -,
    mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
    renameat2 316 276, link 86 -,
    linkat 265 37, symlink 88 -, symlinkat 266 36, chmod 90 -, fchmod 91 52, fchmodat 268 53,
    utimensat 280 88, utime 132 -, utimes 235 -, futimesat 261 -, umask 95 166
    dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59, eventfd2 290 19, poll 7 -,
    ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20,
    epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, sendto 44 206,
    recvfrom 45 207, shutdown 48 210, getsockname 51 204
    gettimeofday 96 169, time 201 -, nanosleep 35 101, times 100 153, getitimer 36 102,
    setitimer 38 103, alarm 37 -
    exit 60 93, exit_group 231 94, set_robust_list 273 99, rseq 334 293, sched_yield 24 124,
    gettid 186 178, rt_sigprocmask 14 135, rt_sigreturn 15 139,
    rt_sigpending 127 136, rt_sigsuspend 130 133, rt_sigtimedwait 128 137, sigaltstack 131 132,
    pause 34 -, restart_syscall 219 128, wait4 61 260, waitid 247 95
    getpid 39 172, getppid 110 173, getuid 102 174, geteuid 107 175, getgid 104 176,
    getegid 108 177, getgroups 115 158, getresuid 118 148, getresgid 120 150, getpgrp 111 -,
    getpgid 121 155, getsid 124 156, getrlimit 97 163, uname 63 160, getrandom 318 278
"""
_CHECKED = """
    clone 56 220, fork 57 -, vfork 58 -, kill 62 129, tgkill 234 131, prlimit64 302 261,
    sched_getaffinity 204 123, fcntl 72 25, ioctl 16 29, futex 202 98, clock_gettime 228 113,
    clock_getres 229 114, clock_nanosleep 230 115, madvise 28 233, prctl 157 167,
    socketpair 53 199, rt_sigaction 13 134, mmap 9 222, open 2 -, openat 257 56, close_range 436 436
"""
# Answered with success: there is no disk behind the scratch folder.
_NOTHING_TO_DO = """
    fsync 74 82, fdatasync 75 83, sync 162 81, syncfs 306 267
"""
# Answered as by a file system without them, which copying a file expects.
_ATTRIBUTES = """
    getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11, llistxattr 195 12,
    flistxattr 196 13, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7
"""


def _numbers(table: str) -> dict[str, int]:
    """Return this machine's call numbers by name."""
    column = kernel.MACHINE or 0
    rows = re.findall(r"(\w+) (\d+|-) (\d+|-)", table)
    return {name: int(n[column]) for name, *n in rows if n[column] != "-"}


# Of the commands on descriptors: duplicate, inherit, block (fcntl); query a terminal, inherit,
# count, block (ioctl). Others signal any process or change what programs share.
_FCNTL = (0, 1, 2, 3, 4, 1030)
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
_MADVISE = (0, 4, 14, 15)  # none, give back now (not when memory is short), huge pages or not
_PRCTL = (15, 16)  # a thread's name
_CLOCKS = range(12)  # others are the clocks of processes and devices
_AF_UNIX = 1
_FUTEX_PRIVATE = 128  # others are found by the file that their memory maps
_CLONE_THREAD, _CLONE_FILES = 0x00010000, 0x00000400
_CLONE_APART = 0x7E020000 | 0x8000 | 0x1000  # namespaces, a sibling, or a descriptor of the child
_CLOSE_RANGE = (0, 4)  # at once or on exec; not in a table of the thread's own
_MAP_HUGETLB = 0x00040000  # pages of a store that the whole machine shares
_SIGCHLD = 17
_O_TMPFILE = 0x00400000  # takes a file number without leaving a trace in the folder
_NEW_CALLS = 424  # from this number on the C library does without a call that is absent
_PR_SET_SECCOMP = 22
_PID_MARK = 0x7EADBEE5
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def assemble(pid: int, children: bool) -> bytes:
    """Return the BPF program for one process; empty on an unknown machine.

    Processes are allowed if ``children``, threads always; signals to, limits and cores of the
    process itself only.
    """
    column = kernel.MACHINE
    if column is None:
        return b""
    actions = {key: [_bpf(_RETURN, k=_ALLOW)] for key in _numbers(_ALLOWED).values()}
    for table, error in ((_NOTHING_TO_DO, 0), (_ATTRIBUTES, errno.EOPNOTSUPP)):
        actions |= {key: [_refuse(error)] for key in _numbers(table).values()}
    actions |= _checks(pid, children)
    code = [
        _bpf(_LOAD, k=4),
        _bpf(_EQUAL, 1, 0, (0xC000003E, 0xC00000B7)[column]),
        _bpf(_RETURN, k=_KILL),
        _bpf(_LOAD, k=0),
    ]
    return b"".join(code + _search(_ranges(actions)))


def _ranges(actions: dict[int, list[bytes]]) -> list[tuple[int, list[bytes]]]:
    """Return (first number, instructions) of ranges of calls; the last has no end."""
    ranges = [(0, [_refuse(errno.EPERM)])]
    for number in sorted({n + more for n in (*actions, _NEW_CALLS - 1) for more in (0, 1)}):
        error = errno.ENOSYS if number >= _NEW_CALLS else errno.EPERM
        action = actions.get(number, [_refuse(error)])
        if action != ranges[-1][1]:
            ranges.append((number, action))
    return ranges


def _search(ranges: Sequence[tuple[int, list[bytes]]]) -> list[bytes]:
    """Return the instructions that find a number's range by halves.

    The kernel walks the filter for every number when it is attached, which is most of its cost.
    """
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return [_bpf(_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *above]


def _checks(pid: int, children: bool) -> dict[int, list[bytes]]:
    """Return, by call number, the instructions that decide by an argument."""
    no, yes = _refuse(errno.EPERM), _bpf(_RETURN, k=_ALLOW)
    own = _only(0, (pid,))
    process = [yes] if children else [no]
    checks = {
        "clone": [
            _argument(0),
            *(_bpf(_ANY_BIT, 0, 1, _CLONE_APART), no),
            *(_bpf(_ANY_BIT, 1, 0, _CLONE_THREAD), *process),
            # A thread with descriptors of its own would have as many again as its process.
            *(_bpf(_ANY_BIT, 1, 0, _CLONE_FILES), no, yes),
        ],
        "fork": process,
        "vfork": process,
        "kill": own,
        "tgkill": own,
        "prlimit64": _only(0, (pid, 0)),
        "sched_getaffinity": _only(0, (pid, 0)),
        "fcntl": _only(1, _FCNTL),
        "ioctl": _only(1, _IOCTL),
        # Not EPERM: the C library ends the process over it. It asks again until the thread that it
        # waits for is gone.
        "futex": [_argument(1), *_any(_ANY_BIT, (_FUTEX_PRIVATE,), [_refuse(errno.EAGAIN)])],
        "clock_gettime": _only(0, _CLOCKS),
        "clock_getres": _only(0, _CLOCKS),
        "clock_nanosleep": _only(0, _CLOCKS),
        "madvise": _only(2, _MADVISE, errno.EINVAL),
        "prctl": _only(0, _PRCTL),
        "socketpair": _only(0, (_AF_UNIX,)),
        # Processes whose end nobody waits for would take time that is not counted.
        "rt_sigaction": [_argument(0), _bpf(_EQUAL, 0, 1, _SIGCHLD), no if children else yes, yes],
        "close_range": _only(2, _CLOSE_RANGE),
        "mmap": _without(3, _MAP_HUGETLB, errno.ENOMEM),
        "open": _without(1, _O_TMPFILE, errno.EOPNOTSUPP),
        "openat": _without(2, _O_TMPFILE, errno.EOPNOTSUPP),
    }
    numbers = _numbers(_CHECKED)
    return {numbers[name]: check for name, check in checks.items() if name in numbers}


def _only(index: int, values: Sequence[int], error: int = errno.EPERM) -> list[bytes]:
    """Return the instructions that allow a call only with these values of one argument."""
    return [_argument(index), *_any(_EQUAL, values, [_refuse(error)])]


def _without(index: int, bit: int, error: int) -> list[bytes]:
    """Return the instructions that allow a call only without a bit of one argument."""
    return [
        _argument(index),
        *(_bpf(_ANY_BIT, 0, 1, bit), _refuse(error), _bpf(_RETURN, k=_ALLOW)),
    ]


def _any(test: int, values: Sequence[int], otherwise: list[bytes]) -> list[bytes]:
    """Return the instructions that allow what passes the test with any value."""
    beyond = len(values) + len(otherwise) - 1
    tests = [_bpf(test, beyond - i, 0, value) for i, value in enumerate(values)]
    return [*tests, *otherwise, _bpf(_RETURN, k=_ALLOW)]


def _argument(index: int) -> bytes:
    return _bpf(_LOAD, k=16 + 8 * index)


def _refuse(error: int) -> bytes:
    return _bpf(_RETURN, k=_ERRNO | error)


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
