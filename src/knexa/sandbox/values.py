"""Containers and objects that cross between tests and program, kept in step during a call.

Both sides number what can change (lists, dicts, objects) in the order in which it crosses, so that
a second mention is a number: ``f(x) is x``, one list in two places, cycles. Before a message the
side that ran code compares each with its state at the last message, by identity of its parts, and
sends the new state of what changed; the other side fills its own object with it. All this ends
with the outermost call. What arrives is checked like any data: a hostile program can say which
state a thing has, of those that both sides numbered, and nothing else.
"""

import array
import collections
import functools
import operator
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from . import codec
from .codec import CodecError
from .kinds import IMMUTABLE, SHARED, TYPECODES, Shared, derived_from

MAX_SYNCED = 1_000
"""Arguments with more parts than this are in step when a call ends, but not during callbacks."""
_DEPTH_INSIDE = 30  # what lies deeper and can change is written behind the rest of the message
_MAX_DEPTH = 100  # of tuples in tuples, which cannot be written behind
_VIEWS: dict[type, str] = {
    type({}.keys()): "keys",
    type({}.values()): "values",
    type({}.items()): "items",
}
# Around a value that is theirs: equal where it is.
_AROUND: dict[type, tuple[str, type]] = {
    collections.UserDict: ("data", dict),
    collections.UserList: ("data", list),
    collections.UserString: ("data", str),
    collections.ChainMap: ("maps", list),
}


def _make(kind: Any, _: Any) -> Any:
    return kind()


_EMPTY: dict[str, Callable[[Any], Any]] = {
    **{kind.__name__: functools.partial(_make, kind) for kind in SHARED},
    "deque": lambda length: collections.deque(maxlen=length),
    # Equality ignores the factory.
    "defaultdict": lambda factory: collections.defaultdict(factory),
}
_AROUND_TAGS = {kind.__name__: (kind, *rest) for kind, rest in _AROUND.items()}


class Values:
    """One side's values: encodes and decodes messages, and keeps what is shared in step.

    A side adds what only it can turn into data, and back, by overriding the last three methods.
    """

    def __init__(self) -> None:
        self._objects: list[Any] = []
        self._states: list[tuple[Any, Shared, Sequence[Any]] | None] = []
        self._numbers: dict[int, int] = {}  # by id, of the first of the objects
        self._num_numbered = 0
        self._behind: list[tuple[Any, Shared]] = []
        self._waiting: list[tuple[Any, Shared, list[Any]]] | None = None

    def forget(self) -> None:
        """End the call: nothing is shared any more."""
        if self._objects:
            self._objects, self._states = [], []
            if self._numbers:
                self._numbers, self._num_numbered = {}, 0

    def write(self, parts: Sequence[Any], *, budget: int | None = None) -> dict[str, Any]:
        """Return a message of values, and of what changed since the last one.

        With a ``budget``, only the last so many parts of what is shared are looked at for changes.

        Raises:
            CodecError: A value has no form as data.
        """
        if not self._states and codec.are_plain(parts):
            return {"v": parts}
        mark = len(self._objects)
        try:
            message: dict[str, Any] = {"v": self._parts(parts, 0)}
            if self._states:
                changed = self._changes(budget)
                if changed:
                    message["changed"] = changed
            if self._behind:
                message["behind"] = [
                    self._parts(shared.read(value), 0) for value, shared in self._behind
                ]
                self._behind = []
        except (MemoryError, CodecError):
            self.unshare(mark)
            raise
        except Exception as error:  # of the value's own code
            self.unshare(mark)
            raise CodecError(f"{type(error).__name__}: {str(error)[:200]}") from None
        return message

    def read(self, message: dict[str, Any]) -> list[Any]:
        """Return the values of a message, after applying the changes that it tells of.

        Raises:
            CodecError: It is no message, or tells of a change that cannot be.
        """
        try:
            if "changed" not in message and "behind" not in message:
                self._waiting = None
                return self._decode_parts(message["v"])
            self._waiting = []
            values = self._decode_parts(message["v"])
            changed = [self._change(*change) for change in message.get("changed", ())]
            self._read_behind(message.get("behind", []))
            for number in changed:
                found = self._states[number] if number < len(self._states) else None
                if found is not None:
                    value, shared, _ = found
                    self._states[number] = (value, shared, shared.read(value))
        except (MemoryError, CodecError):
            raise
        except Exception as error:  # also from code of set-up classes, e.g. their __hash__
            raise CodecError(f"{type(error).__name__}: {str(error)[:200]}") from None
        return values

    def note(self) -> None:
        """Note the state of what is newly shared: what differs from it later has changed."""
        for value in self._objects[len(self._states) :]:
            shared = SHARED.get(type(value)) or self.shared_kind(value)
            state = None if shared is None else (value, shared, shared.read(value))
            self._states.append(state)

    def _changes(self, budget: int | None) -> list[Any]:
        """Return the numbers and parts of what has changed, as data."""
        changes = []
        for number in range(len(self._states) - 1, -1, -1):
            noted = self._states[number]
            if noted is None:
                continue
            value, shared, state = noted
            if budget is not None:
                budget -= len(state) + 1
                if budget < 0:
                    break
            now = shared.read(value)
            is_same = len(now) == len(state) and (
                now == state if shared.are_bytes else all(map(operator.is_, now, state))
            )
            if not is_same:
                self._states[number] = (value, shared, now)
                changes.append([number, self._parts(now, 0)])
        return changes

    def _change(self, number: Any, content: Any) -> int:
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise CodecError("a change of what is not shared")
        value = self._objects[number]
        shared = SHARED.get(type(value)) or self.shared_kind(value)
        if shared is None:
            raise CodecError("a change of what cannot change")
        parts = self._decode_parts(content)
        self.before_change(value, shared)
        self._fill(value, shared, parts)
        return number

    def _read_behind(self, contents: Any) -> None:
        """Fill what lies deep, and then, the deepest first, what hashes its parts."""
        batches = [self._waiting or []]
        for content, (value, shared) in zip(contents, self._behind, strict=False):  # both grow
            self._waiting = []
            self._fill(value, shared, self._decode_parts(content))
            batches.append(self._waiting)
        if len(batches) != len(self._behind) + 1:
            raise CodecError("what lies deep is missing")
        self._behind, self._waiting = [], None
        for value, shared, parts in chain.from_iterable(reversed(batches)):
            shared.fill(value, parts)

    def _fill(self, value: Any, shared: Shared, parts: list[Any]) -> None:
        if self._waiting is not None and shared.is_hashed:
            self._waiting.append((value, shared, parts))
        else:
            shared.fill(value, parts)

    def share(self, value: Any) -> int:
        """Number a value and return the number; the other side does the same with its own."""
        self._objects.append(value)
        return len(self._objects) - 1

    def reshare(self, number: int, value: Any) -> None:
        """Give a number that was kept free for a value to it."""
        self._objects[number] = value
        self._num_numbered = min(self._num_numbered, number)

    def unshare(self, mark: int) -> None:
        """Take back what was shared after the first ``mark`` values."""
        del self._objects[mark:]
        self._numbers, self._num_numbered, self._behind = {}, 0, []

    def seen(self, value: Any) -> dict[str, Any] | None:
        """Return the number of a shared value as data; None if it has none."""
        while self._num_numbered < len(self._objects):
            self._numbers[id(self._objects[self._num_numbered])] = self._num_numbered
            self._num_numbered += 1
        number = self._numbers.get(id(value))
        return None if number is None else {"t": "seen", "v": number}

    def _parts(self, parts: Sequence[Any], depth: int) -> Sequence[Any]:
        if codec.are_plain(parts):
            return parts
        return [self.encode(part, depth) for part in parts]

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as data."""
        kind = type(value)
        writer = codec.WRITERS.get(kind)
        if writer is not None:
            return writer(value)
        shared = SHARED.get(kind)
        if shared is not None:
            return self._encode_shared(value, shared, depth)
        if kind is tuple:
            return {"t": "tuple", "v": self._nested(value, depth)}
        return self._encode_rare(value, depth)

    def _nested(self, parts: Sequence[Any], depth: int) -> Sequence[Any]:
        if depth > _MAX_DEPTH:
            raise CodecError("nested too deeply")
        return self._parts(parts, depth + 1)

    def _encode_shared(self, value: Any, shared: Shared, depth: int) -> Any:
        seen = self.seen(value)
        if seen is not None:
            return seen
        return self.encode_parts(value, shared, self.extra(value, shared), depth)

    def extra(self, value: Any, shared: Shared) -> Any:
        """Return as data what a value has beside its parts."""
        if shared.name == "deque":
            return value.maxlen
        if shared.name == "defaultdict":
            return self.encode_factory(value.default_factory)
        if shared.name == "array":
            if value.typecode not in TYPECODES:
                raise CodecError(f"an array of {value.typecode!r} has no form as data")
            return value.typecode
        return None

    def encode_parts(self, value: Any, shared: Shared, extra: Any, depth: int) -> Any:
        """Share a value and return it as data, its parts behind the message if it lies deep."""
        self.share(value)
        name = shared.name
        if depth > _DEPTH_INSIDE:
            self._behind.append((value, shared))
            return {"t": name, "x": extra, "behind": True}
        parts = self._parts(shared.read(value), depth + 1)
        if name == "list":
            return parts
        return {"t": name, "v": parts} if extra is None else {"t": name, "v": parts, "x": extra}

    def _encode_rare(self, value: Any, depth: int) -> Any:
        """Encode what is seldom met; subclasses are read through their base class's methods."""
        kind: Any = type(value)
        if isinstance(value, type) and codec.TYPES.get(value.__name__) is value:
            return {"t": "type", "v": value.__name__}
        data = self.encode_own(value, depth)
        if data is not None:
            return data
        if kind in _VIEWS:
            return {"t": _VIEWS[kind], "v": self._nested(list(value), depth)}
        if kind in _AROUND:
            seen = self.seen(value)
            if seen is None:
                self.share(value)
                inner = self.encode(getattr(value, _AROUND[kind][0]), depth + 1)
            return seen or {"t": kind.__name__, "v": inner}
        if kind is memoryview:
            return self._encode_memoryview(value, depth)
        found = derived_from(kind)
        if found is not None and kind is not array.array:
            return self._encode_shared(value, found[1], depth)
        for base in IMMUTABLE:
            if isinstance(value, base):
                return self.encode_immutable(base, value, depth)
        return codec.encode_text(value) or self.encode_other(value, depth)

    def encode_immutable(self, base: Any, value: Any, depth: int) -> Any:
        """Encode an instance of a built-in class or of one derived from it."""
        if base is int:
            return codec.encode_int(int.__index__(value))
        if base is str:
            return str.__str__(value)
        if base is float:
            return float.__float__(value)
        if base is bytes:
            return codec.WRITERS[bytes](bytes.__getitem__(value, slice(None)))
        if base is frozenset and depth > _DEPTH_INSIDE:
            raise CodecError("a frozenset is nested too deeply")
        return {"t": base.__name__, "v": self._nested([*base.__iter__(value)], depth)}

    def _encode_memoryview(self, value: memoryview, depth: int) -> Any:
        owner = value.obj
        is_whole = type(owner) in (bytes, bytearray, array.array) and value == memoryview(owner)
        inner = owner if is_whole and value.contiguous else value.tobytes()
        code = value.format if value.format in TYPECODES else "B"
        return {"t": "memoryview", "v": [self.encode(inner, depth + 1), code]}

    def _decode_parts(self, content: Any) -> list[Any]:
        """Accept lists only: a forged range takes a few bytes, but its items all memory."""
        if type(content) not in (list, tuple):  # a tuple comes with a request alone
            raise CodecError("its items are no list")
        parts: list[Any] = [*content] if type(content) is tuple else content
        kinds = set(map(type, parts))
        if dict in kinds or list in kinds:
            parts[:] = [self.decode(part) for part in parts]
        return parts

    def decode(self, data: Any) -> Any:
        """Return the value that the other side wrote."""
        kind = type(data)
        if kind is list:
            self.share(data)
            return self._decode_parts(data)
        if kind is not dict:
            return data
        tag, content = data["t"], data.get("v")
        if type(tag) is not str:
            raise CodecError("no tag")
        if tag == "seen":
            if type(content) is not int or content < 0:
                raise CodecError("not a number of what is shared")
            return self.recall(self._objects[content])
        if tag in _EMPTY:
            made = self._empty(tag, data.get("x"))
            return self.decode_filled(made, _TAGS[tag], data)
        reader = codec.READERS.get(tag)
        if reader is not None:
            return reader(content)
        maker = _MAKERS.get(tag)
        if maker is not None:
            return maker(self._decode_parts(content))
        if tag in _AROUND_TAGS:
            return self._decode_around(tag, content)
        if tag == "memoryview":
            owner = self.decode(content[0])
            code: Any = content[1] if content[1] in TYPECODES else "B"
            view = memoryview(owner)
            return view if view.format == code else view.cast("B").cast(code)
        return self.decode_other(tag, data)

    def decode_filled(self, made: Any, shared: Shared, data: dict[str, Any]) -> Any:
        """Share an empty value, and fill it now or when its parts come behind the message."""
        self.share(made)
        if "behind" in data:
            if self._waiting is None:
                raise CodecError("nothing comes behind")
            self._behind.append((made, shared))
        else:
            self._fill(made, shared, self._decode_parts(data.get("v")))
        return made

    def _empty(self, tag: str, extra: Any) -> Any:
        if tag == "array":
            if extra not in TYPECODES:
                raise CodecError("not an array")
            return array.array(extra)
        return _EMPTY[tag](self.decode_factory(extra) if tag == "defaultdict" else extra)

    def _decode_around(self, tag: str, content: Any) -> Any:
        kind, name, inner_kind = _AROUND_TAGS[tag]
        made: Any = object.__new__(kind)
        self.share(made)
        inner = self.decode(content)
        maps = inner if tag == "ChainMap" and type(inner) is list else [{}]
        if not isinstance(inner, inner_kind) or not maps or not all(map(_is_mapping, maps)):
            raise CodecError(f"not a {tag}")
        setattr(made, name, inner)
        return made

    def encode_factory(self, factory: Any) -> Any:
        """Return a defaultdict's factory as data."""
        return None if factory is None else self.encode(factory)

    def decode_factory(self, data: Any) -> Any:
        """Return a defaultdict's factory."""
        return None if data is None else self.decode(data)

    def shared_kind(self, value: Any) -> Shared | None:
        """Return how a value of none of the exact built-in kinds can change, None if not."""
        found = derived_from(type(value))
        return found and found[1]

    def recall(self, value: Any) -> Any:
        """Return what the other side means by the number of a shared value."""
        return value

    def before_change(self, value: Any, shared: Shared) -> None:
        """Called before the other side's change is applied."""

    def encode_own(self, value: Any, depth: int) -> Any:
        """Return as data what is to be asked for before subclasses of built-in kinds; or None."""

    def encode_other(self, value: Any, depth: int) -> Any:
        """Return as data what has no form of its own."""
        raise CodecError(f"{type(value).__name__} has no form as data")

    def decode_other(self, tag: str, data: dict[str, Any]) -> Any:
        """Return the value of a tag that only this side knows."""
        raise CodecError("unknown kind of value")


def _pair(value: Any) -> tuple[Any, Any]:
    if type(value) is not tuple:
        raise CodecError("not a pair")
    key, item = value
    return key, item


def _is_mapping(value: Any) -> bool:
    return isinstance(value, (dict, collections.UserDict, collections.ChainMap))


_TAGS = {shared.name: shared for shared in SHARED.values()}
_MAKERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "frozenset": frozenset,
    "keys": lambda content: dict.fromkeys(content).keys(),
    "values": lambda content: dict(enumerate(content)).values(),
    "items": lambda content: dict(map(_pair, content)).items(),
}
