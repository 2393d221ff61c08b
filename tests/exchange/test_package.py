import json
import math
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.exchange.package import (
    KnowledgePackage,
    PackageError,
    PackageLimits,
    TextItem,
    decode,
    encode,
    unsendable,
)

PACKAGE = KnowledgePackage(
    sender="qwen2-a",
    round=3,
    items=(
        TextItem(task_id="codelets/a/1", completion="    return x + 1\n", confidence=-0.25),
        TextItem(task_id="codelets/a/2", completion='    return "caf\u00e9"\n', confidence=None),
    ),
)
FIELDS = json.loads(encode(PACKAGE))
TEXT = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc"],
        exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        include_characters="\n\t",
    ),
    max_size=40,
)


def pack(**changes: Any) -> bytes:
    return json.dumps(FIELDS | changes).encode()


def pack_item(**changes: Any) -> bytes:
    return pack(items=[FIELDS["items"][0] | changes])


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            TextItem,
            task_id=TEXT.filter(bool),
            completion=TEXT,
            confidence=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        unique_by=lambda item: item.task_id,
        max_size=5,
    ),
    st.integers(0, 10**6),
)
def test_decoding_returns_what_was_encoded(items: list[TextItem], number: int) -> None:
    package = KnowledgePackage(sender="a", round=number, items=tuple(items))
    assert decode(encode(package)) == package


def test_the_bytes_are_canonical() -> None:
    data = encode(PACKAGE)
    assert encode(decode(json.dumps(json.loads(data), indent=3).encode())) == data
    assert "caf\u00e9".encode() in data
    assert b": " not in data.replace(b"x + 1", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "no field"),
        (pack(version=2), "version 2, this program reads 1"),
        (pack(version=True), "version True"),
        (pack(version="1"), "version '1'"),
        (pack(kind="pickle"), "kind 'pickle'"),
        (pack(extra=1), "unknown field 'extra'"),
        (pack(sender=""), "sender has 0 characters"),
        (pack(sender=7), "sender is not text"),
        (pack(round=-1), "round is -1"),
        (pack(round=1.0), "round is 1.0"),
        (pack(round=10**30), "18 digits"),
        (pack(items={}), "items is not a list"),
        (pack(items=[1]), "an item is not an object"),
        (pack(items=[FIELDS["items"][0]] * 2), "answers a problem twice"),
        (pack_item(task_id=None), "task_id is not text"),
        (pack_item(completion=["x"]), "nested too deeply"),
        (pack_item(completion="\x00"), "control character"),
        (pack_item(completion="\x1b[2J"), "control character"),
        (pack_item(completion="\ud800"), "control character"),
        (pack_item(completion="\u202e"), "control character"),
        (pack_item(confidence=math.nan), "holds NaN"),
        (pack_item(confidence=math.inf), "holds Infinity"),
        (pack_item(confidence="-1"), "confidence is '-1'"),
        (pack_item(confidence=False), "confidence is False"),
        (pack_item(code="x"), "unknown field 'code'"),
        (encode(PACKAGE).replace(b"-0.25", b"1e999"), "confidence is inf"),
        (b'{"version":1,' + encode(PACKAGE)[1:], "repeats a field"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"items":' * 3000 + b"1" + b"}" * 3000, "not JSON"),
        (b"9" * 10_000, "18 digits"),
        (encode(PACKAGE) + b" x", "not JSON"),
    ],
)
def test_a_wrong_package_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message) as caught:
        decode(data)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (PackageLimits(max_bytes=50), "bytes, allowed are 50"),
        (PackageLimits(max_items=1), "allowed are 1"),
        (PackageLimits(max_completion=4), "completion has 17 characters, allowed are 0 to 4"),
        (PackageLimits(max_name=4), "allowed are 1 to 4"),
    ],
)
def test_limits_hold_on_both_sides(limits: PackageLimits, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        encode(PACKAGE, limits=limits)
    with pytest.raises(PackageError, match=message):
        decode(encode(PACKAGE), limits=limits)


def test_what_a_receiver_would_refuse_is_not_sent() -> None:
    item = TextItem(task_id="a", completion="\x07")
    assert unsendable(PACKAGE.items[0]) is None
    assert unsendable(item) == "completion holds a control character"
    with pytest.raises(PackageError):
        encode(KnowledgePackage(sender="a", round=0, items=(item,)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_are_read_or_refused_and_never_crash(data: st.DataObject) -> None:
    mutated = bytearray(encode(PACKAGE))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(mutated)))
        length = data.draw(st.integers(0, 8))
        mutated[start : start + length] = data.draw(
            st.binary(max_size=8) | st.sampled_from([b'"', b"\\", b"{", b"[", b"NaN", b"1e999"])
        )
    try:
        package = decode(bytes(mutated))
    except PackageError:
        return
    assert decode(encode(package)) == package


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(PackageError):
        decode(data)


@pytest.mark.parametrize(
    "unit", [b"[],", b"{},", b'"",', b'\\"', b'"\\"', b"[", b"{", b'{"a":', b"1,", b'"a":1,']
)
@pytest.mark.parametrize("head", [b"", b'"', b"[", b'{"items":['])
def test_hostile_megabytes_cost_bounded_time_and_memory(head: bytes, unit: bytes) -> None:
    size = 1024 * 1024
    data = head + unit * (size // len(unit) - len(head))
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(PackageError):
        decode(data)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 5
    assert peak < 20 * size


def test_a_pool_may_hold_several_answers_to_a_problem_but_none_twice():
    items = [TextItem(task_id="t", completion=text) for text in ("    a\n", "    b\n")]
    package = KnowledgePackage(sender="server", round=1, items=tuple(items), kind="pool")
    assert decode(encode(package)) == package
    twice = KnowledgePackage(sender="server", round=1, items=(items[0], items[0]), kind="pool")
    with pytest.raises(PackageError, match="twice"):
        encode(twice)
