"""Messages between verifier and program, and plain values as data.

A program answers in JSON with tagged objects, so decoding runs none of its code: a hostile program
can choose *which* value arrives, never what the value does. Requests to it use Python's faster
``marshal``, whose reader trusts the writer. Here are the values that nobody can change (numbers,
texts, dates, paths); containers and objects are in ``values``. Standard library only: the file
also runs in interpreters without site packages.
"""

import builtins
import datetime
import decimal
import fractions
import importlib
import json
import marshal
import socket
import struct
from collections.abc import Callable
from typing import Any

_HEADER = struct.Struct("!I")
_FIRST_READ = 1 << 14  # bytes: most messages are shorter and come with one call
_DECODER = json.JSONDecoder()
_SMALL = 1 << 62
_MAX_PART = 4096  # hexadecimal digits of a fraction's part: reducing it costs their square


class CodecError(ValueError):
    """The value cannot cross, or what arrived is not a message."""


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is no plain data")


# JSONEncoder.encode makes one for each message, which takes longer than a short message. Its
# strings are not escaped to ASCII: two lone surrogates would read as one character.
_encode_json = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, _refuse, json.encoder.encode_basestring, None, ":", ",", False, False, True
)


def encode_int(value: int) -> Any:
    """Return an integer as data; long ones in hexadecimal, which is read in linear time."""
    return value if -_SMALL < value < _SMALL else {"t": "int", "v": hex(value)}


def are_plain(values: Any) -> bool:
    """Return whether all items of an iterable are data as they are."""
    kinds = set(map(type, values))
    if kinds <= _ATOMS:
        return True
    return kinds == {int} and min(values) > -_SMALL and max(values) < _SMALL


def _timezone(value: datetime.timezone) -> list[Any]:
    offset = value.utcoffset(None)
    return [offset.days, offset.seconds, offset.microseconds]


def _fraction(content: Any) -> fractions.Fraction:
    if max(map(len, content)) > _MAX_PART:
        raise ValueError("its parts are too long")
    return fractions.Fraction(int(content[0], 16), int(content[1], 16))


_ATOMS: frozenset[type] = frozenset((str, float, bool, type(None)))
WRITERS: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys(_ATOMS, lambda value: value),
    int: encode_int,
    bytes: lambda value: {"t": "bytes", "v": value.hex()},
    complex: lambda value: {"t": "complex", "v": [value.real, value.imag]},
    decimal.Decimal: lambda value: {"t": "Decimal", "v": str(value)},
    fractions.Fraction: lambda value: {
        "t": "Fraction",
        "v": [hex(value.numerator), hex(value.denominator)],
    },
    datetime.datetime: lambda value: {"t": "datetime", "v": value.isoformat()},
    datetime.date: lambda value: {"t": "date", "v": value.isoformat()},
    datetime.time: lambda value: {"t": "time", "v": value.isoformat()},
    datetime.timedelta: lambda value: {
        "t": "timedelta",
        "v": [value.days, value.seconds, value.microseconds],
    },
    datetime.timezone: lambda value: {"t": "timezone", "v": _timezone(value)},
    range: lambda value: {"t": "range", "v": [hex(value.start), hex(value.stop), hex(value.step)]},
}
"""By exact type: how a plain value becomes data."""

TYPES = {name: kind for name, kind in vars(builtins).items() if isinstance(kind, type)}
"""The built-in types, which cross by name."""
READERS: dict[str, Callable[[Any], Any]] = {
    "int": lambda content: int(content, 16),
    "bytes": bytes.fromhex,
    "complex": lambda content: complex(float(content[0]), float(content[1])),
    "Decimal": decimal.Decimal,
    "Fraction": _fraction,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda content: datetime.timedelta(*map(int, content)),
    "timezone": lambda content: datetime.timezone(datetime.timedelta(*map(int, content))),
    "range": lambda content: range(*(int(part, 16) for part in content)),
    "type": lambda content: TYPES[content],
    # Texts of classes whose modules are loaded when first used.
    "UUID": lambda content: importlib.import_module("uuid").UUID(content),
    "PurePosixPath": lambda content: importlib.import_module("pathlib").PurePosixPath(content),
    "PureWindowsPath": lambda content: importlib.import_module("pathlib").PureWindowsPath(content),
}
"""By tag: how data become a plain value again."""
_BY_TEXT = {"uuid.UUID", "pathlib.PurePosixPath", "pathlib.PureWindowsPath", "pathlib.PosixPath"}


def encode_text(value: Any) -> Any:
    """Return a UUID or a path as data; None for anything else."""
    kind = type(value)
    if f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in _BY_TEXT:
        return {"t": kind.__name__, "v": str(value)}
    return None


def send(channel: socket.socket, message: Any, limit: int = 1 << 31) -> None:
    """Write one length-prefixed message.

    Raises:
        CodecError: Larger than ``limit`` bytes, or not JSON-able.
        OSError: The other side is gone.
    """
    try:
        payload = "".join(_encode_json(message, 0)).encode("utf-8", "surrogatepass")
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
        text = payload.decode("utf-8", "surrogatepass")
        message, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"not a message: {error}") from None
    if end != len(text):
        raise CodecError("not one message")
    return message


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
