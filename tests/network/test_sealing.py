"""A sealed package opens for its receiver, once, as it was sent, and in no other case."""

from dataclasses import replace

import pytest

from knexa.network.refusals import RefusedError
from knexa.network.sealing import (
    CHUNK_BYTES,
    WINDOW,
    Opener,
    ReplayWindow,
    SealedChunk,
    SealingContext,
    SealingKey,
    check_key,
    seal,
)
from tests.network.trial import identity

CONTEXT = SealingContext(sender="a0", receiver="a1", round=3, directive="r3-0", counter=7)
SENDER, RECEIVER = SealingKey(), SealingKey()
DATA = bytes(range(256)) * 600  # three chunks


def sealed(
    data: bytes = DATA, context: SealingContext = CONTEXT
) -> tuple[bytes, list[SealedChunk]]:
    ephemeral, chunks = seal(data, context, SENDER, RECEIVER.public)
    return ephemeral, list(chunks)


def opened(
    ephemeral: bytes,
    chunks: list[SealedChunk],
    *,
    context: SealingContext = CONTEXT,
    key: SealingKey = RECEIVER,
    sender_key: bytes = SENDER.public,
    max_bytes: int = 1 << 20,
) -> bytes:
    opener = Opener(
        context, key, sender_key=sender_key, ephemeral_key=ephemeral, max_bytes=max_bytes
    )
    for chunk in chunks:
        opener.feed(chunk)
    return opener.finish()


def refused(ephemeral: bytes, chunks: list[SealedChunk], **changed: object) -> str:
    with pytest.raises(RefusedError) as caught:
        opened(ephemeral, chunks, **changed)  # type: ignore[arg-type]
    return caught.value.reason


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(DATA)])
def test_what_was_sealed_is_what_is_opened(size: int) -> None:
    ephemeral, chunks = sealed(DATA[:size])
    assert opened(ephemeral, chunks) == DATA[:size]
    assert [chunk.last for chunk in chunks] == [*([False] * (len(chunks) - 1)), True]


def test_equal_packages_are_never_sealed_alike() -> None:
    assert sealed()[0] != sealed()[0]
    assert sealed()[1] != sealed()[1]


def test_no_byte_may_be_changed() -> None:
    ephemeral, (chunk,) = sealed(b"def f(): return 1")
    for place in range(len(chunk.data)):
        harmed = bytearray(chunk.data)
        harmed[place] ^= 1
        assert refused(ephemeral, [replace(chunk, data=bytes(harmed))]) == "tampered"


def test_chunks_in_another_order_are_refused() -> None:
    ephemeral, (first, second, third) = sealed()
    assert refused(ephemeral, [second, first, third]) == "reordered"
    assert refused(ephemeral, [first, first, second, third]) == "reordered"
    assert refused(ephemeral, [first, third]) == "reordered"
    assert refused(ephemeral, [first, second, third, third]) == "reordered"
    renamed = [first, replace(second, data=first.data), third]
    assert refused(ephemeral, renamed) == "tampered"


def test_a_cut_stream_is_refused() -> None:
    ephemeral, chunks = sealed()
    assert refused(ephemeral, chunks[:2]) == "truncated"
    assert refused(ephemeral, []) == "truncated"
    assert refused(ephemeral, [chunks[0], replace(chunks[1], last=True)]) == "tampered"
    assert refused(ephemeral, [replace(chunks[0], data=chunks[0].data[:40])]) == "malformed"
    assert refused(ephemeral, [*chunks[:2], replace(chunks[2], data=b"")]) == "tampered"


def test_too_much_is_refused_before_it_is_decrypted() -> None:
    ephemeral, chunks = sealed()
    assert opened(ephemeral, chunks, max_bytes=len(DATA)) == DATA
    assert refused(ephemeral, chunks, max_bytes=len(DATA) - 1) == "oversized"
    assert refused(ephemeral, [SealedChunk(0, True, bytes(CHUNK_BYTES + 17))]) == "oversized"


@pytest.mark.parametrize(
    "field", [{"sender": "a2"}, {"receiver": "a2"}, {"round": 4}, {"directive": "r3-1"}]
)
def test_a_package_is_bound_to_its_context(field: dict[str, object]) -> None:
    changed = replace(CONTEXT, **field)  # type: ignore[arg-type]
    assert refused(*sealed(), context=changed) == "tampered"
    assert refused(*sealed(), context=replace(CONTEXT, counter=8)) == "tampered"


def test_a_package_opens_for_its_receiver_and_from_its_sender_alone() -> None:
    assert refused(*sealed(), key=SealingKey()) == "tampered"
    assert refused(*sealed(), sender_key=SealingKey().public) == "tampered"


def test_names_cannot_run_into_each_other() -> None:
    one = SealingContext(sender="ab", receiver="c", round=1, directive="d", counter=0)
    assert one.encode() != replace(one, sender="a", receiver="bc").encode()


@pytest.mark.parametrize("key", [bytes(32), b"short", (1).to_bytes(32, "little")])
def test_keys_that_are_none_are_refused(key: bytes) -> None:
    assert refused(key, sealed()[1]) == "malformed"
    with pytest.raises(RefusedError):
        seal(DATA, CONTEXT, SENDER, key)


def test_a_counter_is_taken_once() -> None:
    window = ReplayWindow()
    for counter in (0, 2, 1, 5):
        window.take("a0", b"key", counter)
    for counter in (0, 1, 2, 5):
        with pytest.raises(RefusedError, match="replayed"):
            window.check("a0", b"key", counter)
    window.take("a0", b"key", 3)
    window.take("a0", b"another", 5)
    window.take("a2", b"key", 5)


def test_a_counter_far_behind_is_refused_and_a_leap_forgets_nothing() -> None:
    window = ReplayWindow()
    window.take("a0", b"key", 0)
    window.take("a0", b"key", 2**64 - 1)
    for counter in (0, 1, 2**64 - 1, 2**64 - 1 - WINDOW):
        with pytest.raises(RefusedError):
            window.check("a0", b"key", counter)
    window.take("a0", b"key", 2**64 - WINDOW)


def test_windows_do_not_grow_without_end() -> None:
    window = ReplayWindow(keys_per_sender=2)
    for number in range(100):
        window.take("a0", bytes([number]), 0)
    assert len(window._seen["a0"]) == 2


def test_a_sealing_key_is_its_certificates() -> None:
    owner, reader, key = identity("a0"), identity("a1"), SealingKey()
    shown = {
        "certificate": owner.certificate_der,
        "name": "a0",
        "sealing_key": key.public,
        "signature": key.vouch(owner),
    }
    check_key(reader, **shown)  # type: ignore[arg-type]
    for changed in (
        {"name": "a2"},
        {"sealing_key": SealingKey().public},
        {"certificate": identity("a2").certificate_der},
        {"signature": key.vouch(identity("a2"))},
        {"sealing_key": b"short"},
    ):
        with pytest.raises(RefusedError):
            check_key(reader, **(shown | changed))  # type: ignore[arg-type]
