"""The caller's handle on one trusted verifier: its process, its channel, its jobs."""

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

from . import codec, program_run, scratch

Job = dict[str, Any]
Reply = dict[str, Any]

_GRACE_S = 6.0
_START_S = 20.0
_MAX_QUEUED = 1 << 14  # characters: fits into a socket's buffer while nobody reads


class Verifier:
    """A trusted verifier process; ``keys`` holds its job and at most one queued job.

    The queued job saves the verifier from waiting for a busy caller.
    """

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="knexa-")
        Path(self._folder).chmod(0o711)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = program_run.start("trusted", theirs, self._folder)
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
        """Whether its job has exceeded its time."""
        allowance_s = self._allowances_s[0] + (0 if self.is_warm else _START_S)
        return time.monotonic() > self._since + allowance_s

    def can_queue(self, job: Job) -> bool:
        """Whether the job can be queued: only one, and short, so that sending cannot block."""
        size = sum(len(part) for part in job.values() if isinstance(part, str))
        return len(self.keys) == 1 and size < _MAX_QUEUED

    def give(self, key: bytes, job: Job) -> None:
        """Send it a job.

        Raises:
            OSError: The process is gone.
        """
        codec.send(self.channel, job)
        limits = job["limits"]
        # Checking the program's answers takes CPU time too, which passes slowly on a busy machine.
        self._allowances_s.append(limits["wall_s"] + limits["cpu_s"] + _GRACE_S)
        if not self.keys:
            self._since = time.monotonic()
        self.keys.append(key)

    def reply(self, *, is_answered: bool) -> Reply:
        """Return the reply to its job; an overdue or lost verifier is killed."""
        if not is_answered:
            self.kill()
            return {"outcome": "timeout", "detail": "the check did not end", "again": True}
        try:
            reply = dict(codec.receive(self.channel, more_may_follow=True))
        except (EOFError, OSError, codec.CodecError) as error:
            self.kill()
            if self.process.returncode == -signal.SIGVTALRM:  # its CPU limit, independent of load
                return {"outcome": "timeout", "detail": "checking the answer took too long"}
            return lost(f"the verifier is gone: {error!r}")
        self.is_warm = bool(reply.get("warm"))
        return reply

    def end_job(self) -> bytes:
        """Remove the finished job; return its key."""
        self._since = time.monotonic()
        self._allowances_s.popleft()
        return self.keys.popleft()

    def kill(self) -> None:
        """Kill it and its sandbox server."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.channel.close()
        with suppress(OSError):
            scratch.remove(self._folder)

    def close(self) -> None:
        """Let it exit and remove its scratch directory; kill it if it is busy or does not exit."""
        if self.keys:
            self.kill()
            return
        self.channel.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()


def lost(detail: str) -> Reply:
    """Return the reply for a job whose verifier was lost."""
    return {"outcome": "infrastructure_error", "detail": detail}
