"""References to large results that stay in an object store.

A class names its fields that may be large (``HasLarge``). Where workers share an object store, a
worker leaves these fields in it and returns the rest; the main process gets an ``ObjectRef`` in
their place, which knows the value's length. A reference may be passed to any task, and the worker
that runs the task gets the value itself.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

from knexa.engine import serialization


class HasLarge:
    """A dataclass with fields that may stay in an object store."""

    __slots__ = ()
    large: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRef:
    """A value in the object store.

    Attributes:
        reference: The store's own reference, to all values that one task left.
        place: The index among these values.
        size: ``len`` of the value.
        digest: SHA-256 of the value if it is bytes, else empty.
        read: Returns the pickled values of a reference.
    """

    reference: Any
    place: int
    size: int
    digest: bytes
    read: Callable[[Any], Sequence[bytes]]

    def __len__(self) -> int:
        return self.size

    def fetch(self) -> Any:
        """Fetch the value into this process."""
        return pickle.loads(self.read(self.reference)[self.place])


def fetched(value: Any) -> Any:
    """Return the value with the objects in place of its references."""
    if isinstance(value, ObjectRef):
        return value.fetch()
    if not (isinstance(value, HasLarge) and is_dataclass(value)):
        return value
    refs = {name: getattr(value, name) for name in value.large}
    return replace(
        value, **{name: p.fetch() for name, p in refs.items() if isinstance(p, ObjectRef)}
    )


def bytes_or_digest(value: "bytes | ObjectRef") -> bytes:
    """Return the bytes, or the digest of a reference: what an envelope is sealed over."""
    return value.digest if isinstance(value, ObjectRef) else value


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A value that its worker leaves in the store."""

    value: Any


class _ResultPickler(serialization.Pickler):
    """Pickles a result without its large fields, which it collects, pickled, in ``bodies``."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.bodies: list[bytes] = []

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not _Kept:
            return None
        digest = hashlib.sha256(value.value).digest() if type(value.value) is bytes else b""
        self.bodies.append(serialization.dump(value.value))
        return len(self.bodies) - 1, len(value.value), digest

    def reducer_override(self, value: Any) -> Any:
        if not (isinstance(value, HasLarge) and is_dataclass(value)):
            return super().reducer_override(value)
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        for name in value.large:
            if given[name] is not None and len(given[name]):
                given[name] = _Kept(given[name])
        return _rebuild, (type(value), given)


def _rebuild(cls: Callable[..., Any], values: dict[str, Any]) -> Any:
    return cls(**values)


def dump_result(value: Any) -> tuple[bytes, list[bytes]]:
    """Return a pickled result, and the pickled large fields that stay in the store."""
    buffer = io.BytesIO()
    pickler = _ResultPickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.bodies


def load_result(data: bytes, reference: Any, read: Callable[[Any], Sequence[bytes]]) -> Any:
    """Return a result with references in place of the fields that stayed in the store."""
    unpickler = _Unpickler(io.BytesIO(data))

    def to_ref(id_: tuple[int, int, bytes]) -> ObjectRef:
        place, size, digest = id_
        return ObjectRef(reference, place, size, digest, read)

    unpickler.load_persistent = to_ref
    return unpickler.load()


class _TaskPickler(serialization.Pickler):
    """Pickles a task; collects the store's references of the ``ObjectRef``s in it."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.references: list[Any] = []

    def persistent_id(self, value: Any) -> Any:
        if type(value) is not ObjectRef:
            return None
        if not any(known is value.reference for known in self.references):
            self.references.append(value.reference)
        known = next(i for i, ref in enumerate(self.references) if ref is value.reference)
        return known, value.place, value.digest


def dump_task(value: Any) -> tuple[bytes, list[Any]]:
    """Return a pickled task, and the store's references that it needs."""
    buffer = io.BytesIO()
    pickler = _TaskPickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), pickler.references


def load_task(data: bytes, bodies: Sequence[Sequence[bytes]]) -> Any:
    """Return a task with values in place of its references, given what these hold.

    Raises:
        ValueError: A value of bytes does not match its digest.
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
