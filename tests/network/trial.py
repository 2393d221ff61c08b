"""A trial federation's certificates, made once a test session: keys take a while."""

import shutil
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from knexa.network import authority
from knexa.network.identity import Identity, load_identity

AGENTS = ("a0", "a1", "a2", "a3")

_folder = TemporaryDirectory(prefix="knexa-certificates-")


@cache
def certificates() -> Path:
    """An authority with the matchmaker and some agents; copy it before changing it."""
    folder = Path(_folder.name)
    authority.create(folder)
    for name in (authority.MATCHMAKER, *AGENTS):
        authority.issue(folder, name)
    return folder


def copy_of_certificates(to: Path) -> Path:
    return Path(shutil.copytree(certificates(), to / "certificates"))


def identity(name: str, folder: Path | None = None) -> Identity:
    return load_identity(folder or certificates(), name)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)
