"""What is refused of peers, and how often: every reason has a name, and every refusal counts."""

import logging
import threading
from collections import Counter
from typing import Literal

log = logging.getLogger(__name__)

Reason = Literal[
    "handshake",  # no certificate, a stranger's, an expired one: TLS let nothing in
    "certificate",  # not this federation's, not valid now, or made for something else
    "revoked",
    "no list",  # who is revoked cannot be told just now: the caller may come again
    "identity",  # somebody else's name, or a part that is not the caller's
    "wrong receiver",
    "unexpected",  # for a directive that nobody waits for
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
    """Something that a peer sent or is, and that is not taken: one line that says why."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class Refusals:
    """Counts by reason; safe to use from any thread."""

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
