"""Messages that a hostile program sends in the sandbox's place, and what becomes of them."""

from knexa.evaluation import Outcome

# Sends messages of its own making in place of the server's; {"v": [4]} answers solve(2) right.
FORGE = """
import gc, json, marshal, socket, struct
def channel():
    found = [each for each in gc.get_objects() if isinstance(each, socket.socket)]
    return next(each for each in found if each.fileno() >= 0)
def send(message):
    text = json.dumps(message).encode()
    channel().sendall(struct.pack("!I", len(text)) + text)
def receive():
    data = channel().recv(1 << 20)
    return marshal.loads(data[4:])
def solve(*args):
    BODY
    import time
    time.sleep(60)
"""


def forge(body: str) -> str:
    return FORGE.replace("BODY", body.replace("\n", "\n    "))


SETUP = (
    "import collections, enum, functools\nclass Color(enum.Enum): RED = 1\n"
    "class Box:\n    def __init__(self, v): self.v = v\n    def is_full(self): return self.v == 9\n"
    "    @functools.cached_property\n    def twice(self): return 2 * self.v\n"
    "Pair = collections.namedtuple('Pair', 'a b')\n"
)
HELD = "held, seen, box = [1], [], Box(1)\n"
LIST, BOX = "candidate(held)", "candidate(box)"
DEEP = "[" * 100_000
# What the tests do, and what the program sends: each is refused.
FORGED = {
    "change of nothing shared": (LIST, 'send({"v": [4], "changed": [[7, [1]]]})'),
    "change by a negative number": (LIST, 'send({"v": [4], "changed": [[-1, [1]]]})'),
    "change by a number that is true": (LIST, 'send({"v": [4], "changed": [[True, [1]]]})'),
    "change without a number": (LIST, 'send({"v": [4], "changed": [[None, [1]], 3]})'),
    "change of an argument that cannot change": (
        "candidate(iter([1]))",
        'send({"v": [4], "changed": [[0, [1]]]})',
    ),
    "change to a range": (
        LIST,
        'send({"v": [4], "changed": [[0, {"t": "range", "v": ["0x0", "0xffffffffffff", "0x1"]}]]})',
    ),
    "list that becomes an object": (
        LIST,
        'send({"v": [4], "changed": [[0, {"t": "object", "x": ["Box", None], "v": [0]}]]})',
    ),
    "unhashable items of a set": (
        "candidate({1})",
        'send({"v": [4], "changed": [[0, [[1]]]]})',
    ),
    "unhashable keys of a dict": (
        "candidate({1: 2})",
        'send({"v": [4], "changed": [[0, [[1], 2]]]})',
    ),
    "dict with an odd key": ("candidate({1: 2})", 'send({"v": [4], "changed": [[0, [1, 2, 3]]]})'),
    "bytes that are none": (
        "candidate(bytearray(b'a'))",
        'send({"v": [4], "changed": [[0, [5]]]})',
    ),
    "bytes of a viewed array that grow": (
        "candidate(memoryview(bytearray(b'a')))",
        'send({"v": [4], "changed": [[0, ["616263"]]]})',
    ),
    "attributes without names": (BOX, 'send({"v": [4], "changed": [[0, [2, 5, 5]]]})'),
    "attributes beyond the state": (BOX, 'send({"v": [4], "changed": [[0, [900, "v", 5]]]})'),
    "method hidden by an attribute": (
        "assert candidate(box).is_full()",
        'send({"v": [{"t": "object", "x": ["Box", None], "v": [2, "is_full", '
        '{"t": "ref", "v": 0}]}]})',
    ),
    "method of an argument hidden": (
        f"{BOX}\nassert box.is_full()",
        'send({"v": [4], "changed": [[0, [2, "is_full", {"t": "type", "v": "object"}]]]})',
    ),
    "class that is not of the set-up": (
        BOX,
        'send({"v": [{"t": "object", "x": ["RemoteValue", None], "v": [0]}]})',
    ),
    "constructor of a class of the set-up": (
        BOX,
        'send({"v": [{"t": "enum", "x": ["Box", 9]}]})',
    ),
    "member that an enumeration lacks": (
        BOX,
        'send({"v": [{"t": "object", "x": ["Color", None], "v": [2, "_value_", 9]}]})',
    ),
    "named tuple of a range": (
        BOX,
        'send({"v": [{"t": "object", "x": ["Pair", '
        '{"t": "range", "v": ["0x0", "0xffffffffffff", "0x1"]}], "v": [0]}]})',
    ),
    "reference out of range": (LIST, 'send({"v": [{"t": "seen", "v": 99}]})'),
    "reference to what comes": (LIST, 'send({"v": [{"t": "seen", "v": 1}, [4]]})'),
    "reference before the first": (LIST, 'send({"v": [{"t": "seen", "v": -1}]})'),
    "two answers in one": (LIST, 'send({"v": [4, 4]})'),
    "no answer": (LIST, 'send({"v": []})'),
    "not a list of answers": (LIST, 'send({"v": {"t": "range", "v": ["0x0", "0xffffff", "0x1"]}})'),
    "nothing behind": (LIST, 'send({"v": [{"t": "list", "behind": True}]})'),
    "something behind nothing": (
        LIST,
        'send({"v": [{"t": "list", "behind": True}], "behind": []})',
    ),
    "behind is a number": (LIST, 'send({"v": [4], "behind": 5})'),
    "function that was never handed out": (
        LIST,
        'send({"call": 0, "v": [], "names": []}); receive(); send({"v": [4]})',
    ),
    "function by a negative number": (
        "candidate(seen.append)",
        'send({"call": -1, "v": [1], "names": []}); receive(); send({"v": [4]})',
    ),
    "function by its name": (
        LIST,
        'send({"call": "print", "v": [1], "names": []}); receive(); send({"v": [4]})',
    ),
    "standard function as a value": (
        "candidate(held)('')",
        'send({"v": [{"t": "global", "v": ["os", "system"]}]})',
    ),
    "function of the tests that was not handed out": (
        "candidate(held)()",
        'send({"v": [{"t": "callback", "v": 0, "x": "f"}]})',
    ),
    "name of the program's as a function": (
        "candidate(held)()",
        'send({"v": [{"t": "named", "v": "check"}]})',
    ),
    "call with names that are none": (
        "candidate(seen.append)",
        'send({"call": 0, "v": [1], "names": [5]}); receive(); send({"v": [4]})',
    ),
    "call with more names than values": (
        "candidate(seen.append)",
        'send({"call": 0, "v": [1], "names": ["a", "b"]}); receive(); send({"v": [4]})',
    ),
    "call without values": (
        "candidate(seen.append)",
        'send({"call": 0}); receive(); send({"v": [4]})',
    ),
    "deep answer": (
        LIST,
        f"import struct\nt = b'{DEEP}'\nchannel().sendall(struct.pack('!I', len(t)) + t)",
    ),
    "deep answer of pieces": (
        LIST,
        'd = 4\nfor _ in range(5000): d = {"t": "tuple", "v": [d]}\n'
        "import sys; sys.setrecursionlimit(10**6); send({'v': [d]})",
    ),
    "huge answer": (LIST, 'send({"v": ["x" * (9 << 20)]})'),
    "huge change": (LIST, 'send({"v": [4], "changed": [[0, ["x" * (9 << 20)]]]})'),
    "exception without a class": (
        LIST,
        'send({"v": [{"t": "error", "v": [[], "", [], []]}], "raised": True})',
    ),
    "exception with odd attributes": (
        LIST,
        'send({"v": [{"t": "error", "v": [["ValueError"], "", [], [1, 2, 3]]}], "raised": True})',
    ),
    "exception of a million classes": (
        LIST,
        'send({"v": [{"t": "error", "v": [["X"] * 100000, "", [], []]}], "raised": True})',
    ),
    "type of no name": (LIST, 'send({"v": [{"t": ["type"], "v": "int"}]})'),
    "UserList of a string": (LIST, 'send({"v": [{"t": "UserList", "v": "abc"}]})'),
    "UserString of a list": (LIST, 'send({"v": [{"t": "UserString", "v": [4]}]})'),
    "ChainMap of nothing": (LIST, 'send({"v": [{"t": "ChainMap", "v": []}]})'),
    "array of strings": (LIST, 'send({"v": [{"t": "array", "v": ["00"], "x": "u"}]})'),
    "array of half a number": (LIST, 'send({"v": [{"t": "array", "v": ["00"], "x": "d"}]})'),
    "memoryview of a proxy": (
        LIST,
        'send({"v": [{"t": "memoryview", "v": [{"t": "ref", "v": 0}, "B"]}]})',
    ),
    "path of a number": (LIST, 'send({"v": [{"t": "PosixPath", "v": 5}]})'),
    "items of ranges": (
        LIST,
        'send({"v": [{"t": "items", "v": [{"t": "range", "v": ["0x0", "0xffffffffff", "0x1"]}]}]})',
    ),
}
# What crosses, but buys nothing and costs no more than the limits.
ENDURED = {
    "more lists than memory holds": (
        "candidate(seen.append)",
        'while True: send({"call": 0, "v": [[[]] * 200000], "names": []}); receive()',
    ),
    "cached answer of a method": (
        "assert candidate(box).twice == 8",
        'send({"v": [{"t": "object", "x": ["Box", None], "v": [4, "v", 1, "twice", 8]}]})',
    ),
    "endless calls": (
        "candidate(seen.append)",
        'while True: send({"call": 0, "v": [1], "names": []}); receive()',
    ),
    "assertion that it catches": (
        "def f(x): assert x == 4\ncandidate(f)",
        'send({"call": 0, "v": [5], "names": []}); receive(); send({"v": [4]})',
    ),
    "change that holds itself": (
        f"{LIST}\nassert held == [held, 1]",
        'send({"v": [4], "changed": [[0, [{"t": "seen", "v": 0}]]]})',
    ),
    "cyclic answer compared": (
        "assert candidate(held) == candidate(held)",
        'send({"v": [[{"t": "seen", "v": 1}]]}); receive(); '
        'send({"v": [[[{"t": "seen", "v": 1}]]]})',
    ),
    "answer of 2 ** 60 parts": (
        "assert sum(map(len, map(repr, candidate(held)))) == 4",
        'send({"v": [[[], *([{"t": "seen", "v": n}] * 2 for n in range(2, 60))]]})',
    ),
    "hash of 2 ** 40 parts": (
        "candidate(Pair(1, 2))",
        'd = {"t": "object", "x": ["Pair", {"t": "tuple", "v": [1, 2]}], "v": [0]}\n'
        'p = lambda n: {"t": "seen", "v": n}\n'
        'def pair(n): return {"t": "object", "x": ["Pair", {"t": "tuple", "v": '
        '[pair(n - 1), p(n + 1)]}], "v": [0]} if n else d\n'
        'send({"v": [{"t": "set", "v": [pair(40)]}]})',
    ),
    "exception that is none": (LIST, 'send({"v": [4], "raised": True})'),
    "defaultdict of a function": (
        "assert candidate(held)['missing'] == 4",
        'send({"v": [{"t": "defaultdict", "v": [], "x": {"t": "ref", "v": 0}}]})',
    ),
    "ChainMap of itself": (
        "candidate(held)[1]",
        'send({"v": [{"t": "ChainMap", "v": [{"t": "seen", "v": 1}]}]})',
    ),
}
ENDS = {
    "more lists than memory holds": (Outcome.TIMEOUT, ""),
    "cached answer of a method": (Outcome.FAILED, "AssertionError"),
    "endless calls": (Outcome.TIMEOUT, "cpu limit"),
    "assertion that it catches": (Outcome.FAILED, "AssertionError"),
    "change that holds itself": (Outcome.FAILED, "AssertionError"),
    "cyclic answer compared": (Outcome.FAILED, "RecursionError"),
    "answer of 2 ** 60 parts": (Outcome.TIMEOUT, "too long"),
    "hash of 2 ** 40 parts": (Outcome.TIMEOUT, "too long"),
    "exception that is none": (Outcome.CRASHED, "no exception"),
    "defaultdict of a function": (Outcome.FAILED, "KeyError"),
    "ChainMap of itself": (Outcome.FAILED, "RecursionError"),
}
