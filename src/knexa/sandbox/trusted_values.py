"""Values as the tests see them: functions that they hand out, and proxies of what they get.

Whatever the program sends is data here. It can name what both sides share in the call under way,
functions that were handed out to it, and values of its own, which stay with it.
"""

import contextlib
import functools
import importlib
import operator
import sys
import types
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

from . import codec
from .kinds import Shared
from .objects import ObjectValues

MODULE = "tests"
"""Name of the module that trusted code runs in; instances of its classes can cross."""


class RemoteValue:
    """A proxy for a value in the sandbox: it can be called, changed and passed back, not read.

    It equals nothing but itself, so returning one cannot pass a test.
    """

    def __init__(self, ask: Callable[..., Any], index: int) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_index", index)

    def _send(self, do: str, parts: Any = (), **fields: Any) -> Any:
        ask = object.__getattribute__(self, "_ask")
        return ask({"do": do, "ref": object.__getattribute__(self, "_index"), **fields}, parts)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._send("get", name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._send("set", [value], name=name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the value in the sandbox."""
        return self._send("call", [*args, *kwargs.values()], names=list(kwargs))


class TrustedValues(ObjectValues):
    """The verifier's values of one run."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        super().__init__()
        self.names: dict[Callable[..., Any], str] = {}  # proxies of globals of the program
        self._ask = ask
        self._callbacks: list[Callable[..., Any]] = []
        self._callback_numbers: dict[int, int] = {}
        self._handed: list[set[int]] = []
        self._before: dict[int, tuple[Any, Shared, Any]] = {}

    def begin(self) -> None:
        """Begin a call, perhaps within another."""
        self._handed.append(set())

    def finish(self, *, is_last: bool) -> None:
        """End the latest call; ``is_last`` if it is within none."""
        self._handed.pop()
        if is_last:
            self.forget()
        else:
            self.note()

    def restore(self) -> None:
        """Give whatever a program changed the state that it had before.

        It may be a standard module's, and would be there for the next program.
        """
        for value, shared, parts in self._before.values():
            with contextlib.suppress(Exception):
                shared.fill(value, [*parts])

    def before_change(self, value: Any, shared: Shared) -> None:
        """Keep the first state of what a program changes."""
        if id(value) not in self._before:
            self._before[id(value)] = (value, shared, shared.read(value))

    def callback(self, number: Any) -> Callable[..., Any]:
        """Return a function that was handed out.

        Raises:
            CodecError: None has this number.
        """
        if type(number) is not int or not 0 <= number < len(self._callbacks):
            raise codec.CodecError("a function that was never handed out")
        return self._callbacks[number]

    def is_known(self, kind: type) -> bool:
        """Know classes by name: the prompt may define one of the set-up again."""
        return kind.__module__ == MODULE and kind.__name__ in self.classes

    def kept_state(self, kind: type, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """Refuse a state that hides a method, or it would say what a value does."""
        methods = _methods(kind)
        if methods.keys().isdisjoint(new):
            return new
        for name in methods.keys() & new.keys():
            if not methods[name] and (name not in old or old[name] is not new[name]):
                raise codec.CodecError(f"{name} is a method of {kind.__name__}")
        return {name: item for name, item in new.items() if not methods.get(name)}

    def recall(self, value: Any) -> Any:
        """Give back a proxy only where it was handed over in the latest call.

        Else a program could answer a test's own object by the one that it is compared with.
        """
        if type(value) is RemoteValue and id(value) not in self._handed[-1]:
            return RemoteValue(self._ask, object.__getattribute__(value, "_index"))
        return value

    def encode_other(self, value: Any, depth: int) -> Any:
        """Encode what only the tests have."""
        seen = self.seen(value)
        if type(value) is RemoteValue:
            self._handed[-1].add(id(value))
            if seen is None:
                self.share(value)
            return seen or {"t": "ref", "v": object.__getattribute__(value, "_index")}
        if seen is not None:
            return seen
        if isinstance(value, Iterator):
            self.share(value)
            return {"t": "iterator", "v": self._number(value.__next__, id(value))}
        if not callable(value):
            raise codec.CodecError(
                f"{type(value).__name__} has no form as data; if it is a class of the tests, "
                "define it in setup_code"
            )
        if type(value) is types.FunctionType and value in self.names:
            return {"t": "named", "v": self.names[value]}
        place = _place(value)
        if place is not None:
            self.share(value)
            return {"t": "global", "v": place}
        name = getattr(value, "__name__", type(value).__name__)
        return {"t": "callback", "v": self._number(value, id(value)), "x": str(name)}

    def _number(self, function: Callable[..., Any], key: int) -> int:
        if key not in self._callback_numbers:
            self._callback_numbers[key] = len(self._callbacks)
            self._callbacks.append(function)
        return self._callback_numbers[key]

    def decode_factory(self, data: Any) -> Any:
        """Allow only types as factories: a test may ask for what is missing."""
        factory = super().decode_factory(data)
        return factory if isinstance(factory, type) else None

    def decode_other(self, tag: str, data: dict[str, Any]) -> Any:
        """Decode a proxy, a function of the tests, or what an iterator gave."""
        content = data.get("v")
        if tag == "ref":
            if type(content) is not int:
                raise codec.CodecError("not a value of the program")
            made = RemoteValue(self._ask, content)
            self.share(made)
            return made
        if tag == "callback":
            return self.callback(content)
        if tag == "PosixPath":  # equal to a path, and of no use to read a file with
            return importlib.import_module("pathlib").PurePosixPath(content)
        if tag == "iter":
            number = self.share(None)
            error, *items = self._decode_parts(content)
            iterator = iter(items)
            if isinstance(error, Exception):
                iterator = chain(items, map(_fail, repeat(error, 1)))
            self.reshare(number, iterator)
            return iterator
        return super().decode_other(tag, data)


def _fail(error: Exception) -> Any:
    raise RuntimeError(*error.args) if isinstance(error, StopIteration) else error


@functools.lru_cache(maxsize=1024)
def _methods(kind: type) -> dict[str, bool]:
    """Return what a class computes by name: whether it is kept among the attributes."""
    return {
        name: isinstance(found, functools.cached_property)
        for each in reversed(kind.__mro__)
        for name, found in vars(each).items()
        if hasattr(type(found), "__get__")
    }


def _place(value: Any) -> list[str] | None:
    """Return (module, name) of a function or class of a standard module."""
    owner = getattr(value, "__objclass__", value)
    module, name = getattr(owner, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    if module.partition(".")[0] not in sys.stdlib_module_names:
        return None
    try:
        is_there = operator.attrgetter(name)(sys.modules[module]) is value
    except (AttributeError, KeyError):
        return None
    return [module, name] if is_there else None
