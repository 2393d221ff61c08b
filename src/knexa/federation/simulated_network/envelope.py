"""The envelope of a package on its way: what it answers, and a digest over all of it.

A changed byte in a package of text can leave a valid package with another text, so structure alone
does not tell. The digest does; it guards against accidents, not against a sender who lies. Its 32
bytes belong to the channel, as those of TLS would, and are not part of the kilobytes paid for.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from knexa.exchange.package import PackageError

_DIGEST_BYTES = 32
_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Opened:
    """What a sealed package holds: its address, its parts and its digest (hex)."""

    address: str
    parts: tuple[bytes, ...]
    digest: str


def seal(address: str, parts: Sequence[bytes]) -> bytes:
    """Return the parts of a package in an envelope; ``address`` says which directive it serves."""
    fields = (address.encode(), *parts)
    body = b"".join(_LENGTH.pack(len(field)) + field for field in fields)
    return hashlib.sha256(body).digest() + body


def unseal(data: bytes) -> Opened:
    """Open an envelope.

    Raises:
        PackageError: It is not as it was sealed.
    """
    view = memoryview(data)
    digest, body = bytes(view[:_DIGEST_BYTES]), view[_DIGEST_BYTES:]
    if len(digest) < _DIGEST_BYTES or hashlib.sha256(body).digest() != digest:
        raise PackageError("the package does not match its digest: it was damaged on its way")
    fields, place = [], 0
    while place < len(body):
        end = place + _LENGTH.size
        if end > len(body) or end + (size := _LENGTH.unpack(body[place:end])[0]) > len(body):
            raise PackageError("the package's envelope is malformed")
        fields.append(bytes(body[end : end + size]))
        place = end + size
    if not fields:
        raise PackageError("the package's envelope is malformed")
    try:
        address = fields[0].decode()
    except UnicodeDecodeError:
        raise PackageError("the package's envelope has no readable address") from None
    return Opened(address, tuple(fields[1:]), digest.hex())
