"""Results that stay where they were computed: the main process holds a handle and reads nothing.

A class names its fields that may be large (``HasLarge``). Where phases run in other processes of an
object store, a worker leaves these fields there and answers with the rest; in their place the main
process finds a ``Parcel``, which knows how many bytes or items it stands for. It may be passed on
in any task, and the worker that runs the task finds the value itself, fetched from the store.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

from knexa.engine import packing


class HasLarge:
    """A dataclass with fields that may stay in an object store."""

    __slots__ = ()
    large: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A value in the object store.

    Attributes:
        reference: The store's own, of all that one task left there.
        place: Which of these it is.
        size: What ``len`` of the value is.
        digest: SHA-256 of a value of bytes; empty for others.
        fetch: Reads a reference's values, packed.
    """

    reference: Any
    place: int
    size: int
    digest: bytes
    fetch: Callable[[Any], Sequence[bytes]]

    def __len__(self) -> int:
        return self.size

    def open(self) -> Any:
        """Fetch the value into this process."""
        return pickle.loads(self.fetch(self.reference)[self.place])


def opened(value: Any) -> Any:
    """Return a value with all of its parcels fetched: what only a server or a checkpoint needs."""
    if isinstance(value, Parcel):
        return value.open()
    if not (isinstance(value, HasLarge) and is_dataclass(value)):
        return value
    parcels = {name: getattr(value, name) for name in value.large}
    return replace(
        value, **{name: p.open() for name, p in parcels.items() if isinstance(p, Parcel)}
    )


def stand_in(value: "bytes | Parcel") -> bytes:
    """Return what an envelope is sealed over: the bytes, or the digest of those in a parcel."""
    return value.digest if isinstance(value, Parcel) else value


@dataclass(frozen=True, slots=True, eq=False)
class _Left:
    """A value that its worker leaves in the store."""

    value: Any


class _ResultPickler(packing.Pickler):
    """Packs a result without its large fields, which it gathers, packed, in ``bodies``."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.bodies: list[bytes] = []

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not _Left:
            return None
        digest = hashlib.sha256(value.value).digest() if type(value.value) is bytes else b""
        self.bodies.append(packing.pack(value.value))
        return len(self.bodies) - 1, len(value.value), digest

    def reducer_override(self, value: Any) -> Any:
        if not (isinstance(value, HasLarge) and is_dataclass(value)):
            return super().reducer_override(value)
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        for name in value.large:
            if given[name] is not None and len(given[name]):
                given[name] = _Left(given[name])
        return _rebuild, (type(value), given)


def _rebuild(cls: Callable[..., Any], values: dict[str, Any]) -> Any:
    return cls(**values)


def pack_result(value: Any) -> tuple[bytes, list[bytes]]:
    """Return what the main process is told of a result, and what stays in the store."""
    buffer = io.BytesIO()
    pickler = _ResultPickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.bodies


def unpack_result(data: bytes, reference: Any, fetch: Callable[[Any], Sequence[bytes]]) -> Any:
    """Return a result with parcels of ``reference`` in place of what stayed in the store."""
    unpickler = _Unpickler(io.BytesIO(data))

    def parcel(id_: tuple[int, int, bytes]) -> Parcel:
        place, size, digest = id_
        return Parcel(reference, place, size, digest, fetch)

    unpickler.load_persistent = parcel
    return unpickler.load()


class _TaskPickler(packing.Pickler):
    """Packs a task with the places of its parcels, whose references it gathers."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.references: list[Any] = []

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not Parcel:
            return None
        if not any(known is value.reference for known in self.references):
            self.references.append(value.reference)
        known = next(i for i, ref in enumerate(self.references) if ref is value.reference)
        return known, value.place, value.digest


def pack_task(value: Any) -> tuple[bytes, list[Any]]:
    """Return a task and the references of the parcels in it."""
    buffer = io.BytesIO()
    pickler = _TaskPickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.references


def unpack_task(data: bytes, bodies: Sequence[Sequence[bytes]]) -> Any:
    """Return a task with the values of its parcels, given what its references hold.

    Raises:
        ValueError: A value of bytes is not what it was when it was left in the store.
    """
    unpickler = _Unpickler(io.BytesIO(data))
    unpickler.load_persistent = lambda id_: _checked(bodies, *id_)
    return unpickler.load()


def _checked(bodies: Sequence[Sequence[bytes]], known: int, place: int, digest: bytes) -> Any:
    value = pickle.loads(bodies[known][place])
    if digest and hashlib.sha256(value).digest() != digest:
        raise ValueError("a package in the object store does not match its digest")
    return value


class _Unpickler(pickle.Unpickler):
    load_persistent: Callable[[Any], Any]

    def persistent_load(self, id_: Any) -> Any:
        return self.load_persistent(id_)
