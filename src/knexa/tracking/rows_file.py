"""A file of rows that one process appends to, and that nothing else may change meanwhile."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knexa.errors import UserError
from knexa.tracking import files
from knexa.tracking.checksums import entry


class RowsFile:
    """Appends to a file, and knows what it must hold: what was there at first, and what it wrote.

    Before each append the file must be the same one (device and inode) and of the size that the
    last append left. A change that keeps both is found by ``check_content``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = self._look()
        self._digest = hashlib.sha256()
        if self._identity is not None:
            with path.open("rb") as file:
                self._digest = hashlib.file_digest(file, "sha256")

    @property
    def entry(self) -> dict[str, Any]:
        """Size and SHA-256 (hex) of what the file must hold."""
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def append(self, lines: Sequence[bytes]) -> None:
        """Append lines in one write.

        Raises:
            UserError: Something else changed the file; nothing has been written.
        """
        found = self._look()
        if found != self._identity:
            raise self._changed(found)
        files.append_lines(self.path, lines)
        for line in lines:
            self._digest.update(line)
        self._identity = self._look()

    def check_content(self) -> None:
        """Compare all of the file with what it must hold.

        Raises:
            UserError: Something else changed it.
        """
        if entry(self.path) != self.entry:
            raise self._changed(self._look())

    @property
    def _size(self) -> int:
        return self._identity[2] if self._identity else 0

    def _look(self) -> tuple[int, int, int] | None:
        """Return device, inode and size, None where there is no file."""
        try:
            found = os.stat(self.path)  # noqa: PTH116
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_size

    def _changed(self, found: tuple[int, int, int] | None) -> UserError:
        if found is None:
            what = "has been removed"
        elif found[2] != self._size:
            what = f"has {found[2]:,} bytes and should have {self._size:,}"
        else:
            what = "has been replaced or changed"
        return UserError(
            f"{self.path} {what}: something else changed it while the run wrote to it; type the "
            "same command again to go on from the last checkpoint that fits"
        )
