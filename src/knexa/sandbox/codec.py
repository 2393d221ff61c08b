"""Encoding of values that cross between the tests and a program under test.

A program answers in JSON with tagged objects, so decoding runs none of its code: a hostile program
can choose *which* value arrives, never what the value does. Requests to it use Python's faster
``marshal``, whose reader trusts the writer. Scalars, containers, numbers of
``decimal``/``fractions``, dates and ranges cross by value; iterators are consumed (at most
``MAX_ITEMS`` items) and arrive as iterators; instances of classes that both sides know arrive as
(class name, attributes); anything else arrives as an opaque ``Handle`` that only the program's side
can use. Standard library only: the file also runs in interpreters without site packages.
"""

import builtins
import collections
import datetime
import decimal
import fractions
import itertools
import json
import marshal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

MAX_DEPTH = 60
"""Containers nested deeper than this do not cross."""
MAX_ITEMS = 10_000
"""An iterator is cut off after this many items."""
_HEADER = struct.Struct("!I")
_FIRST_READ = 1 << 14  # bytes: most messages are shorter and come with one call
_JSON = json.JSONEncoder(separators=(",", ":"))
_SMALL = 1 << 62
_MAX_PART = 4096  # hexadecimal digits of a fraction's part: reducing it costs their square


class CodecError(ValueError):
    """The value cannot cross, or what arrived is not a message."""


class Handle:
    """An opaque value on the program's side; ``index`` is its number there.

    It equals nothing but itself, so returning one cannot pass a test.
    """

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


Fallback = Callable[[Any, int], Any]
_DICTS: tuple[type, ...] = (collections.Counter, collections.defaultdict, dict)
_SEQUENCES: tuple[Any, ...] = (tuple, list, set, frozenset)
_VIEWS: dict[type, str] = {
    type({}.keys()): "keys",
    type({}.values()): "values",
    type({}.items()): "items",
}


def encode(value: Any, fallback: Fallback, depth: int = 0) -> Any:
    """Return ``value`` as JSON-able data; other types are passed to ``fallback``.

    Raises:
        CodecError: Nested deeper than ``MAX_DEPTH`` (or cyclic).
    """
    if value is None or value is True or value is False:
        return value
    if depth > MAX_DEPTH:
        raise CodecError("nested too deeply")
    kind = type(value)
    if kind is str or kind is float:
        return value
    if kind is int:
        return value if -_SMALL < value < _SMALL else {"t": "int", "v": hex(value)}
    if kind is list:
        return [encode(item, fallback, depth + 1) for item in value]
    tagged = _TAGGED.get(kind)
    if tagged is not None:
        return {"t": kind.__name__, "v": tagged(value, fallback, depth + 1)}
    return _encode_rare(value, fallback, depth)


def _items(value: Any, fallback: Fallback, depth: int) -> list[Any]:
    return [encode(item, fallback, depth) for item in itertools.islice(value, MAX_ITEMS * 100)]


def _pairs(value: dict[Any, Any], fallback: Fallback, depth: int) -> list[Any]:
    return [
        [encode(key, fallback, depth), encode(item, fallback, depth)]
        for key, item in dict.items(value)
    ]


_TAGGED: dict[type, Callable[[Any, Fallback, int], Any]] = {
    tuple: _items,
    set: _items,
    frozenset: _items,
    collections.deque: _items,
    dict: _pairs,
    collections.Counter: _pairs,
    collections.OrderedDict: _pairs,
    collections.defaultdict: _pairs,
    bytes: lambda value, _f, _d: value.hex(),
    bytearray: lambda value, _f, _d: value.hex(),
    complex: lambda value, _f, _d: [value.real, value.imag],
    decimal.Decimal: lambda value, _f, _d: str(value),
    fractions.Fraction: lambda value, _f, _d: [hex(value.numerator), hex(value.denominator)],
    datetime.datetime: lambda value, _f, _d: value.isoformat(),
    datetime.date: lambda value, _f, _d: value.isoformat(),
    datetime.time: lambda value, _f, _d: value.isoformat(),
    datetime.timedelta: lambda value, _f, _d: [value.days, value.seconds, value.microseconds],
    range: lambda value, _f, _d: [hex(value.start), hex(value.stop), hex(value.step)],
}


def _encode_rare(value: Any, fallback: Fallback, depth: int) -> Any:
    """Encode types, views, iterators and subclasses; reads through the base class's methods."""
    for name, builtin in _TYPES.items() if isinstance(value, type) else ():
        if builtin is value:
            return {"t": "type", "v": name}
    view = _VIEWS.get(type(value))
    if view is not None:
        return {"t": view, "v": _items(value, fallback, depth + 1)}
    if isinstance(value, (bool, int)):
        return encode(int.__index__(value), fallback, depth)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, dict):
        name = next(base.__name__ for base in _DICTS if isinstance(value, base))
        return {"t": name, "v": _pairs(value, fallback, depth + 1)}
    for base in _SEQUENCES:
        if isinstance(value, base):
            content = _items(base.__iter__(value), fallback, depth + 1)
            return content if base is list else {"t": base.__name__, "v": content}
    if isinstance(value, Iterator):
        drawn = itertools.islice(value, MAX_ITEMS)
        return {"t": "iter", "v": [encode(item, fallback, depth + 1) for item in drawn]}
    return fallback(value, depth)


def decode(data: Any, fallback: Callable[[dict[str, Any], int], Any], depth: int = 0) -> Any:
    """Return the value that ``encode`` wrote; unknown tags go to ``fallback(data, depth)``.

    Raises:
        CodecError: The data does not describe a value.
    """
    if depth > 4 * MAX_DEPTH:  # a dict is four levels of data
        raise CodecError("nested too deeply")
    if isinstance(data, list):
        return [decode(item, fallback, depth + 1) for item in data]
    if not isinstance(data, dict):
        return data
    tag, content = data.get("t"), data.get("v")
    maker = _MAKERS.get(tag) if isinstance(tag, str) else None
    if maker is None:
        return fallback(data, depth)
    try:
        if tag in _NESTED:
            content = decode(content, fallback, depth + 1)
            _check_items(tag, content)
        return maker(content)
    except (TypeError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        raise CodecError(f"not a {tag}: {error}") from None


def _check_items(tag: Any, content: Any) -> None:
    """Accept lists only: a forged range takes a few bytes, but its items all memory."""
    if type(content) is not list:
        raise TypeError("its items are no list")
    if tag in _OF_PAIRS and not all(type(pair) in (list, tuple) for pair in content):
        raise TypeError("its items are no pairs")


def _fraction(content: Any) -> fractions.Fraction:
    if max(map(len, content)) > _MAX_PART:
        raise ValueError("its parts are too long")
    return fractions.Fraction(int(content[0], 16), int(content[1], 16))


_TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
_NESTED = frozenset(
    (
        *("tuple", "set", "frozenset", "deque", "dict", "Counter", "OrderedDict", "defaultdict"),
        *("keys", "values", "items", "iter"),
    )
)
_OF_PAIRS = frozenset(("dict", "Counter", "OrderedDict", "defaultdict", "items"))
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "dict": dict,
    "Counter": lambda content: collections.Counter(dict(content)),
    "OrderedDict": collections.OrderedDict,
    # The factory is code and does not cross; equality ignores it.
    "defaultdict": lambda content: collections.defaultdict(None, content),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda content: complex(float(content[0]), float(content[1])),
    "Decimal": decimal.Decimal,
    "Fraction": _fraction,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda content: datetime.timedelta(*map(int, content)),
    "range": lambda content: range(*(int(part, 16) for part in content)),
    "keys": lambda content: dict.fromkeys(content).keys(),
    "values": lambda content: dict(enumerate(content)).values(),
    "items": lambda content: dict(content).items(),
    "iter": iter,
    "type": lambda content: _TYPES[content],
}


def send(channel: socket.socket, message: Any, limit: int = 1 << 31) -> None:
    """Write one length-prefixed message.

    Raises:
        CodecError: Larger than ``limit`` bytes, or not JSON-able.
        OSError: The other side is gone.
    """
    try:
        payload = _JSON.encode(message).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise CodecError(str(error)) from None
    if len(payload) > limit:
        raise CodecError(f"{len(payload)} bytes are more than the allowed {limit}")
    channel.sendall(_HEADER.pack(len(payload)) + payload)


def receive(channel: socket.socket, limit: int = 1 << 31, *, more_may_follow: bool = False) -> Any:
    """Read one message; with ``more_may_follow``, leave later ones in the channel.

    Raises:
        CodecError: Larger than ``limit`` bytes, or not one message.
        EOFError: The other side closed.
        TimeoutError: The channel's timeout passed.
    """
    payload = _read(channel, limit, _HEADER.size if more_may_follow else _FIRST_READ)
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not a message: {error}") from None


def send_request(channel: socket.socket, request: dict[str, Any]) -> None:
    """Send one request to a program, which ``receive_request`` reads.

    Raises:
        CodecError: It holds more than plain data.
        OSError: The other side is gone.
    """
    try:
        payload = marshal.dumps(request)
    except ValueError as error:
        raise CodecError(str(error)) from None
    channel.sendall(_HEADER.pack(len(payload)) + payload)


def receive_request(channel: socket.socket) -> dict[str, Any]:
    """Read a request of the verifier. Never used on a program's bytes, which could crash it.

    Raises:
        EOFError: The other side closed.
    """
    request: dict[str, Any] = marshal.loads(_read(channel, 1 << 31))
    return request


def _read(channel: socket.socket, limit: int, first_read: int = _FIRST_READ) -> bytes:
    data = channel.recv(first_read)
    while len(data) < _HEADER.size:
        data += _more(channel, _HEADER.size - len(data))
    (size,) = _HEADER.unpack_from(data)
    if size > limit:
        raise CodecError(f"{size} bytes are more than the allowed {limit}")
    missing = _HEADER.size + size - len(data)
    if missing < 0:
        raise CodecError("not one message")
    if not missing:
        return data[_HEADER.size :]
    chunks = bytearray(data[_HEADER.size :])
    while len(chunks) < size:
        chunks += _more(channel, min(size - len(chunks), 1 << 20))
    return bytes(chunks)


def _more(channel: socket.socket, size: int) -> bytes:
    chunk = channel.recv(size)
    if not chunk:
        raise EOFError
    return chunk
