"""Makes data frames of the rows that runs write: a column a field, named and typed as its class."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from knexa.recipe import NAME
from knexa.report.runs import Run
from knexa.tracking.schema import Column, Record, columns

if TYPE_CHECKING:
    from pandas import DataFrame, Series

RunColumns = Mapping[str, Any]
"""What tells a run from others, by column."""

_ALWAYS = ("run", "matchmaker", "exchange", "seed")
_SCALARS = (str, int, float, NoneType)


def run_columns(runs: Sequence[Run]) -> list[RunColumns]:
    """Return what each run's rows begin with: folder, method, seed, and the keys that differ.

    A value that is a list or an object stands as JSON, so that one can group by it.
    """
    configs = [
        {
            key.removesuffix(f".{NAME}"): v if isinstance(v, _SCALARS) else json.dumps(v)
            for key, v in run.config.items()
        }
        for run in runs
    ]
    keys = dict.fromkeys(key for config in configs for key in config if key not in _ALWAYS)
    differing = [key for key in keys if len({config.get(key) for config in configs}) > 1]
    return [
        dict(zip(_ALWAYS, (run.path.name, run.matchmaker, run.exchange, run.seed), strict=True))
        | {key: config.get(key) for key in differing}
        for run, config in zip(runs, configs, strict=True)
    ]


def frame(
    kind: type[Record], runs: Sequence[RunColumns], rows: Sequence[Sequence[Record]]
) -> "DataFrame":
    """Return the rows of each run, all of one kind, with the columns of their run before their own.

    All columns of the kind are there, in the order of its fields, whatever the rows hold. Of two
    that are named alike, the config's is called ``config.NAME``, and the kind's is left out where
    it tells the run.
    """
    import pandas

    cells = [[{c.name: c for c in _cells(kind, record)} for record in found] for found in rows]
    types = {cell.name: cell for cell in _cells(kind, None)}
    for row in chain.from_iterable(cells):
        types |= {name: cell for name, cell in row.items() if name not in types}
    own = sorted(types.keys() - set(_ALWAYS), key=lambda name: types[name].place)
    filled = {
        f"config.{name}" if name in own else name: pandas.Series(
            [run[name] for run, found in zip(runs, rows, strict=True) for _ in found]
        )
        for name in runs[0]
    }
    for name in own:
        values = [row[name].value if name in row else None for row in chain.from_iterable(cells)]
        filled[name] = _series(values, types[name].type)
    return pandas.DataFrame(filled)


class _Cell(NamedTuple):
    """A value and its column: the places of its fields in their classes, for their order."""

    place: tuple[int, ...]
    name: str
    type: Any
    value: Any


def _cells(
    kind: type[Record], record: Record | None, place: tuple[int, ...] = (), prefix: str = ""
) -> Iterator[_Cell]:
    """Yield the cells of a record, of None the empty ones that each record has."""
    for index, (column, inner, counts) in enumerate(_layout(kind)):
        at = (*place, index)
        value = None if record is None else getattr(record, column.field)
        name = prefix + column.name
        if column.spread is not None and column.spread.prefix:
            for key, item in (value or {}).items():
                yield from _cells(type(item), item, at, f"{prefix}{column.spread.prefix}{key}.")
        elif inner is not None:
            yield from _cells(inner, value, at, prefix if column.spread else f"{name}.")
        elif counts:
            for key, item in (value or {}).items():
                yield _Cell(at, f"{name}.{key}", float, item)
        else:
            yield _Cell(at, name, column.type, value)


_Layout = list[tuple[Column, type[Record] | None, bool]]
_layouts: dict[type[Record], _Layout] = {}


def _layout(kind: type[Record]) -> _Layout:
    """Return each column of a class, the class of the object that it holds, if it is counts."""
    if kind in _layouts:
        return _layouts[kind]
    found: _Layout = []
    for column in columns(kind):
        parts = _parts(column.type)
        classes = [part for part in parts if isinstance(part, type) and not get_origin(part)]
        inner = next((part for part in classes if issubclass(part, Record)), None)
        found.append((column, inner, any(get_origin(part) is Mapping for part in parts)))
    _layouts[kind] = found
    return found


def _parts(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _series(values: list[Any], kind: Any) -> "Series":
    """Return a column: numbers, NaN where there is none; anything else as the objects it is.

    Text too: what a model wrote may hold lone surrogates, which pandas' own type refuses.
    """
    import pandas

    parts = set(_parts(kind)) - {NoneType}
    if not parts <= {int, float, bool}:
        dtype = "object"
    elif None in values or float in parts:
        dtype = "float64"
    else:
        dtype = "bool" if bool in parts else "int64"
    return pandas.Series(values, dtype=dtype)
