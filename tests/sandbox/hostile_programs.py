"""Programs that cheat or attack, by name. WITNESS and HOME stand for folders outside.

The tests call ``solve`` with 2, -7 and 'ab' and want the double; none of these earns it.
"""

SPEND = """
def spend():
    held = 0
    while True:
        held += 1
"""

# Writes one answer of its own making to whatever may be the channel.
FORGE = """
import json, os, struct, time
def solve(x):
    text = json.dumps(ANSWER).encode()
    for fd in range(3, 64):
        try: os.write(fd, struct.pack("!I", len(text)) + text)
        except OSError: pass
    time.sleep(60)
"""


def forge(answer: str) -> str:
    """Return a program that sends this reply, an expression, in place of the server's."""
    return FORGE.replace("ANSWER", answer)


RANGE = "{'t': 'range', 'v': ['0x0', '0xffffffffffff', '0x1']}"

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
    # How to end: in every way but with a verdict.
    "abort": "import os\ndef solve(x):\n    os.abort()\n",
    "killing itself": (
        "import os, signal\ndef solve(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    ),
    "segmentation fault": (
        "import ctypes\ndef solve(x):\n    return ctypes.string_at(8)\nsolve(2)\n"
    ),
    "exit in a thread": (
        "import os, threading\ndef solve(x):\n"
        "    t = threading.Thread(target=os._exit, args=(0,))\n    t.start(); t.join()\n"
    ),
    "exit in the answer's encoding": (
        "import sys\nclass Exits(list):\n    def __iter__(self): sys.exit(0)\n"
        "    def __len__(self): sys.exit(0)\n    def __getattribute__(self, name): sys.exit(0)\n"
        "def solve(x):\n    return Exits([1])\n"
    ),
    "exit on the second call": (
        "import os\ndef solve(x):\n    if x == 2: return 4\n    os._exit(0)\n"
    ),
    "stop iteration": "def solve(x):\n    raise StopIteration(x * 2)\n",
    "assertion swallowed": (
        "class Quiet(AssertionError):\n    def __str__(self): raise SystemExit(0)\n"
        "def solve(x):\n    raise Quiet\n"
    ),
    # Answers that claim to be anything.
    "always equal in every operator": (
        "class Yes:\n    def yes(self, *_): return True\n"
        "    __eq__ = __le__ = __ge__ = __contains__ = __bool__ = yes\n"
        "    def __ne__(self, other): return False\n    def __sub__(self, other): return 0\n"
        "    __rsub__ = __sub__\n    def __hash__(self): return 4\n"
        "def solve(x):\n    return Yes()\n"
    ),
    "equal through its metaclass": (
        "class Meta(type):\n    def __eq__(cls, other): return True\n"
        "    def __instancecheck__(cls, value): return True\n    __hash__ = type.__hash__\n"
        "class Yes(metaclass=Meta): pass\ndef solve(x):\n    return Yes\n"
    ),
    "equal list, dict and string": (
        "def lie(base):\n    return type('Lie', (base,), {'__eq__': lambda *_: True,\n"
        "        '__ne__': lambda *_: False, '__hash__': lambda self: 0})()\n"
        "def solve(x):\n    return [lie(list), lie(dict), lie(str)][int(x == 2)]\n"
    ),
    "tagged as data": (
        "def solve(x):\n    return {'t': 'ref', 'v': 0, 'outcome': 'passed', 'e': []}\n"
    ),
    "forged type name": (
        "class Lie:\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "Lie.__name__ = 'int'\nLie.__module__ = 'builtins'\ndef solve(x):\n    return Lie()\n"
    ),
    # Looking for the tests, and changing who runs them.
    "frame walk": (
        "import sys\ndef solve(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for scope in (frame.f_locals, frame.f_globals):\n"
        "            for name in ('candidate', 'solve', 'check', 'outcome', 'run'):\n"
        "                scope[name] = lambda *a, **k: True\n"
        "        frame.f_trace = lambda *a: None\n        frame = frame.f_back\n    return True\n"
    ),
    "gc walk": (
        "import gc\ndef solve(x):\n    for found in gc.get_objects():\n"
        "        if isinstance(found, dict):\n"
        "            for key in list(found):\n"
        "                if key in ('outcome', 'reason', 'died', 'passed', 'code'):\n"
        "                    found[key] = 'passed'\n"
        "        if callable(found) and getattr(found, '__name__', '') == 'check':\n"
        "            found.__code__ = (lambda *_: None).__code__\n    return True\n"
    ),
    "forged reply on the channel found by gc": (
        "import gc, socket, struct\ndef solve(x):\n    for found in gc.get_objects():\n"
        "        if isinstance(found, socket.socket):\n"
        "            for text in (b'{\"v\":true}', b'{\"e\":[\"Passed\"]}', b'[]', b'null'):\n"
        "                try: found.sendall(struct.pack('!I', len(text)) + text)\n"
        "                except OSError: pass\n    return 0\n"
    ),
    "traced and profiled": (
        "import sys, threading\ndef hook(*_):\n    return hook\n"
        "for place in (sys.settrace, sys.setprofile, threading.settrace, threading.setprofile):\n"
        "    place(hook)\ndef solve(x):\n    return True\n"
    ),
    "audit hook": (
        "import sys\ndef hook(event, args):\n"
        "    if event.startswith(('socket', 'os', 'open')): raise SystemExit(0)\n"
        "sys.addaudithook(hook)\ndef solve(x):\n    return open('x')\n"
    ),
    "patched json": (
        "import json, json.encoder, json.decoder\n"
        "json.dumps = lambda *a, **k: '{\"v\": true}'\njson.loads = lambda *a, **k: {}\n"
        "json.JSONEncoder.encode = lambda *a: '{\"v\": true}'\n"
        "json.encoder.c_make_encoder = None\ndef solve(x):\n    return 0\n"
    ),
    "patched pickle": (
        "import pickle, copyreg\nclass Bomb:\n"
        "    def __reduce__(self): return exec, ('import os; os._exit(0)',)\n"
        "pickle.loads = pickle.dumps = lambda *a, **k: True\n"
        "copyreg.pickle(int, lambda n: (int, (4,)))\ndef solve(x):\n    return Bomb()\n"
    ),
    "patched operators": (
        "import builtins, operator\noperator.eq = lambda *_: True\n"
        "builtins.abs = lambda _: 0\nbuiltins.all = builtins.any = lambda *_: True\n"
        "builtins.type = lambda *_: int\ndef solve(x):\n    return None\n"
    ),
    "import hook": (
        "import builtins, sys\nclass Finder:\n"
        "    def find_spec(self, *_): raise SystemExit(0)\n"
        "    def find_module(self, *_): return self\n"
        "sys.meta_path.insert(0, Finder())\nsys.path_hooks.insert(0, Finder)\n"
        "builtins.__import__ = lambda *a, **k: Finder()\nsys.modules.clear()\n"
        "def solve(x):\n    import json\n    return json\n"
    ),
    "poisoned modules": (
        "import sys\nfor name in ('json', 'socket', 'os', 'tests', 'candidate', '__main__'):\n"
        "    sys.modules[name] = None\ndef solve(x):\n    return None\n"
    ),
    # Processes and signals, with the C library and without.
    "child that stays": (
        "import os, time\ndef solve(x):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        if os.fork() == 0:\n            while True: time.sleep(0.01)\n"
        "        os._exit(0)\n    return None\n"
    ),
    "raw clone bomb": (
        "import ctypes\ndef solve(x):\n    call = ctypes.CDLL(None).syscall\n"
        "    while True:\n        for number in (56, 57, 58, 220, 435):\n"
        "            call(number, 17, 0, 0, 0, 0)\n"
    ),
    "spawned program": (
        "import os, subprocess\ndef solve(x):\n"
        "    os.posix_spawn('/bin/sh', ['sh', '-c', 'touch WITNESS/new'], {})\n"
        "    subprocess.run(['touch', 'WITNESS/new'])\n    return None\n"
    ),
    "thread that stays": (
        "import threading, time\ndef stay():\n    while True:\n"
        "        try: time.sleep(0.01); open('WITNESS/new', 'w')\n        except OSError: pass\n"
        "def solve(x):\n    threading.Thread(target=stay).start()\n    return None\n"
    ),
    "spinning threads": (
        "import threading\n"
        + SPEND
        + "def solve(x):\n    for _ in range(8): threading.Thread(target=spend).start()\n"
        "    spend()\n"
    ),
    "raw signals": (
        "import ctypes, os\ncall = ctypes.CDLL(None).syscall\n"
        "for pid in (1, 2, os.getppid(), -1, 0):\n"
        "    for number in (62, 129, 200, 130, 234, 131, 424): call(number, pid, 9, 9, 0)\n"
        "def solve(x):\n    return None\n"
    ),
    "stopping its parent": (
        "import os, signal\nfor pid in (os.getppid(), 1):\n"
        "    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGXCPU):\n"
        "        try: os.kill(pid, number)\n        except OSError: pass\n"
        "def solve(x):\n    return None\n"
    ),
    "interrupts through a pipe's owner": (
        "import ctypes, fcntl, os, signal, struct, time\ncall = ctypes.CDLL(None).ioctl\n"
        "def pipe(owner):\n    a, b = os.pipe()\n    owner(a)\n"
        "    fcntl.fcntl(a, 10, signal.SIGINT)\n    fcntl.fcntl(a, 4, os.O_ASYNC)\n"
        "    os.write(b, b'x')\n"
        "for pid in (1, os.getppid()):\n    for owner in (lambda fd: fcntl.fcntl(fd, 8, pid),\n"
        "            lambda fd: fcntl.fcntl(fd, 15, struct.pack('ii', 1, pid)),\n"
        "            lambda fd: call(fd, 0x8901, struct.pack('i', pid)),\n"
        "            lambda fd: call(fd, 0x8902, struct.pack('i', pid))):\n"
        "        try: pipe(owner)\n        except OSError: pass\n"
        "time.sleep(0.1)\ndef solve(x):\n    return None\n"
    ),
    "folders of the programs to come": (
        "import os\nfor n in range(1000):\n    try: os.mkdir(f'../{n}')\n"
        "    except OSError: pass\ndef solve(x):\n    return None\n"
    ),
    "scratch filled beside its folder": (
        "for n in range(99):\n    try: open(f'../f{n}', 'wb').write(bytes(1 << 20))\n"
        "    except OSError: pass\ndef solve(x):\n    return None\n"
    ),
    "limits of its parent": (
        "import os, resource\nfor pid in (os.getppid(), 1):\n"
        "    for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_AS):\n"
        "        try: resource.prlimit(pid, kind, (0, 0))\n"
        "        except (OSError, ValueError): pass\n"
        "def solve(x):\n    return None\n"
    ),
    "limits raised": (
        "import resource, signal\nfor kind in range(16):\n"
        "    try: resource.setrlimit(kind, (-1, -1))\n    except (OSError, ValueError): pass\n"
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n" + SPEND + "def solve(x):\n    spend()\n"
    ),
    "its own cgroup and priority": (
        "import os\nfor path in ('/proc/self/oom_score_adj', '/sys/fs/cgroup/cgroup.procs'):\n"
        "    try: open(path, 'w').write('-1000')\n    except OSError: pass\n"
        "for act in (lambda: os.nice(-20), lambda: os.sched_setaffinity(0, {0})):\n"
        "    try: act()\n    except OSError: pass\ndef solve(x):\n    return None\n"
    ),
    # Other people's memory and files.
    "memory of others": (
        "import os\ndef solve(x):\n    found = []\n"
        "    for pid in [1, os.getppid(), *filter(str.isdigit, os.listdir('/proc'))]:\n"
        "        for name in ('mem', 'environ', 'maps', 'cmdline', 'root/etc/passwd', 'cwd/.'):\n"
        "            try: found.append(open(f'/proc/{pid}/{name}', 'rb').read(64))\n"
        "            except OSError: pass\n    return found\n"
    ),
    "descriptors of others": (
        "import os\ndef solve(x):\n    for pid in (1, os.getppid()):\n"
        "        for number in range(12):\n"
        "            try: os.write(os.open(f'/proc/{pid}/fd/{number}', os.O_WRONLY), b'{}')\n"
        "            except OSError: pass\n    return None\n"
    ),
    "traced parent": (
        "import ctypes, os\ncall = ctypes.CDLL(None).ptrace\n"
        "for request in (0, 16, 0x4206): call(request, os.getppid(), 0, 0)\n"
        "def solve(x):\n    return None\n"
    ),
    "written files": (
        "import os\nfor path in ('WITNESS/kept', 'WITNESS/new', 'HOME/knexa-hostile'):\n"
        "    try: open(path, 'w').write('hostile')\n    except OSError: pass\n"
        "def solve(x):\n    return None\n"
    ),
    "deleted files": (
        "import os, shutil\nshutil.rmtree('WITNESS', ignore_errors=True)\n"
        "for act in (os.remove, os.rmdir, lambda p: os.rename(p, p + '2'), os.truncate):\n"
        "    for path in ('WITNESS/kept', 'WITNESS/folder/deep', 'WITNESS'):\n"
        "        try: act(path)\n        except (OSError, TypeError): pass\n"
        "def solve(x):\n    return None\n"
    ),
    "changed modes and times": (
        "import os\nfor act in (lambda p: os.chmod(p, 0), lambda p: os.utime(p, (0, 0)),\n"
        "            lambda p: os.chown(p, 65534, 65534)):\n"
        "    for path in ('WITNESS/kept', 'WITNESS'):\n"
        "        try: act(path)\n        except OSError: pass\ndef solve(x):\n    return None\n"
    ),
    "symbolic links": (
        "import os\nfor name, target in (('a', 'WITNESS'), ('b', 'WITNESS/kept'), ('c', '/')):\n"
        "    try: os.symlink(target, name)\n    except OSError: pass\n"
        "for path in ('a/new', 'b', 'c/WITNESS/new'):\n"
        "    try: open(path, 'w').write('hostile')\n    except OSError: pass\n"
        "def solve(x):\n    return None\n"
    ),
    "hard links and renames": (
        "import os\nfor act in (os.link, os.rename, os.replace):\n"
        "    for path in ('WITNESS/kept', 'WITNESS/folder'):\n"
        "        try: act(path, 'own')\n        except OSError: pass\n"
        "def solve(x):\n    return None\n"
    ),
    "its folder exchanged": (
        "import os\nhere = os.getcwd()\nos.chdir('/')\n"
        "try:\n    os.rmdir(here); os.symlink('WITNESS', here)\nexcept OSError: pass\n"
        "def solve(x):\n    return None\n"
    ),
    "mounts and roots": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nlibc.unshare(0x10020000)\n"
        "libc.mount(b'WITNESS', b'.', None, 4096, None)\nlibc.umount2(b'/proc', 2)\n"
        "libc.chroot(b'.')\nlibc.setuid(0)\ndef solve(x):\n    return os.getuid()\n"
    ),
    # Floods.
    "error output flood": (
        "import sys\ndef solve(x):\n    while True: sys.stderr.write('x' * 10000)\n"
    ),
    "raw output flood": ("import os\ndef solve(x):\n    while True: os.write(1, b'x' * 65536)\n"),
    "file flood": (
        "def solve(x):\n    n = 0\n    while True:\n        n += 1\n"
        "        with open(f'f{n}', 'wb') as file: file.write(bytes(1 << 19))\n"
    ),
    "folder flood": ("import os\ndef solve(x):\n    while True: os.mkdir('d'); os.chdir('d')\n"),
    "descriptor flood": (
        "import os\ndef solve(x):\n    held = []\n    while True: held.append(os.pipe())\n"
    ),
    "memory flood at once": "def solve(x):\n    return len(b'x' * (1 << 40))\n",
    "mapped memory": (
        "import mmap\ndef solve(x):\n    held = []\n"
        "    while True: held.append(mmap.mmap(-1, 1 << 26))\n"
    ),
    "exception flood": "def solve(x):\n    raise ValueError('x' * (64 << 20))\n",
    # Loops that no Python code interrupts, and depth.
    "endless sum in C": "import itertools\ndef solve(x):\n    return sum(itertools.repeat(0))\n",
    "endless search in C": (
        "import itertools\ndef solve(x):\n    return -1 in itertools.cycle([0])\n"
    ),
    "endless comparison": (
        "def solve(x):\n    a = b = ()\n    for _ in range(60): a, b = (a, a), (b, b)\n"
        "    return a == (b, 0) or a == b\n"
    ),
    "deep representation": (
        "def solve(x):\n    a = []\n    for _ in range(500000): a = [a]\n    return repr(a)\n"
    ),
    "deep generator": (
        "def solve(x):\n    def down(n): yield from down(n + 1)\n    return next(down(0))\n"
    ),
    "deep destruction": (
        "class Node:\n    def __init__(self, n): self.n = n\n"
        "def solve(x):\n    n = None\n    for _ in range(300000): n = Node(n)\n"
        "    del n\n    return None\n"
    ),
    "huge integer": "def solve(x):\n    return 1 << (1 << 25)\n",
    "huge integer in text": (
        "import sys\nsys.set_int_max_str_digits(0)\ndef solve(x):\n"
        "    return str((1 << (1 << 24)) - 1)[:1]\n"
    ),
    "huge hash": (
        "def solve(x):\n    return {(1 << 61) - 1: hash(1 << (1 << 24)), **{x: 10 ** 10 ** 6}}\n"
    ),
    # What runs when things end.
    "destructor": (
        "import os\nclass Last:\n    def __del__(self):\n"
        "        try: open('WITNESS/new', 'w')\n        finally: os._exit(0)\n"
        "def solve(x):\n    Last()\n    return x * 2\n"
    ),
    "destructor that never ends": (
        "class Last:\n    def __del__(self):\n        while True: pass\n"
        "kept = Last()\ndef solve(x):\n    global kept\n    kept = None\n"
    ),
    "at exit": (
        "import atexit, os, sys\ndef last():\n"
        "    try: open('WITNESS/new', 'w')\n    finally:\n        while True: pass\n"
        "atexit.register(last)\ndef solve(x):\n    sys.exit(0)\n"
    ),
    "finalizer at interpreter end": (
        "import weakref, os\nclass Own: pass\nown = Own()\n"
        "weakref.finalize(own, os._exit, 0)\ndef solve(x):\n    global own\n    own = None\n"
    ),
    # Input and the channel itself.
    "standard input": "def solve(x):\n    return input()\n",
    "raw standard input": (
        "import os, sys\ndef solve(x):\n"
        "    return [os.read(0, 100), open('/dev/stdin', 'rb').read()]\n"
    ),
    "channel closed": (
        "import gc, socket\ndef solve(x):\n    for found in gc.get_objects():\n"
        "        if isinstance(found, socket.socket): found.close()\n    return 4\n"
    ),
    "channel with half a message": (
        "import os, struct\ndef solve(x):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, struct.pack('!I', 1000) + b'{')\n        except OSError: pass\n"
        "    os._exit(0)\n"
    ),
    "channel with a huge header": (
        "import os, struct\ndef solve(x):\n    for fd in range(3, 64):\n"
        "        try: os.write(fd, struct.pack('!I', 0xFFFFFFFF))\n        except OSError: pass\n"
        "    return 4\n"
    ),
    "channel onto other numbers": (
        "import os\ndef solve(x):\n    for fd in range(64):\n"
        "        for other in (0, 1, 2, 50):\n"
        "            try: os.dup2(fd, other)\n            except OSError: pass\n    return 5\n"
    ),
    "network": (
        "import socket, urllib.request\ndef solve(x):\n"
        "    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):\n"
        "        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):\n"
        "            try: socket.socket(family, kind); return 'reached'\n"
        "            except OSError: pass\n    return None\n"
    ),
    "name lookup": "import socket\ndef solve(x):\n    return socket.gethostbyname('localhost')\n",
    # What costs the compiler more than it looks.
    "source with 50,000 clauses": (
        "def solve(x): return 0\ndef f(): return [0 " + "for a in b " * 50000 + "]\n"
    ),
    "source with 20,000 keywords": (
        "def solve(x): return 0\ndef f(): g("
        + ",".join(f"a{number}=1" for number in range(20000))
        + ")\n"
    ),
    "source that imports a long name": (
        "def solve(x): return 0\ndef f():\n    import a" + ".b" * 40000 + "\n"
    ),
    # Data that is small until it is decoded.
    "forged deque of a range": forge(f"{{'v': {{'t': 'deque', 'v': {RANGE}}}}}"),
    "forged dict of ranges": forge(f"{{'v': {{'t': 'dict', 'v': [{RANGE}]}}}}"),
    "forged items of ranges": forge(f"{{'v': {{'t': 'items', 'v': [{RANGE}]}}}}"),
    "fraction in huge parts": (
        "import fractions, random\ndef solve(x):\n    answer = fractions.Fraction(1, 2)\n"
        "    answer._numerator = random.getrandbits(2_000_000) | 1\n"
        "    answer._denominator = random.getrandbits(2_000_000) | 1\n    return answer\n"
    ),
}

# Each is submitted thrice, and answers right once ``find`` returns what ``leave`` left before.
MARKING = {
    "file beside its folder": (
        "def find(): return os.path.exists('../mark')\ndef leave(): open('../mark', 'w').close()\n"
    ),
    "folder beside its folder": (
        "def find(): return os.path.isdir('../folder')\ndef leave(): os.mkdir('../folder')\n"
    ),
    "its folder moved": (
        "def find(): return os.path.isdir('../moved')\n"
        "def leave(): os.rename(os.getcwd(), '../moved')\n"
    ),
    "attribute of the folder above": (
        "def find(): return os.listxattr('..')\ndef leave(): os.setxattr('..', 'user.mark', b'1')\n"
    ),
    "mode of the folder above": (
        "def find(): return os.stat('..').st_mode & 0o777 == 0o753\n"
        "def leave(): os.chmod('..', 0o753)\n"
    ),
    "time of the folder above": (
        "def find(): return os.stat('..').st_atime > 5e9\ndef leave(): os.utime('..', (6e9, 6e9))\n"
    ),
    "flag of the folder above": (
        "def flags(number):\n    held = ctypes.c_long(0x40)\n"
        "    descriptor = os.open('..', os.O_RDONLY)\n"
        "    done = libc.ioctl(descriptor, ctypes.c_ulong(number), ctypes.byref(held))\n"
        "    return done == 0 and held.value & 0x40\n"
        "def find(): return flags(0x80086601)\ndef leave(): flags(0x40086602)\n"
    ),
    "signal of standard input": (
        "def find(): return fcntl.fcntl(0, 11)\ndef leave(): fcntl.fcntl(0, 10, 42)\n"
    ),
    "owner of standard output": (
        "def find(): return fcntl.fcntl(1, 9)\ndef leave(): fcntl.fcntl(1, 8, os.getpid())\n"
    ),
    "mode of standard input": (
        "def find(): return not os.get_blocking(0)\ndef leave(): os.set_blocking(0, False)\n"
    ),
    "mode of standard error": (
        "def find(): return fcntl.fcntl(2, 3) & os.O_APPEND\n"
        "def leave(): fcntl.fcntl(2, 4, os.O_APPEND)\n"
    ),
    "lock on standard input": (
        "def find():\n    with open('/dev/null') as file:\n"
        "        try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "        except BlockingIOError: return True\n"
        "def leave(): fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    ),
    "closed standard streams": (
        "def find():\n    try: os.fstat(0)\n    except OSError: return True\n"
        "def leave(): os.closerange(0, 3)\n"
    ),
    "disk priority of its parent": (
        "numbers = {'x86_64': (251, 252), 'aarch64': (30, 31)}[os.uname().machine]\n"
        "def find(): return libc.syscall(numbers[1], 1, 0) & 7 == 5\n"
        "def leave(): libc.syscall(numbers[0], 1, os.getppid(), 2 << 13 | 5)\n"
    ),
    "hint on a library": (
        "def hint(number, value):\n    descriptor = os.open(os.__file__, os.O_RDONLY)\n"
        "    return fcntl.fcntl(descriptor, number, bytes([value]) + bytes(7))[0]\n"
        "def find(): return hint(1035, 0) == 4\ndef leave(): hint(1036, 4)\n"
    ),
    "processor time of its parent's children": (
        "def find(): return int(open('/proc/1/stat').read().split()[15]) >= 10\n"
        "def leave():\n    while sum(os.times()[:2]) < 0.15: pass\n"
    ),
    "number of the next process": (
        "import threading\n"
        "def find(): return os.getpid() % 64 == 41\n"
        "def leave():\n"
        "    def note(): numbers.append(threading.get_native_id())\n"
        "    numbers = [0]\n"
        "    while numbers[-1] % 64 != 40:\n"
        "        thread = threading.Thread(target=note)\n        thread.start()\n"
        "        thread.join()\n"
    ),
    "number of the next file": (
        "def find(): return os.stat('.').st_ino % 64 == 41\n"
        "def leave():\n"
        "    number = 0\n"
        "    while number % 64 != 40:\n"
        "        with open('file', 'w') as file: number = os.fstat(file.fileno()).st_ino\n"
        "        os.unlink('file')\n"
    ),
    "resource limits of its parent": (
        "def find(): return resource.getrlimit(resource.RLIMIT_MSGQUEUE)[0] == 7\n"
        "def leave(): resource.prlimit(os.getppid(), resource.RLIMIT_MSGQUEUE, (7, 7))\n"
    ),
}
MARK = """
import ctypes, fcntl, os, resource
libc = ctypes.CDLL(None)
{body}
try: found = find()
except OSError: found = False
try: leave()
except OSError: pass
def solve(x):
    return x * 2 if found else None
"""
