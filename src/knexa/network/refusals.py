"""Why something from a peer is refused, and counts of the refusals by reason."""

import logging
import threading
from collections import Counter
from typing import Literal

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


class RefusedError(Exception):
    """A peer, or something that it sent, is not accepted; the text is one line that says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class Refusals:
    """Counts of refusals by reason; thread-safe."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, refused: RefusedError, who: str) -> None:
        """Count one refusal of ``who`` and log it."""
        with self._lock:
            self._counts[refused.reason] += 1
        log.warning("refused %.80s: %.200s", who, refused)

    def counts(self) -> dict[str, int]:
        """Return the counts so far, by reason."""
        with self._lock:
            return dict(sorted(self._counts.items()))
