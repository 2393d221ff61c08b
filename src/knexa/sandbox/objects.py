"""Instances of classes that both sides know, those classes, and exceptions, as data.

Both sides run the set-up code, so an instance of one of its classes crosses as the class's name
and the instance's state: attributes, slots, and the parts of a built-in kind that it derives from.
No constructor runs but those of Python's own exceptions.
"""

import enum
import functools
import types
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from . import codec
from .codec import CodecError
from .kinds import IMMUTABLE, Shared, derived_from
from .values import Values

_MAX_TEXT = 300
_MAX_CLASSES = 20


class _Layout(NamedTuple):
    """How instances of a class hold their state."""

    base: Any  # the built-in class that makes one
    shared: Shared
    inner: Shared | None  # the changeable built-in kind that it derives from


class ObjectValues(Values):
    """Values, with the classes of the set-up code by name (``classes``)."""

    def __init__(self) -> None:
        super().__init__()
        self.classes: dict[str, type] = {}
        self._layouts: dict[type, _Layout] = {}

    def is_known(self, kind: type) -> bool:
        """Return whether instances of a class cross by state."""
        return kind.__name__ in self.classes

    def kept_state(self, kind: type, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """Return what is kept of attributes that arrived; ``old`` ones are those before."""
        return new

    def encode_own(self, value: Any, depth: int) -> Any:
        """Encode an instance of a known class, the class, or an exception."""
        kind = type(value)
        if isinstance(value, BaseException):
            return self._encode_error(value, depth)
        if isinstance(value, type):
            return {"t": "class", "v": value.__name__} if self.is_known(value) else None
        return self._encode_object(value, kind, depth) if self.is_known(kind) else None

    def shared_kind(self, value: Any) -> Shared | None:
        """Return how an instance of a known class can change."""
        kind = type(value)
        if isinstance(value, (BaseException, type, enum.Enum)):
            return None
        return self._layout(kind).shared if self.is_known(kind) else super().shared_kind(value)

    def decode_other(self, tag: str, data: dict[str, Any]) -> Any:
        """Decode what ``encode_own`` wrote."""
        if tag == "error":
            return self._decode_error(*data["v"])
        if tag not in ("object", "enum", "class"):
            raise CodecError("unknown kind of value")
        name, extra = (data["v"], None) if tag == "class" else data["x"]
        kind: Any = self.classes.get(name)
        if kind is None:
            raise CodecError(f"there is no class {name}")
        if tag == "class":
            return kind
        if issubclass(kind, enum.Enum) != (tag == "enum"):
            raise CodecError(f"not a {name}")
        if tag == "enum":
            return kind.__members__[extra] if type(extra) is str else kind(self.decode(extra))
        layout = self._layout(kind)
        return self.decode_filled(self._empty_object(kind, layout, extra), layout.shared, data)

    def _encode_object(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, enum.Enum):
            is_member = value._name_ in type(value).__members__
            key = value._name_ if is_member else self.encode(value._value_, depth + 1)
            return {"t": "enum", "x": [kind.__name__, key]}
        seen = self.seen(value)
        if seen is not None:
            return seen
        layout = self._layout(kind)
        extra = layout.inner and self.extra(value, layout.inner)
        if layout.base in IMMUTABLE:
            extra = self.encode_immutable(layout.base, value, depth + 1)
        return self.encode_parts(value, layout.shared, [kind.__name__, extra], depth)

    def _empty_object(self, kind: Any, layout: _Layout, extra: Any) -> Any:
        if layout.base in IMMUTABLE:
            content = self.decode(extra)
            if type(content) is not layout.base:  # e.g. a range, whose items all memory could hold
                raise CodecError(f"not a {kind.__name__}")
            return layout.base.__new__(kind, content)
        made = layout.base.__new__(kind)
        if layout.inner is not None and layout.inner.name == "defaultdict":
            made.default_factory = self.decode_factory(extra)
        if layout.inner is not None and layout.inner.name == "deque":
            layout.base.__init__(made, (), extra)
        return made

    def _layout(self, kind: Any) -> _Layout:
        layout = self._layouts.get(kind)
        if layout is None:
            slots = {
                name: member
                for each in reversed(kind.__mro__)
                if "__slots__" in vars(each)
                for name, member in vars(each).items()
                if type(member) is types.MemberDescriptorType
            }
            base, inner = derived_from(kind) or (object, None)
            if inner is None:
                base = next((each for each in IMMUTABLE if issubclass(kind, each)), object)
            elif inner.are_bytes:
                raise CodecError(f"{kind.__name__} has no form as data")
            shared = Shared(
                "object",
                functools.partial(_read_state, slots, inner),
                functools.partial(self._fill_state, kind, slots, inner),
                is_hashed=inner is not None and inner.is_hashed,
            )
            layout = self._layouts[kind] = _Layout(base, shared, inner)
        return layout

    def _fill_state(
        self,
        kind: type,
        slots: dict[str, Any],
        inner: Shared | None,
        value: Any,
        parts: list[Any],
    ) -> None:
        """Give an object a state of [twice the number of attributes, attributes, parts]."""
        num = parts[0]
        if type(num) is not int or not 0 <= num < len(parts) or num % 2:
            raise CodecError("not the state of an object")
        state = dict(zip(parts[1 : num + 1 : 2], parts[2 : num + 1 : 2], strict=True))
        if not all(type(name) is str for name in state):
            raise CodecError("not the name of an attribute")
        for name, member in slots.items():
            if name in state:
                member.__set__(value, state.pop(name))
            elif _is_set(value, member):
                member.__delete__(value)
        if state or hasattr(value, "__dict__"):
            held = value.__dict__
            kept = self.kept_state(kind, held, state)
            held.clear()
            held.update(kept)
        if inner is not None:
            inner.fill(value, parts[num + 1 :])

    def _encode_error(self, error: BaseException, depth: int) -> Any:
        seen = self.seen(error)
        if seen is not None:
            return seen
        mark = self.share(error)
        names = [kind.__name__ for kind in type(error).__mro__]
        try:
            text = str(error)[:_MAX_TEXT]
        except BaseException:
            text = ""
        state = {name: item for name, item in vars(error).items() if name != "__notes__"}
        try:
            args = self._nested(_args(error), depth)
            fields = self._nested([*chain.from_iterable(state.items())], depth)
        except CodecError:
            self.unshare(mark + 1)
            args, fields = [text], []
        return {"t": "error", "v": [names, text, args, fields]}

    def _decode_error(self, names: Any, text: Any, args: Any, fields: Any) -> BaseException:
        mark = self.share(None)
        args, fields = self._decode_parts(args), self._decode_parts(fields)
        for name in names[:_MAX_CLASSES]:
            kind = self.classes.get(name) or codec.TYPES.get(name)
            if kind is None or not issubclass(kind, BaseException):
                continue
            made = _exception(kind, args)
            # A class of the program's own may have a text of its own.
            if made is None or (name != names[0] and _text(made) != text):
                made = _exception(kind, [text])
            if made is not None:
                self.reshare(mark, made)
                state = dict(zip(fields[::2], fields[1::2], strict=True))
                made.__dict__.update(self.kept_state(type(made), {}, state))
                return made
        raise CodecError("not an exception")


def _read_state(slots: dict[str, Any], inner: Shared | None, value: Any) -> Sequence[Any]:
    state = dict(getattr(value, "__dict__", ()))
    for name, member in slots.items():
        if _is_set(value, member):
            state[name] = member.__get__(value)
    parts = [2 * len(state), *chain.from_iterable(state.items())]
    return parts if inner is None else [*parts, *inner.read(value)]


def _is_set(value: Any, member: Any) -> bool:
    try:
        member.__get__(value)
    except AttributeError:
        return False
    return True


def _args(error: BaseException) -> Sequence[Any]:
    if isinstance(error, OSError):  # its ``args`` lack the names of files
        return tuple(OSError.__reduce__(error)[1])
    return error.args


def _text(error: BaseException) -> str:
    try:
        return str(error)[:_MAX_TEXT]
    except Exception:
        return ""


def _exception(kind: Any, args: Sequence[Any]) -> BaseException | None:
    """Make an exception by the constructor of Python's own class; None if that refuses."""
    base: Any = next(each for each in kind.__mro__ if codec.TYPES.get(each.__name__) is each)
    try:
        if base is kind:
            made = kind(*args)
        else:
            made = base.__new__(kind, *args)
            base.__init__(made, *args)
    except Exception:
        return None
    return made if isinstance(made, BaseException) else None
