"""The user's cache folder: what is computed or fetched once and used by many runs."""

import os
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the user's cache folder of this package; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that is not absolute is invalid and ignored.
    return (Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache") / "knexa"


def write_whole(file: Path, content: bytes) -> None:
    """Write a file of the cache that is there whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(content)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
