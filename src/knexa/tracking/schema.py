"""Writes dataclasses as JSON objects, reads them back, and makes their tables in the documents.

A field is ``Annotated[type, meaning]``; the meaning is shown in docs/concepts.md. When an object is
read, a missing or unknown column, or a value of another type, is an error.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from knexa.tracking.files import encode_row, plain


class ShapeError(Exception):
    """A JSON object whose columns or values are not those of its class."""


@dataclass(frozen=True, slots=True)
class Only:
    """Marks a column that is left out, and not null, where it does not apply.

    Attributes:
        when: Where it is written, for the table in the documents.
        beside: The field that is None exactly where this one is left out; None: the field itself.
    """

    when: str
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """Marks a field whose keys are written among its parent's, with ``prefix`` and ``suffix``."""

    prefix: str = ""
    suffix: str = ""


class Record:
    """One JSON object: the base of dataclasses that are frozen, slotted and keyword-only."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


R = TypeVar("R", bound=Record)


class Column(NamedTuple):
    """How a field is written."""

    field: str
    name: str
    type: Any
    meaning: str
    only: Only | None
    spread: Spread | None


_columns: dict[type[Record], tuple[Column, ...]] = {}
_adapters: dict[type[Record], TypeAdapter[Any]] = {}


def columns(kind: type[Record]) -> tuple[Column, ...]:
    """Return the columns of a class, in the order of its fields."""
    if kind in _columns:
        return _columns[kind]
    hints, found = get_type_hints(kind, include_extras=True), []
    for field in fields(kind):  # type: ignore[arg-type]  # subclasses are dataclasses
        declared, *marks = get_args(hints[field.name])
        meaning = next(mark for mark in marks if isinstance(mark, str))
        only = next((mark for mark in marks if isinstance(mark, Only)), None)
        spread = next((mark for mark in marks if isinstance(mark, Spread)), None)
        alias = next((mark.alias for mark in marks if isinstance(mark, FieldInfo)), None)
        found.append(Column(field.name, alias or field.name, declared, meaning, only, spread))
    _columns[kind] = tuple(found)
    return _columns[kind]


def as_document(record: Record) -> dict[str, Any]:
    """Return the JSON object of a record, keys in the order in which they are written."""
    document: dict[str, Any] = {}
    for field, name, _, _, only, spread in columns(type(record)):
        value = getattr(record, field)
        if only is not None and getattr(record, only.beside or field) is None:
            continue
        if spread is None:
            document[name] = _as_json(value)
        else:
            inner = as_document(value) if isinstance(value, Record) else value
            names = {key: f"{spread.prefix}{key}{spread.suffix}" for key in inner}
            document |= {names[key]: _as_json(item) for key, item in inner.items()}
    return document


def _as_json(value: Any) -> Any:
    if isinstance(value, Record):
        return as_document(value)
    if isinstance(value, tuple) and value and isinstance(value[0], Record):
        return [as_document(item) for item in value]
    return plain(value)


def encode(record: Record) -> bytes:
    """Return a record as one JSON line."""
    return encode_row(as_document(record))


def decode(kind: type[R], content: bytes) -> R:
    """Return the record that a JSON object holds.

    Raises:
        ShapeError: It has a column too many or too few, or a value of another type.
        ValueError: It is no JSON object.
    """
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    adapter = _adapters[kind]
    if any(column.spread for column in columns(kind)):
        document = dict(json.loads(content))
        content = json.dumps(_nested(kind, document) | document).encode()
    try:
        try:
            found: R = adapter.validate_json(content, strict=True)
        except ValidationError as error:
            if error.errors()[0]["type"] != "json_invalid":
                raise
            # A program's text may hold lone surrogates, which only Python's parser accepts.
            found = adapter.validate_python(json.loads(content))
    except ValidationError as error:
        raise _shape_error(error) from None
    return found


def _nested(kind: type[Record], document: dict[str, Any]) -> dict[str, Any]:
    """Remove the class's keys from the object and return them, spread ones as objects again."""
    taken = {}
    # What is marked at both ends first: it would also fit a mark at one.
    for _, name, declared, _, _, spread in sorted(columns(kind), key=_is_less_marked):
        if spread is not None and not spread.prefix:
            taken[name] = _nested(declared, document)
        elif spread is not None:
            ends = spread.prefix, spread.suffix
            keys = [key for key in document if key.startswith(ends[0]) and key.endswith(ends[1])]
            taken[name] = {
                key.removeprefix(ends[0]).removesuffix(ends[1]): document.pop(key) for key in keys
            }
        elif name in document:
            taken[name] = document.pop(name)
    return taken


def _is_less_marked(column: Column) -> bool:
    return column.spread is None or not column.spread.suffix


def _shape_error(error: ValidationError) -> Exception:
    first = error.errors()[0]
    column = ".".join(str(place) for place in first["loc"])
    if not column:
        return ValueError("this is no JSON object")
    if first["type"] == "missing":
        return ShapeError(f"there is no column {column}")
    if first["type"] == "unexpected_keyword_argument":
        return ShapeError(f"column {column} is unknown")
    return ShapeError(f"column {column}: {first['msg']}")


_TYPES = {int: "integer", float: "number", str: "text", bool: "true or false"}


def table(kind: type[Record]) -> str:
    """Return the class's columns, and those of the objects in it, as a table in Markdown."""
    lines = "".join(f"| `{name}` | {of} | {meaning} |\n" for name, of, meaning in _lines(kind, ""))
    return f"| column | type | meaning |\n|---|---|---|\n{lines}"


def _lines(kind: type[Record], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield (column, type, meaning); a class's columns follow its first object only."""
    shown: set[type[Record]] = set()
    for column in columns(kind):
        inner = _record_in(column.type)
        if column.spread is not None and not column.spread.prefix:
            assert inner is not None
            yield from _lines(inner, prefix)
            continue
        name = prefix + (
            f"{column.spread.prefix}K{column.spread.suffix}" if column.spread else column.name
        )
        is_never_null = column.only is not None and column.only.beside is None
        type_name = "object" if column.spread else _type_name(column.type, is_never_null)
        only = f"; {column.only.when}" if column.only else ""
        yield name, type_name, column.meaning + only
        if inner is not None and inner not in shown:
            shown.add(inner)
            is_list = get_origin(column.type) is tuple
            yield from _lines(inner, f"{name}[]." if is_list else f"{name}.")


def _record_in(kind: Any) -> type[Record] | None:
    """Return the class of the objects that a column holds, if it holds any."""
    if isinstance(kind, type) and get_origin(kind) is None:
        return kind if issubclass(kind, Record) else None
    return next((found for part in get_args(kind) if (found := _record_in(part))), None)


def _type_name(kind: Any, is_never_null: bool = False) -> str:
    if isinstance(kind, UnionType):
        parts = [_type_name(part) for part in get_args(kind) if part is not NoneType]
        return " or ".join(parts if is_never_null else [*parts, "null"])
    if get_origin(kind) is tuple:
        inner = _type_name(get_args(kind)[0])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    return _TYPES.get(kind, "object")
