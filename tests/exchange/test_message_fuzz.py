"""100,000 mutated messages, and the largest and worst-shaped ones by hand."""

import json
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.exchange.package import DEFAULT_LIMITS, PackageError, decode
from knexa.exchange.tensors import unpack
from tests.exchange.message_fuzz import NUMBERS, SCHEMA, is_clear, read_text, refusal

SIZE = DEFAULT_LIMITS.max_bytes
SCRIPT = Path(__file__).with_name("message_fuzz.py")


# Feedback and profiles meet a whole CPM, and change less from one message to the next.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "number"),
    [("text", 45_000), ("tensors", 40_000), ("feedback", 10_000), ("profiles", 5_000)],
)
def test_mutated_messages_are_refused_clearly_or_taken_as_valid(target: str, number: int) -> None:
    command = [sys.executable, "-W", "error", str(SCRIPT), target, str(number), "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["taken"] + result["refused"] == number
    # A fuzz that is always refused, or never, reaches nothing.
    assert number / 10 < result["taken"] < number * 9 / 10
    assert result["longest"] < 1.0  # processor seconds


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
)
def test_any_bytes_are_refused_clearly_or_taken_as_valid(data: bytes) -> None:
    error = refusal(lambda: read_text(data))
    assert error is None or (isinstance(error, PackageError) and is_clear(error))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*SCHEMA, "__metadata__", "d"]), JSON), st.binary())
def test_any_header_over_any_numbers_is_refused(header: dict[str, object], body: bytes) -> None:
    text = json.dumps(header).encode()
    with pytest.raises(PackageError) as refusal:
        unpack(struct.pack("<Q", len(text)) + text + body, "logits", SCHEMA)
    assert is_clear(refusal.value)


def filled(head: bytes, unit: bytes, tail: bytes) -> bytes:
    """Return as many units between head and tail as a package may have bytes."""
    return head + unit * ((SIZE - len(head) - len(tail)) // len(unit)) + tail


ITEMS = b",".join(
    b'{"completion":"\xf0\x9f\x98\x80%s","confidence":-0.5,"task_id":"t%d"}' % (b"a" * 950, number)
    for number in range(4000)
)
ENDING = b'],"kind":"text","round":1,"sender":"a","version":1}'


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[" * SIZE, id="nested lists"),
        pytest.param(filled(b"", b'{"a":', b""), id="nested objects"),
        pytest.param(filled(b'{"items":[', b"{},", b"{}]}"), id="empty objects"),
        pytest.param(filled(b'{"items":[', b"0,", b"0]}"), id="numbers"),
        pytest.param(filled(b'{"items":[', b'"",', b'""]}'), id="empty strings"),
        pytest.param(filled(b"{", b'"":"",', b'"":""}'), id="one key again and again"),
        pytest.param(b'"' * SIZE, id="quotes"),
        pytest.param(b"\\" * SIZE, id="backslashes"),
        pytest.param(b'"' + b"\\" * (SIZE - 1), id="a string that never ends"),
        pytest.param(b"1" * SIZE, id="a long integer"),
        pytest.param(b"-0." + b"1" * (SIZE - 3), id="a long fraction"),
        pytest.param(b"1e" + b"9" * (SIZE - 2), id="a long exponent"),
        pytest.param(b" " * SIZE, id="spaces"),
        pytest.param(b"\xff" * SIZE, id="no UTF-8"),
        pytest.param(filled(b'{"sender":"\xf0\x9f\x98\x80', b"a", b'"}'), id="wide characters"),
        pytest.param(filled(b'{"sender":"', b"\\u0041", b'"}'), id="escapes"),
        pytest.param(b'{"items":[' + ITEMS + ENDING, id="valid, in wide characters"),
    ],
)
def test_the_largest_packages_take_a_small_multiple_of_their_size(data: bytes) -> None:
    assert len(data) <= SIZE
    tracemalloc.start()
    begin = time.process_time()
    error = refusal(lambda: decode(data))
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error is None or (isinstance(error, PackageError) and is_clear(error))
    # Python stores a text with one wide character in four bytes each, and JSON copies it once.
    assert peak < 8.5 * SIZE
    assert seconds < 10.0  # about 0.1; something quadratic would take hours


def with_header(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


LENGTH = struct.unpack("<Q", NUMBERS[:8])[0]
HEADER, BODY = json.loads(NUMBERS[8 : 8 + LENGTH]), NUMBERS[8 + LENGTH :]


def changed(**fields: object) -> bytes:
    return with_header(HEADER | {"a": HEADER["a"] | fields}, BODY)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_header(b"[" * 4000), id="nested lists"),
        pytest.param(with_header(b'{"a":' * 700), id="nested objects"),
        pytest.param(struct.pack("<Q", 2**64 - 1) + NUMBERS[8:], id="an endless header"),
        pytest.param(struct.pack("<Q", 2**63) + NUMBERS[8:], id="a header of 8 EiB"),
        pytest.param(NUMBERS[:-1], id="a byte less"),
        pytest.param(NUMBERS + b"\0", id="a byte more"),
        pytest.param(NUMBERS + b"\0" * 10**6, id="much more"),
        pytest.param(changed(shape=[2**32, 2**32]), id="a product beyond 64 bits"),
        pytest.param(changed(shape=[2**62, 4]), id="a product that wraps to 0"),
        pytest.param(changed(shape=[-3, -4]), id="negative sides"),
        pytest.param(changed(shape=[3.0, 4.0]), id="sides that are no integers"),
        pytest.param(changed(shape=[True, 12]), id="a side that is a truth value"),
        pytest.param(changed(shape=[12]), id="another shape"),
        pytest.param(changed(dtype="F64"), id="wider numbers"),
        pytest.param(changed(dtype="I32"), id="other numbers"),
        pytest.param(changed(data_offsets=[0, 2**62]), id="offsets beyond the end"),
        pytest.param(changed(data_offsets=[48, 0]), id="offsets backwards"),
        pytest.param(changed(data_offsets=[-48, 0]), id="negative offsets"),
        pytest.param(changed(data_offsets=HEADER["b"]["data_offsets"]), id="overlapping numbers"),
        pytest.param(with_header(HEADER | {"d": HEADER["a"]}, BODY), id="one more tensor"),
        pytest.param(
            with_header(
                json.dumps(HEADER).encode()[:-1]
                + b',"a":'
                + json.dumps(HEADER["b"]).encode()
                + b"}",
                BODY,
            ),
            id="a tensor twice",
        ),
        *(
            pytest.param(
                NUMBERS[: -len(BODY)]
                + BODY.replace(np.float32(-1).tobytes(), np.float32(value).tobytes()),
                id=f"{value}",
            )
            for value in (np.nan, np.inf)
        ),
    ],
)
def test_a_package_of_numbers_that_claims_what_it_has_not_is_refused(data: bytes) -> None:
    unpack(NUMBERS, "logits", SCHEMA)  # the honest one
    tracemalloc.start()
    with pytest.raises(PackageError) as refusal:
        unpack(data, "logits", SCHEMA)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert is_clear(refusal.value)
    assert peak < 1024**2
