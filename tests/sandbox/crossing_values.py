"""Tests and right programs by what crosses between them: plain ``exec`` passes every one.

A row is (set-up code, tests, program). ``docs/data.md`` has a table of them.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """Trusted set-up code and tests, and a program."""

    setup: str
    tests: str
    program: str


def same(value: str, imports: str = "") -> Row:
    """A value that crosses both ways: equal, and of the same type."""
    check = f"value = {value}\ngot = candidate(value)\nassert got == value, got\n"
    return Row(imports, f"{check}assert type(got) is type(value)\n", "def solve(x): return x\n")


def made(value: str, imports: str = "") -> Row:
    """A value that the program makes."""
    tests = f"got = candidate()\nassert got == {value}, got\nassert type(got) is type({value})\n"
    return Row(imports, tests, f"{imports}\ndef solve(): return {value}\n")


POINT = "class Point:\n    def __init__(self, x, y): self.x, self.y = x, y\n"
NODE = (
    "class Node:\n    def __init__(self, value, after=None):\n"
    "        self.value, self.after = value, after\n"
)
KEPT = "class Kept(Exception):\n    def __init__(self, a, b):\n        super().__init__(a)\n"
KEPT += "        self.b = b\n"
RAISES = "try:\n    candidate(3)\n    assert False\n"

STRINGS = {
    "two surrogates": made("'\\ud83d\\ude00'"),
    "surrogates in a list": made("['\\ud83d\\ude00', '\\ude00', 'a']"),
    "surrogates as keys": made("{'\\ud83d\\ude00': {'\\udfff\\ud800'}}"),
    "surrogates as argument": Row(
        "", "assert candidate('\\ud83d\\ude00') == 2\n", "def solve(x): return len(x)\n"
    ),
    "one emoji": made("'\\U0001f600'"),
    "surrogates in an exception": Row(
        "",
        f"{RAISES}except ValueError as e: assert str(e) == '\\ud83d\\ude00'\n",
        "def solve(x): raise ValueError('\\ud83d\\ude00')\n",
    ),
    "surrogates as attribute": Row(
        POINT,
        "got = candidate()\nassert vars(got)['\\ud83d\\ude00'] == 5\n",
        "def solve():\n    p = Point(1, 2)\n    vars(p)['\\ud83d\\ude00'] = 5\n    return p\n",
    ),
}

KINDS = {
    "UserDict": same("collections.UserDict(a=[1])", "import collections"),
    "UserList": same("collections.UserList([1, 2])", "import collections"),
    "UserString": same("collections.UserString('ab')", "import collections"),
    "ChainMap": same("collections.ChainMap({1: 2}, {3: 4})", "import collections"),
    "memoryview": same("memoryview(b'abc')"),
    "memoryview of numbers": same("memoryview(array.array('i', [1, -2]))", "import array"),
    "part of a memoryview": made("memoryview(b'abcdef')[::2]"),
    "array": same("array.array('d', [0.1, 2.0])", "import array"),
    "UUID": same("uuid.UUID(int=5)", "import uuid"),
    "PurePath": same("pathlib.PurePosixPath('a/b')", "import pathlib"),
    "PureWindowsPath": same("pathlib.PureWindowsPath('c:/b')", "import pathlib"),
    "Path": Row(
        "import pathlib",
        "assert candidate('a') == pathlib.Path('a/b')\n",
        "def solve(x):\n    import pathlib\n    return pathlib.Path(x) / 'b'\n",
    ),
    "Path as argument": Row(
        "import pathlib",
        "assert candidate(pathlib.Path('a')) is False\n",
        "def solve(x): return x.exists()\n",
    ),
    "time zone": same(
        "datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)", "import datetime"
    ),
    "deque of a length": Row(
        "import collections",
        "got = candidate(collections.deque([1, 2], 2))\nassert list(got) == [2, 3]\n"
        "assert got.maxlen == 2\n",
        "def solve(x):\n    x.append(3)\n    return x\n",
    ),
    "defaultdict": Row(
        "import collections",
        "d = collections.defaultdict(list)\nassert candidate(d)['a'] == [1]\n"
        "assert d == {'a': [1]} and d['b'] == []\n",
        "def solve(x):\n    x['a'].append(1)\n    return x\n",
    ),
    "enumeration of the set-up": Row(
        "import enum\nclass Color(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
        "class Right(enum.Flag):\n    READ = 1\n    WRITE = 2\n",
        "assert candidate(Color.RED) is Color.BLUE\n"
        "assert candidate(Color.BLUE) == Right.READ | Right.WRITE\n",
        "def solve(x): return Color.BLUE if x is Color.RED else Right.READ | Right.WRITE\n",
    ),
    "named tuple of the set-up": Row(
        "import collections\nPair = collections.namedtuple('Pair', 'a b')\n",
        "got = candidate(Pair(1, 2))\nassert got == Pair(2, 1) and got.a == 2, got\n",
        "def solve(p): return Pair(p.b, p.a)\n",
    ),
    "named tuple of the program": Row(
        "",
        "assert candidate(1) == (1, 2)\n",
        "import collections\nOwn = collections.namedtuple('Own', 'a b')\n"
        "def solve(x): return Own(x, 2)\n",
    ),
    "dataclass with slots": Row(
        "import dataclasses\n@dataclasses.dataclass(frozen=True, slots=True)\n"
        "class Pair:\n    a: int\n    b: int\n",
        "assert candidate(Pair(1, 2)) == Pair(2, 1)\n",
        "def solve(p): return Pair(p.b, p.a)\n",
    ),
    "list of a class of the set-up": Row(
        "class Stack(list):\n    def top(self): return self[-1]\n",
        "s = Stack([1])\ngot = candidate(s)\nassert got is s and got.top() == 2\n",
        "def solve(s):\n    s.append(s.top() + 1)\n    return s\n",
    ),
    "object of a class defined again": Row(
        f"{POINT}p = Point(1, 2)\n{POINT}",
        "assert candidate(p) is p and p.x == 3 and type(p) is not Point\n",
        "def solve(p):\n    p.x = 3\n    return p\n",
    ),
    "class of the set-up": Row(
        POINT, "assert candidate(Point) == 3\n", "def solve(kind): return kind(1, 2).x + 2\n"
    ),
    "exception as a value": Row(
        "",
        "got = candidate()\nassert type(got) is KeyError and got.args == (3,)\n",
        "def solve(): return KeyError(3)\n",
    ),
    "a list 900 deep": Row(
        "def deep(n):\n    a = []\n    for _ in range(n): a = [a]\n    return a\n",
        "got = candidate(deep(900))\nn = 0\nwhile got: got, n = got[0], n + 1\nassert n == 900\n",
        "def solve(x): return deep(900)\n",
    ),
    "dicts and tuples 90 deep": Row(
        "def deep(n):\n    a = 0\n    for _ in range(n): a = ({'a': a}, [a] and 1)\n    return a\n",
        "assert candidate(deep(45)) == deep(45)\n",
        "def solve(x): return x\n",
    ),
    "a chain of 2,000 nodes": Row(
        NODE,
        "head = None\nfor n in range(2000): head = Node(n, head)\ngot = candidate(head)\n"
        "assert [got.value, got.after.value] == [0, 1] and head.after is None\n",
        "def solve(node):\n    last = None\n    while node:\n"
        "        node.after, last, node = last, node, node.after\n    return last\n",
    ),
    "a cycle": Row(
        NODE,
        "n = Node(1)\nn.after = n\ngot = candidate(n)\nassert got.after.after is got and got is n\n"
        "l = candidate([])\nassert l[0] is l\n",
        "def solve(x):\n    if isinstance(x, list): x.append(x)\n    return x\n",
    ),
    "lists that are one": Row(
        "",
        "rows = candidate()\nrows[0][0] = 1\nassert rows == [[1], [1]]\n",
        "def solve(): return [[0]] * 2\n",
    ),
}


def changes(value: str, statement: str, after: str, setup: str = "") -> Row:
    """An argument that the program changes in place."""
    tests = f"x = {value}\nassert candidate(x) is None\nassert {after}, x\n"
    return Row(setup, tests, f"def solve(x):\n    {statement}\n")


COLLECTIONS = "import collections, array\n"
IN_PLACE = {
    "list": changes("[3, 1, 2]", "x.sort()", "x == [1, 2, 3]"),
    "list in a list": changes("[[1], [2]]", "x[1].append(3)", "x == [[1], [2, 3]]"),
    "list in a tuple": changes("([1], 2)", "x[0].append(3)", "x == ([1, 3], 2)"),
    "dict": changes("{1: 2, 3: 4}", "del x[1]; x[5] = []", "x == {3: 4, 5: []}"),
    "order of a dict": changes("{1: 2, 3: 4}", "x[1] = x.pop(1)", "list(x) == [3, 1]"),
    "set": changes("{1, 2}", "x.discard(1)", "x == {2}"),
    "bytearray": changes("bytearray(b'ab')", "x += b'c'", "x == b'abc'"),
    "memoryview": Row(
        "",
        "b = bytearray(b'ab')\ncandidate(memoryview(b))\nassert b == b'Ab'\n",
        "def solve(x): x[0] = 65\n",
    ),
    "array": changes("array.array('i', [1])", "x.append(2)", "list(x) == [1, 2]", COLLECTIONS),
    "deque": changes("collections.deque([1])", "x.appendleft(0)", "x[0] == 0", COLLECTIONS),
    "Counter": changes("collections.Counter('ab')", "x['a'] += 1", "x['a'] == 2", COLLECTIONS),
    "OrderedDict": changes(
        "collections.OrderedDict(a=1, b=2)",
        "x.move_to_end('a')",
        "[*x] == ['b', 'a']",
        COLLECTIONS,
    ),
    "UserList": changes("collections.UserList([1])", "x.append(2)", "x == [1, 2]", COLLECTIONS),
    "ChainMap": changes("collections.ChainMap({})", "x[1] = 2", "x.maps == [{1: 2}]", COLLECTIONS),
    "object": changes("Point(1, 2)", "x.x = 5; x.z = [1]", "(x.x, x.z) == (5, [1])", POINT),
    "object in a dict": changes("{1: Point(1, 2)}", "x[1].x = 5", "x[1].x == 5", POINT),
    "equal, but another type": changes("[1, 0.0]", "x[:] = [True, -0.0]", "x[0] is True"),
    "sign of a zero": changes("[0.0]", "x[0] = -0.0", "str(x[0]) == '-0.0'"),
    "keyword argument": Row(
        "", "x = []\ncandidate(a=x)\nassert x == [1]\n", "def solve(a): a.append(1)\n"
    ),
    "before it raises": Row(
        "",
        "x = []\ntry: candidate(x)\nexcept ValueError: pass\nassert x == [1]\n",
        "def solve(x):\n    x.append(1)\n    raise ValueError\n",
    ),
    "holds itself": changes("[]", "x.append(x)", "x[0] is x"),
    "while a generator is read": Row(
        "",
        "x = []\nassert list(candidate(x)) == [1]\nassert x == [1]\n",
        "def solve(x):\n    x.append(1)\n    yield 1\n",
    ),
    "item of a frozen object": Row(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass Held:\n    items: list\n",
        "h = Held([])\ncandidate(h)\nassert h == Held([1])\n",
        "def solve(h): h.items.append(1)\n",
    ),
}

IDENTITY = {
    "the argument itself": Row(
        "", "x = [1]\nassert candidate(x) is x\n", "def solve(x): return x\n"
    ),
    "part of the argument": Row(
        "", "x = [[1], {}]\nassert candidate(x) is x[1]\n", "def solve(x): return x[1]\n"
    ),
    "an answer that holds it": Row(
        "", "x = []\nassert candidate(x)['a'][0] is x\n", "def solve(x): return {'a': (x,)}\n"
    ),
    "one list twice": Row(
        "",
        "x = []\nassert candidate(x, x) and not candidate([], [])\nassert x == [1]\n",
        "def solve(a, b):\n    a.append(1)\n    return a is b\n",
    ),
    "swapped items": Row(
        "",
        "a, b = [1], [2]\nx = [a, b]\ncandidate(x)\nassert x[0] is b and x[1] is a\n",
        "def solve(x): x.reverse()\n",
    ),
    "object of the program": Row(
        "",
        "n, m = Node(), Node()\nassert candidate(n, m) is m\n",
        "class Node: pass\ndef solve(a, b): return b\n",
    ),
    "function of the tests": Row(
        "",
        "f = lambda: 0\nassert candidate(f) is f and candidate(len) is len\n",
        "def solve(f): return f\n",
    ),
    "exception of the tests": Row(
        "",
        "e = ValueError(1)\n"
        "class Own(ValueError): pass\n"
        "def fail(): raise own\n"
        "own = Own('x', [2])\n"
        "try: candidate(fail)\nexcept Own as caught: assert caught is own\n"
        "else: assert False\n",
        "def solve(f): return f()\n",
    ),
}

CALLBACKS = {
    "key": Row(
        "",
        "assert candidate(['bb', 'a'], len) == ['a', 'bb']\n"
        "assert candidate([1, -3], lambda n: -n) == [1, -3]\n",
        "def solve(x, key): return sorted(x, key=key)\n",
    ),
    "function of a standard module": Row(
        "import operator, math, functools",
        "assert candidate(operator.add, 3, 4) == 7 and candidate(math.hypot, 3, 4) == 5\n"
        "assert candidate(functools.partial(max, 9), 3, 4) == 9\n"
        "assert candidate(str.join, '-', ['a', 'b']) == 'a-b'\n",
        "def solve(f, a, b): return f(a, b)\n",
    ),
    "keyword arguments": Row(
        "",
        "assert candidate(lambda a, *, b: [a, b]) == [1, 2]\n",
        "def solve(f): return f(1, b=2)\n",
    ),
    "counts its calls": Row(
        "",
        "seen = []\nassert candidate(seen.append, 3) is None and seen == [0, 1, 2]\n",
        "def solve(f, n):\n    for i in range(n): f(i)\n",
    ),
    "kept for a later call": Row(
        "",
        "seen = []\nevents = candidate()\nevents.on(seen.append)\nevents.emit(5)\n"
        "assert seen == [5]\n",
        "class Events:\n    def on(self, f): self.f = f\n    def emit(self, x): self.f(x)\n"
        "def solve(): return Events()\n",
    ),
    "raises": Row(
        "",
        "def fail(x): raise KeyError(x)\nassert candidate(fail) == (3,)\n",
        "def solve(f):\n    try: f(3)\n    except KeyError as error: return error.args\n",
    ),
    "ends an iteration": Row(
        "",
        "it = iter([1, 2])\nassert candidate(it.__next__) == [1, 2]\n",
        "def solve(f):\n    out = []\n    try:\n        while True: out.append(f())\n"
        "    except StopIteration: return out\n",
    ),
    "changes what it is given": Row(
        "",
        "assert candidate(lambda x: x.append(2)) == [1, 2]\n",
        "def solve(f):\n    x = [1]\n    f(x)\n    return x\n",
    ),
    "sees a change so far": Row(
        "",
        "x, seen = [1, 2], []\ncandidate(x, lambda: seen.append(list(x)))\n"
        "assert seen == [[2, 2], [2, 1]] and x == [2, 1]\n",
        "def solve(x, f):\n    x[0] = 2\n    f()\n    x[1] = 1\n    f()\n",
    ),
    "makes a change that is seen": Row(
        "",
        "x = [1]\nassert candidate(x, lambda: x.append(2)) == [1, 2]\nassert x == [1, 2, 3]\n",
        "def solve(x, f):\n    f()\n    y = list(x)\n    x.append(3)\n    return y\n",
    ),
    "calls the program": Row(
        "",
        "assert candidate(5, lambda n, f: n * candidate(n - 1, f) if n else 1) == 120\n",
        "def solve(n, f): return f(n, f)\n",
    ),
    "is a function of the program": Row(
        "",
        "assert candidate(helper) == 4\n",
        "def helper(x): return x + 1\ndef solve(f): return f(3)\n",
    ),
    "gets and gives objects": Row(
        POINT,
        "assert candidate(lambda p: Point(p.y, p.x)) == [2, 1]\n",
        "def solve(f):\n    p = f(Point(1, 2))\n    return [p.x, p.y]\n",
    ),
    "its own list": Row(
        "",
        "kept = []\ncandidate(lambda: kept)\nassert kept == [1]\n",
        "def solve(f): f().append(1)\n",
    ),
}

ITERATORS = {
    "generator": Row(
        "",
        "assert candidate(i * i for i in range(4)) == 14\n",
        "def solve(x): return sum(x)\n",
    ),
    "endless": Row(
        "import itertools",
        "assert candidate(itertools.count(5)) == [5, 6]\n",
        "def solve(x): return [next(x), next(x)]\n",
    ),
    "is read no further": Row(
        "",
        "it = iter([1, 2, 3])\nassert candidate(it) == 1 and next(it) == 2\n",
        "def solve(x): return next(x)\n",
    ),
    "fails": Row(
        "",
        "def items():\n    yield 1\n    raise KeyError(7)\n"
        "try:\n    candidate(items())\n    assert False\n"
        "except KeyError as error: assert error.args == (7,)\n",
        "def solve(x): return list(x)\n",
    ),
    "returned": Row(
        "",
        "got = candidate(3)\nassert next(got) == 0 and list(got) == [1, 2]\n",
        "def solve(n): yield from range(n)\n",
    ),
}

EXCEPTIONS = {
    "args": Row(
        "",
        f"{RAISES}except KeyError as e: assert e.args == (3,) and str(e) == '3'\n",
        "def solve(x): raise KeyError(x)\n",
    ),
    "several args": Row(
        "",
        f"{RAISES}except ValueError as e: assert e.args == ('a', [1], {{2: 3}})\n",
        "def solve(x): raise ValueError('a', [1], {2: 3})\n",
    ),
    "attributes of an OSError": Row(
        "",
        f"{RAISES}except FileNotFoundError as e: assert (e.errno, e.filename) == (2, 'nowhere')\n",
        "def solve(x): open('nowhere')\n",
    ),
    "class of the set-up": Row(
        KEPT,
        f"{RAISES}except Kept as e: assert (e.args, e.b) == ((1,), [2])\n",
        "def solve(x): raise Kept(1, [2])\n",
    ),
    "derived from one of the set-up": Row(
        KEPT,
        f"{RAISES}except Kept as e: assert e.b == 7\n",
        "class Own(Kept): pass\ndef solve(x): raise Own(1, 7)\n",
    ),
    "text of the program's own class": Row(
        "",
        f"{RAISES}except LookupError as e: assert str(e) == 'it is 3'\n",
        "class Own(LookupError):\n    def __str__(self): return f'it is {self.args[0]}'\n"
        "def solve(x): raise Own(x)\n",
    ),
    "a group": Row(
        "",
        f"{RAISES}except* ValueError as e: assert e.exceptions[0].args == (4,)\n",
        "def solve(x): raise ExceptionGroup('two', [ValueError(4)])\n",
    ),
    "umlauts": Row(
        "",
        f"{RAISES}except ValueError as e: assert str(e) == '\\xe4\\u20ac'\n",
        "def solve(x): raise ValueError('\\xe4\\u20ac')\n",
    ),
}

GROUPS = {
    "strings": STRINGS,
    "kinds": KINDS,
    "in place": IN_PLACE,
    "identity": IDENTITY,
    "callbacks": CALLBACKS,
    "iterators": ITERATORS,
    "exceptions": EXCEPTIONS,
}
ROWS = {f"{group}: {name}": row for group, rows in GROUPS.items() for name, row in rows.items()}

VECTOR = (
    "class Vector:\n    def __init__(self, x): self.x = x\n    def __len__(self): return self.x\n"
    "    def __eq__(self, other): return self.x == other.x\n"
)
NOT_SUPPORTED = {
    # (row, what the outcome says)
    "equality of the program's own class": (
        Row("", "assert candidate(1) == Vector(1)\n", f"{VECTOR}def solve(x): return Vector(x)\n"),
        "AssertionError",
    ),
    "operators of the program's own class": (
        Row("", "assert len(Vector(2)) == 2\n", f"{VECTOR}def solve(x): pass\n"),
        "TypeError",
    ),
    "change by a later call": (
        Row(
            "",
            "x = []\nobject = candidate(x)\nobject.add(1)\nassert x == [1]\n",
            "class Held:\n    def __init__(self, x): self.x = x\n"
            "    def add(self, n): self.x.append(n)\ndef solve(x): return Held(x)\n",
        ),
        "AssertionError",
    ),
    "identity of a tuple": (
        Row("", "x = (1, [2])\nassert candidate(x) is x\n", "def solve(x): return x\n"),
        "AssertionError",
    ),
    "identity over two calls": (
        Row("", "assert candidate() is candidate()\n", "kept = []\ndef solve(): return kept\n"),
        "AssertionError",
    ),
    "class of the tests": (
        Row("", "class Own: n = 3\nassert candidate(Own()) == 3\n", "def solve(x): return x.n\n"),
        "define it in setup_code",
    ),
    "files": (
        Row(
            "import io",
            "assert candidate(io.BytesIO(b'a')) == b'a'\n",
            "def solve(x): return x.read()\n",
        ),
        "has no attribute 'read'",
    ),
    "path that can be opened": (
        Row(
            "import pathlib",
            "assert not candidate('nowhere').exists()\n",
            "import pathlib\ndef solve(x): return pathlib.Path(x)\n",
        ),
        "has no attribute 'exists'",
    ),
    "more than 10,000 items of an iterator": (
        Row(
            "import itertools",
            "assert next(itertools.islice(candidate(), 10000, None)) == 10000\n",
            "import itertools\ndef solve(): return itertools.count()\n",
        ),
        "StopIteration",
    ),
    "assertion that the program catches": (
        Row(
            "",
            "def fail(): assert False, 'never'\nassert candidate(fail) == 1\n",
            "def solve(f):\n    try: f()\n    except AssertionError: return 1\n",
        ),
        "never",
    ),
    "1,001 items seen by a callback": (
        Row(
            "",
            "x, seen = [0] * 1001, []\ncandidate(x, lambda: seen.append(x[0]))\n"
            "assert seen == [1]\n",
            "def solve(x, f):\n    x[0] = 1\n    f()\n",
        ),
        "AssertionError",
    ),
    "150 tuples in one another": (
        Row(
            "",
            "assert candidate()\n",
            "def solve():\n    t = ()\n    for _ in range(150): t = (t,)\n    return t\n",
        ),
        "nested too deeply",
    ),
    "more than a MiB": (
        Row("", "assert len(candidate()) > 5\n", "def solve(): return 'x' * (2 << 20)\n"),
        "more than the allowed 1048576",
    ),
    "cause of an exception": (
        Row(
            "",
            f"{RAISES}except ValueError as e: assert type(e.__cause__) is KeyError\n",
            "def solve(x): raise ValueError from KeyError(x)\n",
        ),
        "AssertionError",
    ),
}
"""Right programs that fail here, with what the outcome says."""
