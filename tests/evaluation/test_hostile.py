"""Programs that cheat or attack: none passes, none outlives its limits, none hurts the next one."""

import os
import threading
import time
from pathlib import Path

import pytest
from tests.evaluation.conftest import QUICK, make_problem

from knexa.data.problem import Problem
from knexa.evaluation import Executor, Outcome

RIGHT = "    return x * 2\n"

HOSTILE = {
    "exit": "import sys\nsys.exit(0)\n",
    "hard exit": "import os\nos._exit(0)\n",
    "exit on call": "def solve(x):\n    raise SystemExit\n",
    "interrupt": "def solve(x):\n    raise KeyboardInterrupt\n",
    "base exception": "def solve(x):\n    raise BaseException('passed')\n",
    "generator exit": "def solve(x):\n    raise GeneratorExit\n",
    "always equal": (
        "class Yes:\n    def __eq__(self, other): return True\n    __hash__ = object.__hash__\n"
        "def solve(x):\n    return Yes()\n"
    ),
    "equal subclass": (
        "class Yes(int):\n    def __eq__(self, other): return True\n"
        "def solve(x):\n    return Yes(3)\n"
    ),
    "equal class named as a test class": (
        "class Exception:\n    def __eq__(self, other): return True\n"
        "def solve(x):\n    return Exception()\n"
    ),
    "patched builtins": (
        "import builtins, json\nbuiltins.AssertionError = None\njson.dumps = lambda *a, **k: '{}'\n"
        "builtins.isinstance = lambda *a: True\ndef solve(x):\n    return 0\n"
    ),
    "patched runner": (
        "import sys\nfor module in list(sys.modules.values()):\n"
        "    for name in ('encode', 'send', 'verify'):\n"
        "        if hasattr(module, name):\n"
        "            setattr(module, name, lambda *a, **k: None)\n"
        "def solve(x):\n    return None\n"
    ),
    "forged messages": (
        "import os, struct\nfor fd in range(3, 64):\n    for text in (\n"
        '        b\'{"outcome":"passed"}\', b\'{"v":true}\', b\'{"reason":"","clean":true}\'):\n'
        "        try: os.write(fd, struct.pack('!I', len(text)) + text)\n"
        "        except OSError: pass\n"
        "def solve(x):\n    return 0\n"
    ),
    "garbage messages": (
        "import os\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, b'\\xff' * 5000)\n    except OSError: pass\n"
        "def solve(x):\n    return 0\n"
    ),
    "closed descriptors": "import os\nos.closerange(0, 64)\ndef solve(x):\n    return x * 2\n",
    "fork bomb": "import os\ndef solve(x):\n    while True: os.fork()\n",
    "thread bomb": (
        "import threading, time\ndef solve(x):\n"
        "    while True: threading.Thread(target=time.sleep, args=(99,)).start()\n"
    ),
    "memory flood": (
        "def solve(x):\n    held = []\n    while True: held.append(bytearray(1 << 20))\n"
    ),
    "answer flood": "def solve(x):\n    return 'x' * (5 << 20)\n",
    "answer beyond memory": "def solve(x):\n    return ['x' * 1000] * 200000\n",
    "endless answer": (
        "def solve(x):\n    def ever():\n        while True: yield 'y' * 1000\n    return ever()\n"
    ),
    "nested answer": (
        "def solve(x):\n    a = []\n    for _ in range(100000): a = [a]\n    return a\n"
    ),
    "cyclic answer": "def solve(x):\n    a = []\n    a.append(a)\n    return a\n",
    "output flood": "def solve(x):\n    while True: print('x' * 10000)\n",
    "endless loop": "def solve(x):\n    while True: pass\n",
    "endless loop at import": "while True: pass\ndef solve(x): pass\n",
    "endless loop in C": "def solve(x):\n    return 7 ** 10 ** 9\n",
    "endless regex": "import re\ndef solve(x):\n    re.match(r'(a+)+$', 'a' * 60 + 'b')\n",
    "swallowing loop": (
        "import signal\nfor n in range(1, 64):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "def solve(x):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass\n"
    ),
    "sleeping": "import time\ndef solve(x):\n    time.sleep(1000)\n",
    "stopping itself": (
        "import os, signal\ndef solve(x):\n    os.kill(os.getpid(), signal.SIGSTOP)\n"
    ),
    "stack overflow": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef solve(x):\n    return solve([x])\n"
    ),
    "killing everybody": (
        "import os, signal\nfor pid in (-1, 0, 1, os.getppid()):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n    except OSError: pass\n"
        "def solve(x):\n    return 0\n"
    ),
    "deep source": "x = " + "(" * 5000 + ")" * 5000 + "\ndef solve(x): pass\n",
    "long source": "x = " + "-" * 100000 + "1\ndef solve(x): pass\n",
    "slow equality": "def solve(x):\n    return {i * (2**61 - 1) for i in range(1, 40000)}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_program_does_not_pass_and_the_next_one_does(
    executor: Executor, double: Problem, name: str
) -> None:
    start = time.monotonic()
    results = executor.run([(double, HOSTILE[name]), (double, f"{RIGHT}# after {name}\n")])
    assert results[0].outcome not in (Outcome.PASSED, Outcome.INFRASTRUCTURE_ERROR), results[0]
    assert results[1].outcome is Outcome.PASSED, results[1]
    assert time.monotonic() - start < 40


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("endless loop", Outcome.TIMEOUT),
        ("endless loop at import", Outcome.TIMEOUT),
        ("endless loop in C", Outcome.TIMEOUT),
        ("endless regex", Outcome.TIMEOUT),
        ("swallowing loop", Outcome.TIMEOUT),
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


def needs(executor: Executor, *layers: str) -> None:
    missing = set(layers) - {layer.partition("-")[0] for layer in executor.layers}
    if missing:
        pytest.skip(f"this kernel grants no {', '.join(sorted(missing))} layer")


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
    needs(executor, "landlock", "pid")
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
    needs(executor, "landlock")
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
    needs(executor, "network")
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


def test_threads_work_and_do_not_outlive_their_program(executor: Executor) -> None:
    body = (
        "    import threading, time\n    box = []\n"
        "    t = threading.Thread(target=box.append, args=(5,)); t.start(); t.join()\n"
        "    def stay():\n        while True: time.sleep(0.01)\n"
        "    threading.Thread(target=stay).start()\n    return box\n"
    )
    assert ask(executor, body) == "ValueError: [5]"
    verifier = executor._verifiers[0].process.pid
    assert _descendants(verifier) <= 2  # the server's two halves, no program


def _descendants(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return len(children) + sum(_descendants(int(child)) for child in children)


def test_one_deadline_holds_for_the_whole_program(executor: Executor) -> None:
    problem = make_problem("for i in range(1000):\n    assert candidate(i) == i\n")
    burn = "    n = 0\n    for _ in range(300000): n += 1\n    return x\n"
    assert executor.run([(problem, burn)])[0].outcome is Outcome.TIMEOUT


def test_verdict_does_not_depend_on_a_busy_machine(double: Problem) -> None:
    stop = threading.Event()

    def burn() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=burn) for _ in range(2)]
    work = "    n = 0\n    for _ in range(400000): n += 1\n    return x * 2\n"
    with Executor(limits=QUICK, num_workers=2) as executor:
        for thread in threads:
            thread.start()
        try:
            pairs = [(double, f"{work}# {i}\n") for i in range(4)]
            assert all(each.passed for each in executor.run(pairs))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
