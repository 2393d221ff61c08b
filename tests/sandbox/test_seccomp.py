"""The system call filter, walked by an interpreter of BPF that is not the kernel's."""

import errno
import struct

import pytest

from knexa.sandbox import kernel, seccomp

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
PID = 4321
ARCHITECTURES = {0: 0xC000003E, 1: 0xC00000B7}
# Numbers on x86-64 and aarch64 of calls through which programs could meet or learn of others.
DANGEROUS = {
    "flock": (73, 32),
    "inotify_init1": (294, 26),
    "inotify_add_watch": (254, 27),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "membarrier": (324, 283),
    "perf_event_open": (298, 241),
    "mq_open": (240, 180),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "sendmmsg": (307, 269),
    "vmsplice": (278, 75),
    "splice": (275, 76),
    "tee": (276, 77),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "mincore": (27, 232),
    "fadvise64": (221, 223),
    "readahead": (187, 213),
    "preadv2": (327, 286),
    "cachestat": (451, 451),
    "move_pages": (279, 239),
    "kcmp": (312, 272),
    "sysinfo": (99, 179),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "getrusage": (98, 165),
    "name_to_handle_at": (303, 264),
    "futex_waitv": (449, 449),
    "futex_wake": (454, 454),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "socket": (41, 198),
    "getsockopt": (55, 209),
    "setsockopt": (54, 208),
    "bind": (49, 200),
    "execve": (59, 221),
    "ptrace": (101, 117),
    "pidfd_open": (434, 434),
    "memfd_create": (319, 279),
    "mlock": (149, 228),
    "mount": (165, 40),
    "unshare": (272, 97),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "userfaultfd": (323, 282),
    "timer_create": (222, 107),
    "set_tid_address": (218, 96),
    "sched_setaffinity": (203, 122),
    "setpriority": (141, 140),
    "mbind": (237, 235),
    "personality": (135, 92),
    "clone3": (435, 435),
}
# Pairs of a call, with arguments, and whether it is allowed.
ARGUED: list[tuple[tuple[int, int], tuple[int, ...], bool]] = [
    ((202, 98), (0, 128), True),  # futex, private: wait, wake, requeue
    ((202, 98), (0, 129), True),
    ((202, 98), (0, 0), False),
    ((202, 98), (0, 1), False),
    ((202, 98), (0, 9 | 256), False),
    ((228, 113), (1,), True),  # clock_gettime: monotonic, a process's, a device's
    ((228, 113), ((~1 << 3 | 2) & 0xFFFFFFFF,), False),
    ((228, 113), (16,), False),
    ((230, 115), ((~1 << 3 | 2) & 0xFFFFFFFF,), False),
    ((72, 25), (0, 1030), True),  # fcntl: duplicate; the locks; the leases
    *(((72, 25), (0, number), False) for number in (5, 6, 7, 36, 37, 38, 1024, 1026, 1031)),
    ((16, 29), (0, 0x5413), True),
    ((16, 29), (0, 0x8901), False),
    ((62, 129), (PID, 9), True),
    ((62, 129), (1, 9), False),
    ((62, 129), (0xFFFFFFFF, 9), False),
    ((28, 233), (0, 0, 4), True),  # madvise: give back; page out, read in, merge
    *(((28, 233), (0, 0, number), False) for number in (3, 9, 12, 20, 21, 22)),
    ((53, 199), (1,), True),  # socketpair: UNIX, TIPC
    ((53, 199), (30,), False),
    ((157, 167), (15,), True),
    ((157, 167), (22,), False),
    ((302, 261), (0,), True),
    ((302, 261), (1,), False),
    ((204, 123), (1,), False),
    ((56, 220), (0x003D0F00,), True),  # clone: a thread; a process; namespaces
    ((56, 220), (0x11,), False),
    ((56, 220), (0x10010F00,), False),
    ((56, 220), (0x003D1F00,), False),  # a descriptor of a thread; descriptors of its own
    ((56, 220), (0x003D0B00,), False),
    ((436, 436), (60, 63, 0), True),  # close_range: at once, on exec, in a table of its own
    ((436, 436), (60, 63, 4), True),
    ((436, 436), (60, 63, 2), False),
    ((9, 222), (0, 4096, 3, 0x22), True),  # mmap: its own; the machine's huge pages
    ((9, 222), (0, 1 << 21, 3, 0x40022), False),
    ((257, 56), (0, 0, 0o101), True),  # openat: a new file; one without a name
    ((257, 56), (0, 0, 0o20200002), False),
    ((28, 233), (0, 0, 8), False),  # madvise: give back when the machine's memory is short
    ((13, 134), (15,), True),  # rt_sigaction
]


def run(code: bytes, architecture: int, number: int, arguments: tuple[int, ...]) -> int:
    """Walk a filter as the kernel would, over its data of one system call."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, architecture, 0, *values)
    at, held = 0, 0
    while True:
        operation, if_true, if_false, k = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        if operation == 0x06:
            return int(k)
        if operation == 0x20:
            (held,) = struct.unpack_from("<I", data, k)
            continue
        met = {0x15: held == k, 0x35: held >= k, 0x45: bool(held & k)}[operation]
        at += if_true if met else if_false


@pytest.fixture(params=[0, 1], ids=["x86-64", "aarch64"])
def column(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(kernel, "MACHINE", request.param)
    return int(request.param)


@pytest.mark.parametrize("children", [False, True])
def test_filter_refuses_every_call_through_which_programs_meet(column: int, children: bool) -> None:
    code = seccomp.assemble(PID, children)
    passed = [
        name
        for name, numbers in DANGEROUS.items()
        if run(code, ARCHITECTURES[column], numbers[column], ()) == ALLOW
    ]
    assert not passed


@pytest.mark.parametrize("children", [False, True])
def test_filter_decides_by_arguments(column: int, children: bool) -> None:
    code = seccomp.assemble(PID, children)
    for numbers, arguments, is_allowed in ARGUED:
        if children and arguments == (0x11,):
            is_allowed = True
        got = run(code, ARCHITECTURES[column], numbers[column], arguments)
        assert (got == ALLOW) == is_allowed, (numbers[column], arguments, hex(got))


def test_filter_knows_each_number_and_no_other(column: int) -> None:
    code = seccomp.assemble(PID, children=False)
    architecture = ARCHITECTURES[column]
    allowed = {n for n in range(2000) if run(code, architecture, n, ()) == ALLOW}
    listed = set(seccomp._numbers(seccomp._ALLOWED).values())
    by_argument = set(seccomp._numbers(seccomp._CHECKED).values())
    assert listed <= allowed <= listed | by_argument
    assert 80 < len(listed) < 130
    for number in {*range(2000), 0x40000000, 0x40000001, 0xFFFFFFFF} - listed - by_argument:
        answer = run(code, architecture, number, ())
        assert answer & 0xFFFF0000 == ERRNO, number
        assert answer & 0xFFFF in (0, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP), number


def test_filter_ends_a_program_of_another_architecture(column: int) -> None:
    code = seccomp.assemble(PID, children=False)
    assert run(code, ARCHITECTURES[1 - column], 0, ()) == KILL


def test_process_is_waited_for_where_processes_are_allowed(column: int) -> None:
    answers = [
        run(seccomp.assemble(PID, children), ARCHITECTURES[column], (13, 134)[column], (17,))
        for children in (False, True)
    ]
    assert [answer == ALLOW for answer in answers] == [True, False]
