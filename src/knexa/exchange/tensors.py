"""Packages of numbers: adapters, logits, similarities and scores, as safetensors bytes.

Nothing is pickled. A receiver knows the names, types and shapes of the tensors that it expects, and
so the largest package; whatever differs raises ``PackageError``. The meaning of the numbers (a
probability, a cosine) is for the caller to check.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from knexa.exchange.package import PACKAGE_VERSION, PackageError

Arrays = Mapping[str, NDArray[Any]]
Schema = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type (``float16``, ``float32`` or ``int32``) and shape of every tensor by name."""

# Bytes of header for the package's own fields, and for each tensor besides its name and shape.
_MAX_PREAMBLE: Final = 4096
_MAX_ENTRY: Final = 256
_METADATA: Final = "package"
_TYPES: Final = {"F16": "float16", "F32": "float32", "I32": "int32"}


def schema_of(arrays: Arrays) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the schema of these arrays."""
    return {name: (str(array.dtype), array.shape) for name, array in arrays.items()}


def pack(kind: str, sender: str, round_number: int, arrays: Arrays) -> bytes:
    """Return the package as sent.

    Raises:
        PackageError: A number is not finite; no receiver would take it.
    """
    from safetensors.numpy import save

    _check_finite(arrays)
    fields = {"version": PACKAGE_VERSION, "kind": kind, "sender": sender, "round": round_number}
    # A single entry: safetensors writes several in an order that varies.
    metadata = {_METADATA: json.dumps(fields, sort_keys=True)}
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    data: bytes = save(ordered, metadata=metadata)
    return data


def unpack(data: bytes, kind: str, schema: Schema) -> dict[str, NDArray[Any]]:
    """Read a package from bytes that anybody may have written.

    Raises:
        PackageError: Too large, not safetensors, of another kind or version, tensors that are not
            exactly those of ``schema``, or numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    size = sum(np.dtype(kind_).itemsize * math.prod(shape) for kind_, shape in schema.values())
    longest = _longest_header(schema)
    if len(data) > size + longest:
        raise PackageError(
            f"the package has {len(data)} bytes, allowed are {size} and {longest} of header"
        )
    header = _header(data, longest)
    metadata = header.pop("__metadata__", None)
    fields = _object(metadata.get(_METADATA, "") if isinstance(metadata, dict) else "")
    if type(fields.get("version")) is not int or fields["version"] != PACKAGE_VERSION:
        raise PackageError(f"the package is not of version {PACKAGE_VERSION}")
    if fields.get("kind") != kind:
        raise PackageError(f"the package is not of kind {kind!r}")
    expected = {name: [dtype, list(shape)] for name, (dtype, shape) in schema.items()}
    if {name: _described(entry) for name, entry in header.items()} != expected:
        raise PackageError("the package holds other tensors than the ones expected")
    try:
        arrays: dict[str, NDArray[Any]] = load(data)
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise PackageError(f"the package is not safetensors: {str(error)[:80]}") from None
    if schema_of(arrays) != dict(schema):  # a header that two parsers read differently
        raise PackageError("the package holds other tensors than the ones expected")
    _check_finite(arrays)
    return {name: array.copy() for name, array in arrays.items()}  # the bytes are read-only


def _longest_header(schema: Schema) -> int:
    """Return the largest size of an honest package's header, with its length field.

    It is kept small because parsed JSON takes up to 40 times its size.
    """
    names = sum(6 * len(name) + 20 * len(shape) for name, (_, shape) in schema.items())
    return _MAX_PREAMBLE + names + _MAX_ENTRY * len(schema)


def _header(data: bytes, longest: int) -> dict[str, Any]:
    """Return the header as plain values: eight bytes of length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(longest, len(data)) - 8:
        raise PackageError("the package is not safetensors: its header is cut or too long")
    return _object(data[8 : 8 + length])


def _object(text: Any) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise PackageError("the package is not safetensors: its header is not JSON") from None
    if not isinstance(fields, dict):
        raise PackageError("the package is not safetensors: its header is no object")
    return fields


def _described(entry: Any) -> Any:
    if not isinstance(entry, dict):
        return None
    return [_TYPES.get(str(entry.get("dtype"))), entry.get("shape")]


def _check_finite(arrays: Arrays) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PackageError(f"the package holds numbers that are not finite, in {name[:80]!r}")
