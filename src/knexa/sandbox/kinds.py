"""The built-in kinds of values that can change: how each is read, and how it is filled anew.

Everything goes through the built-in class's own methods, whatever a derived class overrides.
"""

import array
import collections
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

TYPECODES = frozenset("bBhHiIlLqQfd")
"""The arrays that cross."""


class Shared(NamedTuple):
    """A kind of value that can change: its parts, and how an empty one gets parts."""

    name: str
    read: Callable[[Any], Sequence[Any]]
    fill: Callable[[Any, list[Any]], None]
    are_bytes: bool = False
    is_hashed: bool = False


def _pairs(kind: Any) -> Shared:
    def fill(value: Any, parts: list[Any]) -> None:
        if len(parts) % 2:
            raise ValueError("a key has no value")
        pairs = dict(zip(parts[::2], parts[1::2], strict=True))
        kind.clear(value)
        for key, item in pairs.items():
            kind.__setitem__(value, key, item)

    def read(value: Any) -> list[Any]:
        return list(chain.from_iterable(kind.items(value)))

    return Shared(kind.__name__, read, fill, is_hashed=True)


def _items(kind: Any, add: Callable[[Any, Any], None], *, is_hashed: bool = False) -> Shared:
    def fill(value: Any, parts: list[Any]) -> None:
        parts = [*kind(parts)]
        kind.clear(value)
        add(value, parts)

    return Shared(kind.__name__, lambda value: [*kind.__iter__(value)], fill, is_hashed=is_hashed)


def _bytes(kind: Any, read: Callable[[Any], bytes], add: Callable[[Any, bytes], None]) -> Shared:
    def fill(value: Any, parts: list[Any]) -> None:
        add(value, bytes.fromhex(parts[0]))

    return Shared(kind.__name__, lambda value: [read(value).hex()], fill, are_bytes=True)


def _fill_bytearray(value: bytearray, content: bytes) -> None:
    bytearray.__setitem__(value, slice(None), content)


def _fill_array(value: Any, content: bytes) -> None:
    new = array.array(value.typecode, content)
    if len(new) == len(value):  # a memoryview allows no other length
        memoryview(value)[:] = memoryview(new)
    else:
        value[:] = new


IMMUTABLE: tuple[Any, ...] = (int, float, str, bytes, tuple, frozenset)
"""Built-in classes whose derived classes are read through their methods."""
LIST = Shared("list", list, lambda value, parts: list.__setitem__(value, slice(None), parts))
SHARED: dict[type, Shared] = {
    list: LIST,
    collections.Counter: _pairs(collections.Counter),
    collections.OrderedDict: _pairs(collections.OrderedDict),
    collections.defaultdict: _pairs(collections.defaultdict),
    dict: _pairs(dict),
    set: _items(set, set.update, is_hashed=True),
    collections.deque: _items(collections.deque, collections.deque.extend),
    bytearray: _bytes(bytearray, bytes, _fill_bytearray),
    array.array: _bytes(array.array, array.array.tobytes, _fill_array),
}
"""By exact type; a derived class counts as the first in its order of resolution."""


def derived_from(kind: type) -> tuple[Any, Shared] | None:
    """Return the changeable built-in kind that a class derives from."""
    return next(((base, SHARED[base]) for base in kind.__mro__ if base in SHARED), None)
