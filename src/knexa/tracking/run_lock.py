"""Locks a run directory for one process, and notices where the directory is gone."""

import fcntl
import os
from pathlib import Path

from knexa.errors import UserError
from knexa.tracking.files import is_disk_full

# POSIX locks are per process: without this set two objects of one process could both lock a run.
_held_here: set[Path] = set()


class RunLock:
    """The lock of a run directory, its file ``.lock``."""

    def __init__(self, run: Path) -> None:
        self._run, self.path = run, run / ".lock"
        self._handle: int | None = None
        self._key: Path | None = None

    def acquire(self) -> None:
        """Create the directory and lock it for this process; forked children do not share the lock.

        Raises:
            UserError: Another process (named by its id) is using the run.
        """
        if self._handle is not None:
            return
        try:
            self._run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise UserError(
                f"cannot make {self._run}: {error.strerror}; change into a folder that you may "
                "write to"
            ) from error
        key = self._run.resolve()
        if key in _held_here:
            raise self._busy(os.getpid())
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = os.read(handle, 32).decode(errors="replace").strip()
                os.close(handle)
                raise self._busy(holder or "unknown") from None
            if self._is_its_file(handle):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                self._handle, self._key = handle, key
            else:  # the previous holder removed the file before it was locked here
                os.close(handle)
        _held_here.add(key)

    def release(self) -> None:
        """Release the lock; the kernel does so when the process ends."""
        if self._handle is None or self._key is None:
            return
        if self._is_its_file(self._handle):  # another process's lock is not this one's to remove
            self.path.unlink(missing_ok=True)
        os.close(self._handle)
        _held_here.discard(self._key)
        self._handle = self._key = None

    def check_held(self) -> None:
        """Check that the directory is still there, and still locked by this process.

        Raises:
            UserError: It has been removed, moved or unmounted since ``acquire``, or its lock has.
        """
        if self._handle is None or self._is_its_file(self._handle):
            return
        if self._run.exists():
            raise UserError(
                f"{self.path} has been removed or replaced while the run was going on, so "
                "that another process may use the run: type the same command again to go on"
            )
        raise UserError(
            f"{self._run} has vanished while the run was going on (removed, moved or unmounted): "
            "bring it back and type the same command again, or it runs from the beginning"
        )

    def _is_its_file(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))  # noqa: PTH116
        except OSError:
            return False

    def _busy(self, holder: int | str) -> UserError:
        return UserError(
            f"{self._run} is in use by process {holder}; "
            "wait for it, stop it, or change name= or seed="
        )
