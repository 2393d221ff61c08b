"""What programs that run at the same time share: they must not meet, nor learn of the machine."""

import ast
import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits, Outcome
from knexa.sandbox import inside, mounts
from tests.sandbox.conftest import make_problem
from tests.sandbox.test_hostile import ask, needs
from tests.sandbox.test_seccomp import DANGEROUS

# Two sides of meeting places: ``hold`` leaves a mark at each for a while, ``find`` looks for them.
MEETING = """
import ctypes, fcntl, mmap, os, socket, struct, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
FOLDER = os.path.dirname(os.__file__)
PATH = FOLDER + "/pydoc.py"
CALLS = {"x86_64": (202, 29, 31), "aarch64": (98, 194, 195)}[os.uname().machine]
LOCK = "hhqqi4x"
KEY = 0x6B6E6578

def mapped(flags, path=PATH):
    address = libc.mmap(None, ctypes.c_size_t(4096), 1, flags, os.open(path, os.O_RDONLY), 0)
    return ctypes.c_void_p(address)

def call(number, *arguments):
    done = libc.syscall(number, *arguments)
    if done < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return done

def futex_value(address):
    return ctypes.c_uint32.from_address(address.value).value

def wait(address, until):
    pause = struct.pack("qq", 0, 50_000_000)
    while time.monotonic() < until:
        if libc.syscall(CALLS[0], address, 0, futex_value(address), pause, None, 0):
            time.sleep(0.005)  # refused, or timed out

def hold(seconds):
    until = time.monotonic() + seconds
    kept = []
    def by_thread(flags):
        address = mapped(flags)
        kept.append(threading.Thread(target=wait, args=(address, until)))
        kept[-1].start()
    def named():
        kept.append(socket.socket(socket.AF_UNIX))
        kept[-1].bind("\\0knexa-mark")
        kept[-1].listen()
    for act in (
        lambda: fcntl.flock(os.open(PATH, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB),
        lambda: fcntl.flock(os.open("/dev/null", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB),
        lambda: fcntl.fcntl(os.open(PATH, os.O_RDONLY), fcntl.F_SETLK,
                            struct.pack(LOCK, fcntl.F_RDLCK, 0, 5, 1, 0)),
        lambda: fcntl.fcntl(os.open(PATH, os.O_RDONLY), 37,
                            struct.pack(LOCK, fcntl.F_RDLCK, 0, 7, 1, 0)),
        lambda: by_thread(mmap.MAP_SHARED),
        lambda: by_thread(mmap.MAP_PRIVATE),
        lambda: futex_value(mapped(mmap.MAP_PRIVATE, FOLDER + "/cgitb.py")),
        named,
        lambda: call(CALLS[1], KEY, ctypes.c_size_t(4096), 0o1666),
    ):
        try: act()
        except OSError: pass
    while time.monotonic() < until:
        with open(FOLDER + "/turtle.py") as file: file.read(1)
        time.sleep(0.005)
    try: libc.syscall(CALLS[2], libc.syscall(CALLS[1], KEY, 0, 0), 0, 0)
    except OSError: pass

def locked(command, start):
    answer = fcntl.fcntl(os.open(PATH, os.O_RDONLY), command,
                         struct.pack(LOCK, fcntl.F_WRLCK, 0, start, 1, 0))
    return struct.unpack(LOCK, answer)[0] != fcntl.F_UNLCK

def flocked(path, mode):
    file = os.open(path, mode)
    try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError: return True
    finally: os.close(file)

def woken(flags):
    return call(CALLS[0], mapped(flags), 1, 100, None, None, 0) > 0

def opened():
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if libc.inotify_add_watch(watch, FOLDER.encode(), 0x20) < 0: return False
    time.sleep(0.05)
    return b"turtle" in os.read(watch, 1 << 16)

def mapped_by_others():
    address = mapped(mmap.MAP_PRIVATE, FOLDER + "/cgitb.py")
    futex_value(address)
    with open("/proc/self/smaps") as file:
        entry = file.read().split(f"{address.value:x}-", 1)[1]
    return "Shared_Clean:          4 kB" in entry.split("VmFlags")[0]

def connected():
    socket.socket(socket.AF_UNIX).connect("\\0knexa-mark")
    return True

def find(seconds):
    until = time.monotonic() + seconds
    found = set()
    while time.monotonic() < until:
        for name, look in {
            "flock of a library": lambda: flocked(PATH, os.O_RDONLY),
            "flock of a device": lambda: flocked("/dev/null", os.O_RDWR),
            "lock of a library": lambda: locked(fcntl.F_GETLK, 5),
            "lock of an open file": lambda: locked(36, 7),
            "futex, shared": lambda: woken(mmap.MAP_SHARED),
            "futex, private": lambda: woken(mmap.MAP_PRIVATE),
            "watched folder": opened,
            "mapped by others": mapped_by_others,
            "abstract name": connected,
            "shared memory": lambda: call(CALLS[1], KEY, 0, 0) >= 0,
        }.items():
            try:
                if look(): found.add(name)
            except (OSError, ValueError, IndexError): pass
        time.sleep(0.02)
    return sorted(found)
"""
MEETING_PLACES = 10
LONG = Limits(cpu_s=3.0, wall_s=8.0, memory_mb=128)


def test_programs_that_run_at_the_same_time_do_not_meet() -> None:
    command = [sys.executable, "-c"]
    holder = subprocess.Popen([*command, MEETING + "hold(3)"])
    found = subprocess.run(
        [*command, MEETING + "print(find(1.5))"], capture_output=True, text=True, check=True
    )
    holder.wait()
    # The control: outside of a sandbox these programs do meet, nearly everywhere.
    assert len(ast.literal_eval(found.stdout)) >= MEETING_PLACES - 2, found.stdout
    problem = make_problem("raise ValueError(repr(candidate(1.5)))\n")
    holds, finds = (f"{MEETING}def solve(x):\n    return {act}(x)\n" for act in ("hold", "find"))
    with Executor(limits=LONG) as one, Executor(limits=LONG) as other:
        needs(one, "seccomp", "own-root", "network-namespace", "ipc-namespace")
        one.begin(make_problem("candidate(4)\n"), holds)
        (seen,) = other.run([(problem, finds)])
        (held,) = one.run([(make_problem("candidate(4)\n"), holds)])
    assert (held.outcome, held.wall_s > 3) == (Outcome.PASSED, True)  # it held all the while
    assert (seen.outcome, seen.detail) == (Outcome.FAILED, "ValueError: []")


def test_lock_of_a_program_blocks_no_process_outside(executor: Executor) -> None:
    needs(executor, "seccomp")
    body = (
        "    import fcntl\n    held = []\n"
        "    for path in (os.__file__, '/dev/null', '/dev/zero', sys.executable):\n"
        "        for mode in (os.O_RDONLY, os.O_RDWR):\n"
        "            for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):\n"
        "                for act in (fcntl.flock, fcntl.lockf):\n"
        "                    try: held.append(act(os.open(path, mode), kind | fcntl.LOCK_NB))\n"
        "                    except OSError: pass\n    return held\n"
    )
    assert ask(executor, body) == "ValueError: []"


def test_kernel_refuses_the_calls_through_which_programs_meet(executor: Executor) -> None:
    needs(executor, "seccomp")
    column = ["x86_64", "aarch64"].index(os.uname().machine)
    numbers = {name: both[column] for name, both in DANGEROUS.items()}
    body = (
        "    import ctypes\n    call = ctypes.CDLL(None, use_errno=True).syscall\n    done = []\n"
        f"    for name, number in {numbers!r}.items():\n"
        "        ctypes.set_errno(0)\n"
        "        if call(number, -1, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() not in (1, 38):\n"
        "            done.append(name)\n    return done\n"
    )
    assert ask(executor, body) == "ValueError: []"


# Each is an expression that should fail in the sandbox.
FACTS = {
    "its server's clock": "time.clock_gettime((~1 << 3) | 2)",
    "its parent's clock": "time.clock_gettime((~os.getppid() << 3) | 2)",
    "a wait on its server's clock": "libc_call(libc.clock_nanosleep((~1 << 3) | 2, 0, bytes(16)))",
    "free memory and load": "libc_call(libc.sysinfo(bytes(512)))",
    "free disk of a library's file system": "os.statvfs(os.__file__)",
    "its faults": "resource.getrusage(resource.RUSAGE_SELF)",
    "the page cache": "libc_call(libc.posix_fadvise(os.open(os.__file__, 0), 0, 0, 4))",
    "load averages": "os.getloadavg()",
    "the list of mounts": "open('/proc/self/mountinfo')",
    "its own maps": "open('/proc/self/smaps')",
    "the machine's memory": "open('/proc/meminfo')",
    "the machine's processors": "open('/sys/devices/system/cpu/online')",
}


@pytest.mark.parametrize("name", FACTS)
def test_program_does_not_learn(executor: Executor, name: str) -> None:
    needs(executor, "seccomp", "own-root")
    body = (
        "    import ctypes, resource, time\n    libc = ctypes.CDLL(None)\n"
        "    def libc_call(done):\n        if done: raise OSError(done)\n"
        f"    try: return {FACTS[name]}\n"
        "    except (OSError, ZeroDivisionError): return 'refused'\n"
    )
    assert ask(executor, body) == "ValueError: 'refused'"


def test_limits_of_a_program_follow_from_no_figure_of_the_machine(executor: Executor) -> None:
    needs(executor, "resource-limits")
    names = ("SIGPENDING", "MSGQUEUE", "MEMLOCK")  # by default some part of its memory
    expressions = ", ".join(f"resource.getrlimit(resource.RLIMIT_{name})[1]" for name in names)
    body = f"    import resource\n    return [{expressions}]\n"
    assert ask(executor, body) == "ValueError: [256, 0, 0]"


# What a program finds in its memory is what its server had in its own.
STATE = """
import ctypes, gc, sys
def solve(x):
    counts = [each["collections"] for each in gc.get_stats()], gc.get_count()
    table = {}
    tags = [ctypes.c_uint64.from_address(id(table) + 8 * word).value for word in (2, 3)]
    place = os.getcwd(), os.stat(".").st_ino, os.stat("..").st_atime_ns, os.listdir("..")
    return [counts, tags, sys.getallocatedblocks(), place]
import os
"""


def test_program_does_not_find_how_many_were_before_it(executor: Executor) -> None:
    needs(executor, "own-scratch")
    problem = make_problem("raise ValueError(repr(candidate(0)))\n")
    burn = "    while time.process_time() < 0.1: pass\n"
    others = ("    os._exit(3)\n", "    raise OSError\n", burn, "    return 'x' * 90_000\n")
    others = tuple(f"def solve(x):\n{body}import os, time\n" for body in others)
    programs = [STATE + "# 0", others[0], STATE + "# 1", *others[1:], STATE + "# 2"]
    with Executor(limits=executor.limits) as fresh:
        results = fresh.run([(problem, program) for program in programs])
    states = {each.detail for each, text in zip(results, programs, strict=True) if "tags" in text}
    assert len(states) == 1, states


def test_numbers_of_a_new_server_s_processes_start_anywhere() -> None:
    numbers = []
    for _ in range(3):
        with Executor() as executor:
            needs(executor, "pid-namespace", "own-root")
            numbers.append(int(ask(executor, "    return os.getpid()\n").split()[1]))
    assert max(numbers) - min(numbers) > 100, numbers


def test_program_does_not_learn_of_groups_and_processes_of_the_machine(executor: Executor) -> None:
    # Its memory, page by page, through a pipe: an address that is not mapped is an error there.
    needs(executor, "pid-namespace")
    search = """
import ctypes, gc, os, re
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
def solve(x):
    heap = libc.sbrk(0)
    pages = set(range((heap - (8 << 20)) >> 12, heap >> 12))
    for arena in {id(each) >> 20 for each in gc.get_objects()}:
        pages |= set(range(arena << 8, (arena + 1) << 8))
    ours, theirs = os.pipe()
    found = set()
    for page in pages:
        size = libc.write(theirs, ctypes.c_void_p(page << 12), ctypes.c_size_t(4096))
        if size > 0:
            found |= set(re.findall(rb"sys/fs/c[g]roup/\\w+", os.read(ours, size)))
    return sorted(found)
"""
    problem = make_problem("raise ValueError(repr(candidate(0)))\n")
    (result,) = executor.run([(problem, search)])
    assert result.detail == "ValueError: []"


def test_threads_share_the_descriptors_that_are_counted(executor: Executor) -> None:
    needs(executor, "seccomp", "resource-limits")
    body = (
        "    import ctypes, socket, threading\n    libc = ctypes.CDLL(None)\n    held = []\n"
        "    def fill():\n        libc.close_range(3, 63, 2)\n"
        "        try:\n            while True: held.append(socket.socketpair())\n"
        "        except OSError: pass\n"
        "    for _ in range(4):\n        thread = threading.Thread(target=fill)\n"
        "        thread.start(); thread.join()\n    return len(held) < 32\n"
    )
    assert ask(executor, body) == "ValueError: True"


@pytest.mark.parametrize("ignored", ["", "    signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"])
def test_cpu_time_of_all_processes_counts(double: Problem, ignored: str) -> None:
    body = (
        f"    import os, signal, time\n    try:\n    {ignored or '    pass' + chr(10)}"
        "    except OSError: pass\n    pid = os.fork()\n    if pid == 0:\n"
        "        while time.process_time() < 0.6: pass\n        os._exit(0)\n"
        "    try: os.waitpid(pid, 0)\n    except OSError: pass\n    return x * 2\n"
    )
    with Executor(limits=Limits(cpu_s=0.4, wall_s=4.0, memory_mb=64, processes=4)) as executor:
        needs(executor, "pid-namespace", "seccomp")
        (result,) = executor.run([(double, body)])
    assert (result.outcome, result.detail) == (Outcome.TIMEOUT, "cpu limit of 0.4 s")


def test_program_does_not_learn_the_machine_s_name(executor: Executor) -> None:
    needs(executor, "uts-namespace")
    body = "    import socket, platform\n    return [socket.gethostname(), platform.node()]\n"
    assert socket.gethostname() != "sandbox"
    assert ask(executor, body) == "ValueError: ['sandbox', 'sandbox']"


def test_program_finds_no_installed_package(executor: Executor) -> None:
    needs(executor, "own-root")
    prefixes = {sys.base_prefix, "/usr", "/usr/local"}
    folders = {sysconfig.get_path("purelib", vars={"base": prefix}) for prefix in prefixes}
    folders |= {"/usr/lib/python3/dist-packages", sysconfig.get_path("purelib")}
    present = [folder for folder in folders if Path(folder).is_dir() and [*Path(folder).iterdir()]]
    assert present  # there is something to hide
    body = (
        "    import glob\n    bundled = os.path.dirname(os.__file__) + '/ensurepip/_bundled'\n"
        "    sys.path += glob.glob(bundled + '/*')\n"
        f"    found = []\n    for folder in {sorted(folders)!r}:\n"
        "        try: found += os.listdir(folder)\n        except OSError: pass\n"
        "        sys.path.append(folder)\n"
        "    for name in ('knexa', 'pip', 'setuptools', 'numpy', 'hydra'):\n"
        "        try: found.append(__import__(name))\n        except ImportError: pass\n"
        "    return found\n"
    )
    assert ask(executor, body) == "ValueError: []"


def test_look_from_inside_finds_what_is_there(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(executor, "own-root", "uts-namespace")
    assert inside.look(executor) == ""
    monkeypatch.setattr(socket, "gethostname", lambda: "sandbox")
    monkeypatch.setattr(inside, "__file__", os.__file__)
    assert inside.look(executor) == f"{os.__file__}; this machine's name"


def test_packages_are_found_at_any_depth_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "lib"
    for name in ("python3/dist-packages/knexa", "deep/er/lib/python3/site-packages", "python3/os"):
        (library / name).mkdir(parents=True)
    monkeypatch.setattr(mounts, "readable", lambda: (str(library),))
    mounts.package_folders.cache_clear()
    try:
        hidden, entries = mounts.package_folders(), dict(mounts.readable_entries())
    finally:
        mounts.package_folders.cache_clear()
    packages = {"python3/dist-packages", "deep/er/lib/python3/site-packages"}
    assert set(hidden) == {f"{library}/{name}" for name in packages}
    assert not set(hidden) & set(entries)
    assert [path for path, is_whole in entries.items() if is_whole] == [f"{library}/python3/os"]
