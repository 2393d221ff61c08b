"""Why something from a peer is refused, counts of the refusals, and log lines that no peer floods.

A peer is the name in its certificate; who shows none of this federation's is its host. Each gets
one line a minute, whatever it sends; the counts miss nothing.
"""

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final, Literal

from knexa.tracking.files import encode_document

log = logging.getLogger(__name__)

Reason = Literal[
    "handshake",  # TLS failed: no certificate, an unknown authority's, or an expired one
    "certificate",  # not this federation's, not valid now, or made for something else
    "revoked",
    "no list",  # the revocation list is missing or outdated: the caller may try again
    "identity",  # another member's name, or a directive that is not the caller's
    "wrong receiver",
    "unexpected",  # no package is awaited for that directive
    "replayed",
    "reordered",
    "truncated",
    "oversized",
    "tampered",
    "malformed",
    "disagreement",  # another version or configuration
    "profile",
    "feedback",
]

FILE: Final = "refusals.json"
LINE_EVERY_S: Final = 60.0
_MAX_PEERS: Final = 1000
_OTHERS: Final = "other peers"
_STRANGERS: Final = "strangers"


class RefusedError(Exception):
    """A peer, or something that it sent, is not accepted; the text is one line that says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


def printable(text: object, length: int = 200) -> str:
    """Return the beginning of a peer's text as one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in str(text)[:length])


class LineLimit:
    """Lets one line a peer and minute through. Thread-safe; remembers at most ``_MAX_PEERS``.

    Beyond that many in a minute, all further peers share one line.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now, self._lock = now, threading.Lock()
        self._peers: dict[str, tuple[float, int]] = {}  # by time of the last line, oldest first

    def admit(self, peer: str) -> int | None:
        """Return how many lines of the peer were held back since its last one.

        None means that this one is to be held back, too.
        """
        with self._lock:
            now = self._now()
            self._forget(now)
            if peer not in self._peers and len(self._peers) >= _MAX_PEERS:
                peer = _OTHERS
            last_s, held = self._peers.get(peer, (-LINE_EVERY_S, 0))
            if peer in self._peers and now - last_s < LINE_EVERY_S:
                self._peers[peer] = last_s, held + 1
                return None
            self._peers.pop(peer, None)
            self._peers[peer] = now, 0
            return held

    def _forget(self, now: float) -> None:
        """Make room by the peers whose minute is over, oldest first."""
        while len(self._peers) >= _MAX_PEERS:
            oldest = next(iter(self._peers))
            if now - self._peers[oldest][0] < LINE_EVERY_S:
                return
            del self._peers[oldest]


class Refusals:
    """Counts of refusals by reason, and their log lines. Thread-safe.

    Args:
        folder: Where refusals.json is kept: the counts go on from it, and it is rewritten before a
            refused caller is answered, so that ``kill -9`` loses none. None keeps no file.
        now: A monotonic clock, in seconds.
    """

    def __init__(self, folder: Path | None = None, *, now: Callable[[], float] = monotonic) -> None:
        self._path = None if folder is None else folder / FILE
        self._lock, self._limit = threading.Lock(), LineLimit(now)
        self._counts = Counter[str](self._read())
        self._earlier = self._counts["handshake"]
        self._write()

    def _read(self) -> dict[str, int]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            read = json.loads(self._path.read_bytes())
            return {str(reason): int(number) for reason, number in read.items()}
        except (ValueError, TypeError, AttributeError):
            log.warning("%s is damaged: refusals are counted from 0 again", self._path)
            return {}

    def count(self, refused: RefusedError, peer: str, address: str = "") -> None:
        """Count one refusal of ``peer``, and log it unless that peer had its line."""
        with self._lock:
            self._counts[refused.reason] += 1
            self._write()
        self.warn(peer, "refused %s: %s", f"{peer} ({address})" if address else peer, refused)

    def count_handshakes(self, failed: int) -> None:
        """Set how many handshakes of this process have failed; it may turn out to be fewer."""
        with self._lock:
            more = self._earlier + failed - self._counts["handshake"]
            if more == 0:
                return
            self._counts["handshake"] += more
            self._write()
        if more > 0:
            self.warn(
                _STRANGERS, "refused %d connections without a valid certificate or a call", failed
            )

    def warn(self, peer: str, text: str, *values: object, exc_info: bool = False) -> None:
        """Log a line that a peer has caused, unless it had one within the minute."""
        held = self._limit.admit(peer)
        if held is None:
            return
        more = f"; {held} more of {peer:.64} since its last line" if held else ""
        line = printable(text % values, 400) + more
        log.warning("%s", line, exc_info=exc_info)

    def counts(self) -> dict[str, int]:
        """Return the counts so far, by reason."""
        with self._lock:
            return {reason: number for reason, number in sorted(self._counts.items()) if number}

    def _write(self) -> None:
        if self._path is None:
            return
        counts = {reason: number for reason, number in self._counts.items() if number}
        temporary = self._path.with_name(f".{FILE}.tmp")
        try:
            # Without fsync, which a flood of refusals would turn into one of the disk.
            temporary.write_bytes(encode_document(counts))
            temporary.replace(self._path)
        except OSError as error:  # the counts go on in memory
            self.warn(FILE, "%s is not written: %s", self._path, error.strerror)
