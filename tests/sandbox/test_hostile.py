"""Programs that cheat or attack: none passes, none outlives its limits, none changes a thing."""

import ast
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Limits, Outcome
from knexa.sandbox.protection import LAYERS, missing
from knexa.sandbox.verifier import Verifier
from tests.sandbox.conftest import QUICK, make_problem
from tests.sandbox.hostile_programs import HOSTILE, MARK, MARKING, forge

RIGHT = "    return x * 2\n"
WRITING = f"    with open('own', 'w') as file: file.write('x' * 5000)\n{RIGHT}"
HOME = Path.home()


def needs(executor: Executor, *layers: str) -> None:
    """Skip where a layer is not in force, as ``knexa doctor`` shows it."""
    lacking = {layer.name for layer in missing(executor.layers)} & set(layers)
    assert set(layers) <= {layer.name for layer in LAYERS}
    if lacking:
        pytest.skip(f"not in force on this machine: {', '.join(sorted(lacking))}")


@pytest.fixture(scope="module")
def witness() -> Iterator[Path]:
    """A folder outside every sandbox that its permissions would let anybody change."""
    with tempfile.TemporaryDirectory(prefix="witness-") as name:
        folder = Path(name)
        (folder / "folder").mkdir()
        for path in (folder / "kept", folder / "folder" / "deep"):
            path.write_text("kept")
            path.chmod(0o666)
        for path in (folder, folder / "folder"):
            path.chmod(0o777)
        yield folder


def digest(folder: Path) -> str:
    """Return a hash of all names, contents, modes, owners, links and times below a folder."""
    marks = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        what = (status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, content)
        marks.append((str(path), what))
    return hashlib.sha256(repr(marks).encode()).hexdigest()


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(pid: int) -> int:
    """Return how many processes a process has below it."""
    with contextlib.suppress(FileNotFoundError):  # it has ended
        return sum(1 + descendants(child) for child in children(pid))
    return 0


def wait_until_idle(executor: Executor) -> None:
    """Wait until the one server is without a program; a replaced one takes a moment to go."""
    (verifier,) = executor._verifiers
    until = time.monotonic() + 1
    while descendants(verifier.process.pid) > 3:  # the server's outer process, watcher, zygote
        assert time.monotonic() < until


def servers(verifier: int) -> list[int]:
    """Return the confined half of a verifier's sandbox server."""
    return [inner for outer in children(verifier) for inner in children(outer)]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_does_not_pass_and_leaves_nothing(
    executor: Executor,
    double: Problem,
    witness: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    program = HOSTILE[name].replace("WITNESS", str(witness)).replace("HOME", str(HOME))
    if "WITNESS" in HOSTILE[name]:
        needs(executor, "own-root", "landlock")
    before, home = digest(witness), set(HOME.iterdir())
    # A second try, which an honest program gets where the sandbox failed, would hide what it did.
    monkeypatch.setattr("knexa.sandbox.executor._undecided", lambda reply: False)
    results = executor.run([(double, program), (double, f"{WRITING}# after {name}\n")])
    assert results[0].outcome not in (Outcome.PASSED, Outcome.INFRASTRUCTURE_ERROR), results[0]
    assert results[1].outcome is Outcome.PASSED, results[1]
    assert results[0].cpu_s <= QUICK.cpu_s + 1
    assert results[0].wall_s <= QUICK.wall_s + 1
    assert digest(witness) == before
    assert home <= set(HOME.iterdir())
    assert not (HOME / "knexa-hostile").exists()
    wait_until_idle(executor)


@pytest.mark.parametrize("name", MARKING)
def test_hostile_program_finds_nothing_that_one_before_it_left(
    executor: Executor, double: Problem, name: str
) -> None:
    needs(executor, "seccomp")
    program = MARK.format(body=MARKING[name])
    results = executor.run([(double, f"{program}# try {i}\n") for i in range(3)])
    assert [each.outcome for each in results] == [Outcome.FAILED] * 3


def test_suite_is_large_and_reaches_outside() -> None:
    assert len(HOSTILE) >= 40
    assert sum("WITNESS" in program for program in HOSTILE.values()) >= 10


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("endless loop", Outcome.TIMEOUT),
        ("endless loop at import", Outcome.TIMEOUT),
        ("endless loop in C", Outcome.TIMEOUT),
        ("endless regex", Outcome.TIMEOUT),
        ("swallowing loop", Outcome.TIMEOUT),
        ("source with 20,000 keywords", Outcome.TIMEOUT),
        ("forged deque of a range", Outcome.FAILED),
        ("forged dict of ranges", Outcome.FAILED),
        ("forged items of ranges", Outcome.FAILED),
        ("fraction in huge parts", Outcome.FAILED),
        ("memory flood", Outcome.OUT_OF_MEMORY),
        ("answer flood", Outcome.FAILED),
        ("hard exit", Outcome.CRASHED),
        ("exit", Outcome.CRASHED),
        ("always equal", Outcome.FAILED),
    ],
)
def test_hostile_program_is_named_for_what_it_did(
    executor: Executor, double: Problem, name: str, outcome: Outcome
) -> None:
    assert executor.run([(double, HOSTILE[name])])[0].outcome is outcome


def ask(executor: Executor, body: str) -> str:
    """Run a body in the sandbox and return the text that it answers."""
    problem = make_problem("raise ValueError(repr(candidate(0)))\n")
    (result,) = executor.run([(problem, f"def solve(x):\n    import os, sys\n{body}")])
    assert result.outcome is Outcome.FAILED, result
    return result.detail


@pytest.mark.parametrize("name", ["StopIteration", "StopAsyncIteration"])
def test_program_cannot_end_a_loop_of_the_tests(executor: Executor, name: str) -> None:
    problem = make_problem("assert all(map(candidate, [2, 4, 6]))\n")
    body = f"    class Own({name}): pass\n    raise Own\n"
    results = executor.run([(problem, f"    raise {name}\n"), (problem, body)])
    assert [each.outcome for each in results] == [Outcome.FAILED] * 2
    assert all("RuntimeError" in each.detail for each in results)


@pytest.mark.parametrize(
    ("test_code", "body"),
    [
        ("assert sum(candidate(2)) == 4\n", "    return range(10**18)\n"),
        (
            "assert int(candidate(2)) == 4\n",
            "    import decimal\n    return decimal.Decimal('1E+3000000')\n",
        ),
    ],
)
def test_answer_that_one_instruction_never_ends_on_is_a_timeout(
    executor: Executor, double: Problem, test_code: str, body: str
) -> None:
    wrong, right = executor.run([(make_problem(test_code), body), (double, RIGHT + body)])
    # Not "the check did not end", which waits for the wall limit and tries again.
    assert (wrong.outcome, wrong.detail) == (Outcome.TIMEOUT, "checking the answer took too long")
    assert right.passed


def test_start_of_a_server_is_waited_for_only_where_one_starts(double: Problem) -> None:
    with Executor(limits=QUICK) as executor:
        assert not executor._verifier(0).is_warm
        assert executor.run([(double, RIGHT)])[0].passed
        assert executor._verifiers[0].is_warm


def test_answer_that_cannot_be_formatted_fails_its_check(executor: Executor) -> None:
    problem = make_problem("got = candidate(2)\nassert got == 4, got\n")
    (result,) = executor.run([(problem, "    return 1 << 100000\n")])
    assert (result.outcome, result.detail) == (Outcome.FAILED, "AssertionError")


@pytest.mark.parametrize(
    "answer",
    [
        "{'big': '\\x1b[2J' * 100000}",
        "{'e': ['ValueError'], 'text': '\\x1b[2J\\r\\n\\u202e\\ud800' * 100000}",
        "{'e': ['SyntaxError'], 'text': '\\x1b[2J\\r\\n\\u202e\\ud800' * 100000}",
        "{'v': {'t': 'Decimal', 'v': '\\x1b[2J' * 100000}}",
        "{'v': {'t': 'type', 'v': '\\x1b[2J' * 100000}}",
    ],
)
def test_detail_is_short_and_printable(executor: Executor, double: Problem, answer: str) -> None:
    (result,) = executor.run([(double, forge(answer))])
    assert not result.passed
    assert len(result.detail) <= 300
    assert result.detail.isprintable()


def test_program_finds_no_test_in_memory_frames_or_environment(executor: Executor) -> None:
    problem = make_problem("secret = 'sesame-' + str(6 * 7)\nassert candidate(0) == secret\n")
    search = (
        "def solve(x):\n    import gc, os, sys\n    frame = sys._getframe()\n    found = []\n"
        "    while frame:\n        found += [repr(frame.f_locals)]; frame = frame.f_back\n"
        "    found += [repr(o) for o in gc.get_objects()] + [repr(os.environ)]\n"
        "    text = ''.join(found)\n    at = text.find('sesame' + '-')\n"
        "    return text[at:at + 9] if at >= 0 else 'nothing'\n"
    )
    assert not executor.run([(problem, search)])[0].passed


def test_program_cannot_read_another_process_or_the_benchmark(
    executor: Executor, tmp_path: Path
) -> None:
    needs(executor, "landlock", "own-root", "pid-namespace")
    data = tmp_path / "tests.jsonl"
    data.write_text("the tests")
    detail = ask(
        executor,
        "    seen = []\n"
        f"    for path in ['/proc/1/mem', '/proc/1/environ', '/proc/{os.getpid()}/mem',\n"
        f"                 {str(data)!r}, '/etc/passwd', '/root', '/home']:\n"
        "        try:\n"
        "            os.listdir(path) if os.path.isdir(path) else open(path).read(1)\n"
        "            seen.append(path)\n"
        "        except OSError: pass\n"
        "    return seen\n",
    )
    assert detail == "ValueError: []"


def test_program_writes_only_into_its_scratch_directory(executor: Executor, tmp_path: Path) -> None:
    needs(executor, "landlock", "own-root")
    target = tmp_path / "written"
    detail = ask(
        executor,
        "    done = []\n"
        f"    for path in [{str(target)!r}, '/etc/x', os.__file__ + '.new', 'own']:\n"
        "        try:\n            open(path, 'w').write('x'); done.append(path)\n"
        "        except OSError: pass\n"
        "    return done\n",
    )
    assert detail == "ValueError: ['own']"
    assert not target.exists()


def test_program_cannot_write_a_large_file(executor: Executor) -> None:
    body = (
        "    try:\n        open('big', 'wb').write(bytes(8 << 20))\n"
        "    except OSError as error:\n        return 'refused'\n"
    )
    assert ask(executor, body) == "ValueError: 'refused'"


def test_program_reaches_no_network(executor: Executor) -> None:
    needs(executor, "network-namespace")
    body = (
        "    import socket, threading\n    reached = []\n"
        "    for family, place in [(socket.AF_INET, ('127.0.0.1', PORT)),\n"
        "                          (socket.AF_INET, ('1.1.1.1', 53))]:\n"
        "        try:\n            s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(1)\n"
        "            s.connect(place); reached.append(place)\n"
        "        except OSError: pass\n"
        "    return reached\n"
    )
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ask(executor, body.replace("PORT", str(port))) == "ValueError: []"


def test_program_starts_no_process(executor: Executor) -> None:
    needs(executor, "seccomp")
    body = (
        "    import subprocess\n    done = []\n"
        "    for action in (os.fork, lambda: subprocess.run(['/bin/true']),\n"
        "                   lambda: os.execv('/bin/true', ['true']), lambda: os.posix_spawn(\n"
        "                       '/bin/true', ['true'], {}), os.forkpty):\n"
        "        try:\n            action(); done.append(1)\n"
        "        except OSError: pass\n"
        "    return done\n"
    )
    assert ask(executor, body) == "ValueError: []"


def test_program_commands_no_descriptor_but_for_itself(executor: Executor) -> None:
    needs(executor, "seccomp")
    # Owners, signals, leases and hints; FIOSETOWN, SIOCSPGRP and the flags of a file.
    body = (
        "    import ctypes, fcntl\n    a, b = os.pipe()\n    done = []\n"
        "    for name, commands in (('fcntl', (*range(5, 9), 10, 15, *range(36, 39), 1024)),\n"
        "                           ('ioctl', (0x8901, 0x8902, 0x40086602))):\n"
        "        call = getattr(ctypes.CDLL(None, use_errno=True), name)\n"
        "        done += [n for n in commands if call(a, n, bytes(8)) >= 0]\n"
        "        done += [n for n in commands if ctypes.get_errno() != 1]\n"
        "    os.set_blocking(a, False); os.set_inheritable(a, True); os.dup(a); os.isatty(a)\n"
        "    return done\n"
    )
    assert ask(executor, body) == "ValueError: []"


def test_threads_work_and_do_not_outlive_their_program(executor: Executor) -> None:
    body = (
        "    import threading, time\n    box = []\n"
        "    t = threading.Thread(target=box.append, args=(5,)); t.start(); t.join()\n"
        "    def stay():\n        while True: time.sleep(0.01)\n"
        "    threading.Thread(target=stay).start()\n    return box\n"
    )
    assert ask(executor, body) == "ValueError: [5]"
    wait_until_idle(executor)


def test_program_sees_an_empty_file_tree(executor: Executor) -> None:
    needs(executor, "own-root", "own-scratch")
    # Landlock does not hide that a file exists; only an empty tree does.
    paths = [*map(str, Path("/").iterdir()), "/etc/passwd", str(HOME / ".bashrc"), __file__]
    shown = {"/proc", "/tmp", "/dev", "/lib", "/lib64", "/usr", "/etc"}
    shown.add(f"/{Path(sys.base_prefix).parts[1]}")
    detail = ask(executor, f"    return [path for path in {paths!r} if os.path.lexists(path)]\n")
    assert set(ast.literal_eval(detail.removeprefix("ValueError: "))) <= shown


def test_program_is_nobody_in_particular_and_its_tasks_are_counted(executor: Executor) -> None:
    needs(executor, "own-user", "not-root", "no-capabilities")
    body = (
        "    import resource\n    bound = resource.getrlimit(resource.RLIMIT_NPROC)\n"
        "    return [os.getuid() != 0, os.geteuid() != 0, bound[0] < 1000]\n"
    )
    assert ask(executor, body) == "ValueError: [True, True, True]"
    (verifier,) = executor._verifiers
    for pid in servers(verifier.process.pid):  # a program inherits its server's rights
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        rights = {line.split()[1] for line in status if line.startswith("Cap")}
        assert rights == {"0" * 16}


def test_two_sandboxes_share_no_user(double: Problem) -> None:
    problem = make_problem("raise ValueError(candidate(0))\n")
    program = "def solve(x):\n    import os\n    return os.getuid()\n"
    users = set()
    for _ in range(2):
        with Executor(limits=QUICK) as executor:
            needs(executor, "own-user", "not-root")
            if os.getuid() != 0:
                pytest.skip("an unprivileged caller's sandboxes keep its uid, counted apart")
            users.add(executor.run([(problem, program)])[0].detail)
    assert len(users) == 2


def test_one_deadline_holds_for_the_whole_program(executor: Executor) -> None:
    problem = make_problem("for i in range(1000):\n    assert candidate(i) == i\n")
    burn = "    n = 0\n    for _ in range(300000): n += 1\n    return x\n"
    assert executor.run([(problem, burn)])[0].outcome is Outcome.TIMEOUT


BURN = """
    import time
    while time.process_time() < {seconds}: pass
    return x * 2
"""
# CPU seconds by the program's own clock against a limit of 0.4: 80 and 130 per cent of it.
MIXED = {
    "    import time\n    time.sleep(60)\n": Outcome.TIMEOUT,
    BURN.format(seconds=0.32): Outcome.PASSED,
    BURN.format(seconds=0.52): Outcome.TIMEOUT,
    "    import time\n    time.sleep(0.5)\n    return x * 2\n": Outcome.PASSED,
    "    return len([0] * 8_000_000) and x * 2\n": Outcome.PASSED,
    "    return len([0] * 80_000_000) and x * 2\n": Outcome.OUT_OF_MEMORY,
    RIGHT: Outcome.PASSED,
    "    return x * 3\n": Outcome.FAILED,
    "    return (\n": Outcome.SYNTAX_ERROR,
}
THREADS = """
    import hashlib, threading, time
    threading.stack_size(1 << 18)
    def spend():
        while time.process_time() < {seconds}: hashlib.sha256(bytes(1 << 16))
    threads = [threading.Thread(target=spend) for _ in range(4)]
    [each.start() for each in threads], [each.join() for each in threads]
    return x * 2
"""


@pytest.mark.parametrize("seconds", [0.45, 0.52, 0.75, 1.5, 9])
def test_cpu_time_of_all_threads_counts_on_free_cores(
    executor: Executor, double: Problem, seconds: float
) -> None:
    (result,) = executor.run([(double, THREADS.format(seconds=seconds))])
    assert result.outcome is Outcome.TIMEOUT, result
    assert result.detail == "cpu limit of 0.4 s"
    assert result.cpu_s <= min(seconds, 0.5) + 0.1


def test_threads_below_the_limit_pass(executor: Executor, double: Problem) -> None:
    assert executor.run([(double, THREADS.format(seconds=0.3))])[0].passed


# It ends by itself, should this test be killed.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10000))\n"


def test_verdicts_near_the_limits_hold_beside_four_busy_processes(double: Problem) -> None:
    limits = Limits(cpu_s=0.4, wall_s=8.0, memory_mb=128)
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(4)]
    try:
        with Executor(limits=limits, num_workers=2) as executor:
            executions = executor.run([(double, body) for body in MIXED])
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert [each.outcome for each in executions] == list(MIXED.values())


def test_what_only_waited_for_a_core_runs_once_more_alone(
    double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply, give = Verifier.reply, Verifier.give
    replies: list[dict[str, object]] = []
    beside: list[int] = []  # how many others ran as a program was handed out

    def starve_first(self: Verifier, *, is_answered: bool) -> dict[str, object]:
        replies.append(reply(self, is_answered=is_answered))
        return {"outcome": "timeout", "again": True} if len(replies) == 1 else replies[-1]

    def note(self: Verifier, *job: Any) -> None:
        beside.append(sum(bool(each.keys) for each in executor._verifiers))
        give(self, *job)

    with Executor(limits=QUICK, num_workers=2) as executor:
        executor.run([(double, f"{RIGHT}# {number}\n") for number in range(20)])
        assert len(executor._verifiers) == 2
        monkeypatch.setattr(Verifier, "reply", starve_first)
        monkeypatch.setattr(Verifier, "give", note)
        executor.begin(double, "    while True: pass\n")  # nobody asks for it
        (result,) = executor.run([(double, RIGHT)])
    assert result.passed
    assert beside == [0, 1, 0]
    assert [each["outcome"] for each in replies] == ["passed", "timeout", "passed"]
