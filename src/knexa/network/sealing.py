"""End-to-end encryption of packages from teacher to student, with protection against replay.

Every process of a member has an X25519 key of its own, drawn at its start, never written to disk
and signed with the member's certificate. A package's key is HKDF-SHA256 of two shared secrets:
of an ephemeral key with the receiver's (so that only the receiver can read it) and of the sender's
with the receiver's (so that only the sender can have written it). Each chunk is sealed with
ChaCha20-Poly1305; the nonce holds its index and whether it is the last, the associated data hold
sender, receiver, round, directive and the sender's counter. As in HPKE's authenticated mode (RFC
9180), whoever steals the receiver's key can also forge packages to that receiver.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from knexa.network.identity import Identity
from knexa.network.refusals import RefusedError

CHUNK_BYTES: Final = 64 * 1024
WINDOW: Final = 64
_SUITE: Final = b"knexa package v1: X25519, HKDF-SHA256, ChaCha20-Poly1305"
_BINDING: Final = b"knexa sealing key v1"
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingContext:
    """What a sealed package is bound to: a package opens only under the same values."""

    sender: str
    receiver: str
    round: int
    directive: str
    counter: int

    def encode(self) -> bytes:
        """Return an injective encoding: different contexts give different bytes."""
        names = (self.sender, self.receiver, self.directive)
        fields = (name.encode() for name in names)
        return struct.pack(">QQ", self.round, self.counter) + b"".join(
            struct.pack(">I", len(field)) + field for field in fields
        )


class SealingKey:
    """The X25519 key of one process of a member."""

    def __init__(self) -> None:
        self.private = X25519PrivateKey.generate()
        self.public = _public_bytes(self.private)

    def vouch(self, identity: Identity) -> bytes:
        """Return the signature that binds the key to the member's certificate."""
        return identity.sign(_bound(identity.name, self.public))


def check_key(
    reader: Identity, *, certificate: bytes, name: str, sealing_key: bytes, signature: bytes
) -> None:
    """Check that the member ``name`` signed the sealing key.

    Raises:
        RefusedError: The key is malformed, or its signature or certificate is invalid.
    """
    if len(sealing_key) != _KEY_BYTES:
        raise RefusedError("malformed", "a sealing key has 32 bytes")
    reader.check_signature(certificate, name, signature, _bound(name, sealing_key))


def _bound(name: str, sealing_key: bytes) -> bytes:
    return b"\0".join((_BINDING, name.encode(), sealing_key))


@dataclass(frozen=True, slots=True)
class SealedChunk:
    """One chunk of a sealed package."""

    index: int
    last: bool
    data: bytes


def seal(
    data: bytes, context: SealingContext, key: SealingKey, receiver_key: bytes
) -> tuple[bytes, Iterator[SealedChunk]]:
    """Return the ephemeral public key and the chunks of a package, in order.

    Raises:
        RefusedError: The receiver's key is invalid.
    """
    ephemeral = X25519PrivateKey.generate()
    public = _public_bytes(ephemeral)
    secrets = _agree(ephemeral, receiver_key) + _agree(key.private, receiver_key)
    cipher = _cipher(secrets, context, public, key.public, receiver_key)
    pieces = [data[begin : begin + CHUNK_BYTES] for begin in range(0, len(data), CHUNK_BYTES)]
    pieces = pieces or [b""]

    def chunks() -> Iterator[SealedChunk]:
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            nonce = _nonce(index, last)
            yield SealedChunk(index, last, cipher.encrypt(nonce, piece, context.encode()))

    return public, chunks()


class Opener:
    """Opens one package, chunk by chunk; returns nothing before the last chunk is verified.

    Args:
        context: What the package must be bound to.
        key: The receiver's sealing key.
        sender_key: The sender's public sealing key, already checked.
        ephemeral_key: The ephemeral public key in the envelope.
        max_bytes: The largest package that is accepted.

    Raises:
        RefusedError: A key is invalid.
    """

    def __init__(
        self,
        context: SealingContext,
        key: SealingKey,
        *,
        sender_key: bytes,
        ephemeral_key: bytes,
        max_bytes: int,
    ) -> None:
        secrets = _agree(key.private, ephemeral_key) + _agree(key.private, sender_key)
        self._cipher = _cipher(secrets, context, ephemeral_key, sender_key, key.public)
        self._associated, self._max_bytes = context.encode(), max_bytes
        self._pieces: list[bytes] = []
        self._size, self._done = 0, False

    def feed(self, chunk: SealedChunk) -> None:
        """Verify and decrypt the next chunk.

        Raises:
            RefusedError: It is out of order, tampered with, or too large.
        """
        if self._done:
            raise RefusedError("reordered", "a chunk follows the last one")
        if chunk.index != len(self._pieces):
            raise RefusedError(
                "reordered", f"chunk {chunk.index} comes where {len(self._pieces)} was due"
            )
        size = len(chunk.data) - _TAG_BYTES
        if size > CHUNK_BYTES or self._size + size > self._max_bytes:
            raise RefusedError("oversized", f"allowed are {self._max_bytes} bytes")
        if not chunk.last and size != CHUNK_BYTES:
            raise RefusedError("malformed", "a chunk before the last one is not full")
        try:
            nonce = _nonce(chunk.index, chunk.last)
            piece = self._cipher.decrypt(nonce, chunk.data, self._associated)
        except InvalidTag:
            raise RefusedError("tampered", "a chunk is not as it was sealed") from None
        self._pieces.append(piece)
        self._size, self._done = self._size + len(piece), chunk.last

    def finish(self) -> bytes:
        """Return the package.

        Raises:
            RefusedError: The last chunk is missing.
        """
        if not self._done:
            raise RefusedError("truncated", "the stream ended before the last chunk")
        return b"".join(self._pieces)


class ReplayWindow:
    """Anti-replay window over each sender's package counters, as in IPsec (RFC 6479).

    A counter is accepted once, and not when it is ``WINDOW`` or more behind the newest. There is
    one window a sealing key. Packages of a sender's earlier processes are refused by the windows of
    their keys while those are kept, and otherwise since no directive expects them.
    """

    def __init__(self, *, keys_per_sender: int = 16) -> None:
        self._seen: dict[str, dict[bytes, tuple[int, int]]] = {}
        self._keys_per_sender = keys_per_sender

    def check(self, sender: str, key: bytes, counter: int) -> None:
        """Check that the counter is new.

        Raises:
            RefusedError: It was used before, or is older than the window.
        """
        newest, bits = self._seen.get(sender, {}).get(key, (-1, 0))
        age = newest - counter
        if age >= WINDOW or (age >= 0 and bits >> age & 1):
            raise RefusedError("replayed", f"package {counter} of {sender} was taken before")

    def take(self, sender: str, key: bytes, counter: int) -> None:
        """Mark the counter of a verified package as used.

        Raises:
            RefusedError: As ``check``, since another stream may have used it meanwhile.
        """
        self.check(sender, key, counter)
        keys = self._seen.setdefault(sender, {})
        newest, bits = keys.get(key, (-1, 0))
        if counter > newest:
            shift = min(counter - newest, WINDOW)  # bounded, whatever a hostile counter says
            newest, bits = counter, (bits << shift | 1) & ((1 << WINDOW) - 1)
        else:
            bits |= 1 << (newest - counter)
        keys[key] = newest, bits
        while len(keys) > self._keys_per_sender:
            del keys[next(iter(keys))]


def _agree(private: X25519PrivateKey, public: bytes) -> bytes:
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:  # not 32 bytes, or a point of low order
        raise RefusedError("malformed", "a sealing key is no X25519 key") from None


def _cipher(
    secrets: bytes, context: SealingContext, ephemeral: bytes, sender: bytes, receiver: bytes
) -> ChaCha20Poly1305:
    info = _SUITE + ephemeral + sender + receiver + context.encode()
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(secrets)
    return ChaCha20Poly1305(derived)


def _nonce(index: int, last: bool) -> bytes:
    return struct.pack(">QI", index, last)


def _public_bytes(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
