"""The caller's end of one trusted verifier: its process, its channel, the job it works on."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import codec, scratch, session

Job = dict[str, Any]
Reply = dict[str, Any]

_GRACE_S = 6.0
_START_S = 20.0
_SHORT = 1 << 14  # characters: far below what a channel holds that nobody reads


class Verifier:
    """One trusted verifier process; ``keys`` are of its job and of the one that it takes up next.

    The next one is there already, so that the verifier need not wait for a busy caller.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="knexa-")
        Path(self._folder).chmod(0o711)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = session.start("trusted", theirs, self._folder)
            except BaseException:
                ours.close()
                scratch.remove(self._folder)
                raise
        ours.settimeout(60)
        self.channel = ours
        self.is_warm = False
        self.keys: deque[bytes] = deque()
        self._allowances_s: deque[float] = deque()
        self._since = 0.0

    @property
    def is_overdue(self) -> bool:
        """Whether its job should have been answered by now."""
        allowance_s = self._allowances_s[0] + (0 if self.is_warm else _START_S)
        return time.monotonic() > self._since + allowance_s

    def takes_ahead(self, job: Job) -> bool:
        """Whether the job may be given now as the next one: a short one, which cannot block."""
        size = sum(len(part) for part in job.values() if isinstance(part, str))
        return len(self.keys) == 1 and size < _SHORT

    def give(self, key: bytes, job: Job) -> None:
        """Hand it a job.

        Raises:
            OSError: It is gone.
        """
        codec.send(self.channel, job)
        limits = job["limits"]
        # Checking an answer takes CPU time of its own, which a busy machine grants slowly.
        self._allowances_s.append(limits["wall_s"] + limits["cpu_s"] + _GRACE_S)
        if not self.keys:
            self._since = time.monotonic()
        self.keys.append(key)

    def reply(self, *, is_answered: bool) -> Reply:
        """Return the reply to its job; a verifier that is overdue, or lost, is killed."""
        if not is_answered:
            self.kill()
            return {"outcome": "timeout", "detail": "the check did not end", "again": True}
        try:
            reply = dict(codec.receive(self.channel, more_may_follow=True))
        except (EOFError, OSError, codec.CodecError) as error:
            self.kill()
            if self.process.returncode == -signal.SIGVTALRM:  # its own limit, not load
                return {"outcome": "timeout", "detail": "checking the answer took too long"}
            return lost(f"the verifier is gone: {error!r}")
        self.is_warm = bool(reply.get("warm"))
        return reply

    def end_job(self) -> bytes:
        """Go on to the next job; return the key of the one that was replied to."""
        self._since = time.monotonic()
        self._allowances_s.popleft()
        return self.keys.popleft()

    def kill(self) -> None:
        """End it at once; its sandbox server ends with it."""
        self.channel.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with suppress(OSError):
            scratch.remove(self._folder)

    def close(self) -> None:
        """Let it end and remove its scratch directory; kill it if it is busy or does not."""
        if self.keys:
            self.kill()
            return
        self.channel.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()


def lost(detail: str) -> Reply:
    """Return the reply for a job whose verifier did not live to give one."""
    return {"outcome": "infrastructure_error", "detail": detail}
