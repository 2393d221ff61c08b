"""Packages of numbers come back as they were sent; hostile ones are one line."""

import json
import pickle
from typing import Any

import numpy as np
import pytest

from knexa.exchange.package import PackageError
from knexa.exchange.tensors import pack, schema_of, unpack

ARRAYS = {
    "lora_B": np.arange(6, dtype=np.float32).reshape(2, 3),
    "lora_A": np.linspace(-1, 1, 4).astype(np.float16),
    "ids": np.array([[3, 1], [4, 1]], dtype=np.int32),
}
DATA = pack("adapter", "a0", 2, ARRAYS)


def read(data: bytes, **changes: Any) -> dict[str, Any]:
    return unpack(data, "adapter", schema_of(ARRAYS) | changes)


def safetensors(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def test_numbers_come_back_bit_for_bit_and_writable():
    arrays = read(DATA)
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].dtype == array.dtype
        assert arrays[name].flags.writeable


def test_equal_packages_are_equal_bytes():
    assert pack("adapter", "a0", 2, dict(reversed(ARRAYS.items()))) == DATA


FIELDS = json.dumps({"version": 1, "kind": "adapter"})
HEADER = {"__metadata__": {"package": FIELDS}}
HOSTILE = {
    "empty": b"",
    "cut": DATA[:-1],
    "cut in the header": DATA[:40],
    "longer": DATA + b"\0",
    "pickle": pickle.dumps(ARRAYS),
    "length beyond the end": (10**6).to_bytes(8, "little") + DATA[8:],
    "huge length": (2**63).to_bytes(8, "little") + DATA[8:],
    "not JSON": safetensors(b"{" * 100_000),
    "no object": safetensors([1, 2]),
    "no tensors": safetensors(HEADER),
    "odd metadata": safetensors({"__metadata__": [1]}),
    "odd fields": safetensors({"__metadata__": {"package": {"version": 1}}}),
    "odd entries": safetensors(HEADER | dict.fromkeys(ARRAYS, 7)),
    "odd shapes": safetensors(HEADER | {n: {"dtype": "F32", "shape": {}} for n in ARRAYS}),
    "other kind": pack("scores", "a0", 2, ARRAYS),
    "another name": pack("adapter", "a0", 2, ARRAYS | {"extra": np.zeros(1, np.float32)}),
    "another shape": pack("adapter", "a0", 2, ARRAYS | {"ids": np.zeros((2, 3), np.int32)}),
    "another type": pack("adapter", "a0", 2, ARRAYS | {"ids": np.zeros((2, 2), np.float32)}),
    "too large": DATA + bytes(2 << 20),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_one_line(data):
    with pytest.raises(PackageError) as caught:
        read(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_neither_leave_nor_arrive(number):
    broken = ARRAYS | {"lora_A": np.full(4, number, np.float16)}
    with pytest.raises(PackageError, match="not finite"):
        pack("adapter", "a0", 2, broken)
    forged = DATA.replace(ARRAYS["lora_A"].tobytes(), broken["lora_A"].tobytes())
    with pytest.raises(PackageError, match="not finite"):
        read(forged)


def test_another_version_is_refused():
    with pytest.raises(PackageError, match="version"):
        read(DATA.replace(b'version\\": 1', b'version\\": 2'))
