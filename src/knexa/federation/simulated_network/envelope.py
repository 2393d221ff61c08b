"""The envelope of a package in flight: its address, and a digest that detects damage.

A changed byte can leave a valid package with another text, so the structure alone does not show
damage. The digest guards against accidents, not against senders. Its 32 bytes belong to the
channel, as those of TLS would, and not to the kilobytes that rewards pay for.
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
    """The content of an envelope: address, parts and digest (hex)."""

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
