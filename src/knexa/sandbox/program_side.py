"""The program's side of a run: executes its source and answers the verifier's calls.

It runs in the fork beside the hostile program, which can change everything here.
"""

import _thread
import importlib
import marshal
import socket
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from . import codec
from .objects import ObjectValues
from .values import MAX_SYNCED

MAX_ITEMS = 10_000
"""An iterator that the program returns is cut off after so many items."""


class RemoteIterator:
    """An iterator of the tests: each item is asked for when it is needed."""

    def __init__(self, draw: Callable[[], Any]) -> None:
        self._draw = draw

    def __iter__(self) -> "RemoteIterator":
        return self

    def __next__(self) -> Any:
        return self._draw()


class ProgramSide:
    """Serves the verifier's requests on a channel; made before the fork, where it costs less."""

    def __init__(self) -> None:
        self._limit = 0
        self._module = types.ModuleType("candidate")
        self._values = _ProgramValues(self._call_back, self._module.__dict__)
        self._lock = _thread.RLock()  # of the threads that the program may have
        self._depth = 0

    def open(self, channel: socket.socket, limit: int) -> None:
        """Serve on this channel; no answer is longer than ``limit`` bytes."""
        self._channel, self._limit = channel, limit
        sys.modules["candidate"] = self._module

    def serve_one(self) -> None:
        """Serve the next request: first the source to load, then calls."""
        self._answer(codec.receive_request(self._channel))

    def _answer(self, request: dict[str, Any]) -> None:
        self._depth += 1
        is_raised = False
        try:
            action = self._perform if "do" in request else self._load
            value = action(request)
        except BaseException as error:
            value, is_raised = error.with_traceback(None), True  # what it holds may be large
        with self._lock:  # no other thread calls the tests' functions meanwhile
            self._reply(value, is_raised=is_raised)
            self._depth -= 1
            if self._depth:
                self._values.note()
            else:
                self._values.forget()

    def _reply(self, value: Any, *, is_raised: bool) -> None:
        try:
            if type(value) is codec.CodecError:
                raise value
            reply = self._values.write([value])
            if is_raised:
                reply["raised"] = True
            self._send(reply)
        except codec.CodecError as error:
            self._send({"big": str(error)[:300]})
        except MemoryError:
            self._send({"v": [{"t": "error", "v": [["MemoryError"], "", [], []]}], "raised": True})

    def _send(self, message: dict[str, Any]) -> None:
        codec.send(self._channel, message, self._limit)

    def _load(self, request: dict[str, Any]) -> None:
        names, namespace = request["classes"], self._module.__dict__
        try:
            for code in request["codes"]:  # compiled by the verifier, where it costs less
                exec(marshal.loads(code), namespace)
            source = request["source"]
            if source is not None:
                exec(compile(source, "<candidate>", "exec", dont_inherit=True), namespace)
        finally:
            found = {name: namespace.get(name) for name in names}
            kinds = {name: kind for name, kind in found.items() if isinstance(kind, type)}
            self._values.classes = kinds

    def _perform(self, request: dict[str, Any]) -> Any:
        do, values = request["do"], self._values
        parts = values.read(request)
        values.note()
        if do == "set":
            return setattr(values.kept[request["ref"]], request["name"], parts[0])
        if do == "get":
            return getattr(values.kept[request["ref"]], request["name"])
        names = request["names"]
        if "ref" in request:
            function = values.kept[request["ref"]]
        else:
            function = self._module.__dict__.get(request["name"], _missing)
            if function is _missing:
                raise NameError(f"name {request['name']!r} is not defined")
        if not names:
            return function(*parts)
        num = len(parts) - len(names)
        return function(*parts[:num], **dict(zip(names, parts[num:], strict=True)))

    def _call_back(self, number: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function of the tests; the verifier waits for this or for the answer."""
        with self._lock:
            values = self._values
            if not self._depth or values.is_writing:
                raise RuntimeError("a function of the tests is called when no call is under way")
            message = values.write([*args, *kwargs.values()], budget=MAX_SYNCED)
            message |= {"call": number, "names": list(kwargs)}
            values.note()
            try:
                self._send(message)
            except codec.CodecError as error:
                self._send({"big": str(error)[:300]})
            while "do" in (request := codec.receive_request(self._channel)):
                self._answer(request)
            (value,) = values.read(request)
            values.note()
        if request["raised"]:
            raise value
        return value


class _ProgramValues(ObjectValues):
    """Values as the program's side sees them: what has no form as data is ``kept`` here."""

    def __init__(self, call_back: Callable[..., Any], namespace: dict[str, Any]) -> None:
        super().__init__()
        self.kept: list[Any] = []
        self.is_writing = False
        self._call_back = call_back
        self._namespace = namespace
        self._callbacks: dict[int, Callable[..., Any]] = {}
        self._callback_numbers: dict[int, int] = {}
        self._undrawn: list[Iterator[Any]] = []
        self._drawn: dict[int, list[Any]] = {}

    def write(self, parts: Sequence[Any], *, budget: int | None = None) -> dict[str, Any]:
        """Return a message; iterators are drawn before, for that runs the program's code."""
        if not self._states and codec.are_plain(parts):
            return {"v": parts}
        mark, states = len(self._objects), [*self._states]
        while True:
            self.is_writing = True
            try:
                message = super().write(parts, budget=budget)
            finally:
                self.is_writing = False
            if not self._undrawn:
                self._drawn = {}
                return message
            self.unshare(mark)
            self._states = [*states]
            undrawn, self._undrawn = self._undrawn, []
            for each in undrawn:
                self._drawn[id(each)] = _draw(each)

    def encode_own(self, value: Any, depth: int) -> Any:
        """Encode a function of the tests by its number."""
        if self._callback_numbers and id(value) in self._callback_numbers:
            return {"t": "callback", "v": self._callback_numbers[id(value)]}
        return super().encode_own(value, depth)

    def encode_other(self, value: Any, depth: int) -> Any:
        """Draw an iterator; keep anything else, and name it by a number."""
        seen = self.seen(value)
        if seen is not None:
            return seen
        if isinstance(value, Iterator):
            items = self._drawn.get(id(value))
            if items is None:
                self._undrawn.append(value)
                return None
            self.share(value)
            return {"t": "iter", "v": self._nested(items, depth)}
        self.kept.append(value)
        self.share(value)
        return {"t": "ref", "v": len(self.kept) - 1}

    def decode_other(self, tag: str, data: dict[str, Any]) -> Any:
        """Decode what only the tests have: functions, iterators, names of standard modules."""
        content: Any = data.get("v")
        if tag == "ref":
            self.share(self.kept[content])
            return self.kept[content]
        if tag == "callback":
            return self._callback(content, data["x"])
        if tag == "iterator":
            made = RemoteIterator(self._callback(content, "__next__"))
            self.share(made)
            return made
        if tag == "global":
            found: Any = importlib.import_module(content[0])
            for name in content[1].split("."):
                found = getattr(found, name)
            self.share(found)
            return found
        if tag == "named":
            return self._namespace[content]
        if tag == "PosixPath":
            return importlib.import_module("pathlib").Path(content)
        return super().decode_other(tag, data)

    def _callback(self, number: int, name: str) -> Callable[..., Any]:
        if number not in self._callbacks:

            def callback(*args: Any, **kwargs: Any) -> Any:
                return self._call_back(number, args, kwargs)

            callback.__name__ = callback.__qualname__ = name
            self._callbacks[number] = callback
            self._callback_numbers[id(callback)] = number
        return self._callbacks[number]


_missing = object()


def _draw(iterator: Iterator[Any]) -> list[Any]:
    """Return its first items, after [None] or [the exception that ended them]."""
    items: list[Any] = [None]
    try:
        for item in islice(iterator, MAX_ITEMS):
            items.append(item)
    except Exception as error:
        items[0] = error.with_traceback(None)
    return items
