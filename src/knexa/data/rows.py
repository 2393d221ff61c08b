"""Reads published rows from JSONL files, plain or gzipped, or the Hugging Face hub.

Errors are one line that names the file or data set and what to set.
"""

import gzip
import hashlib
import json
import logging
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knexa.errors import UserError, one_line

_LOG = logging.getLogger(__name__)

Row = dict[str, Any]

_PROBE_SECONDS = 4.0
"""How long to probe the hub first: its own client needs 23-47 s to give up."""


def find_file(path: str | Path, stem: str) -> Path:
    """Return ``stem``.jsonl.gz or ``stem``.jsonl in a folder, or ``path`` if it is a file.

    Raises:
        UserError: If there is neither.
    """
    folder = Path(path).expanduser()
    candidates = [folder / f"{stem}.jsonl.gz", folder / f"{stem}.jsonl"]
    for candidate in [folder, *candidates]:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"data.path={path}: no {stem}.jsonl.gz or {stem}.jsonl there; point it at a folder that "
        "has them, or leave it null to fetch them"
    )


def read_text(path: Path) -> str:
    """Return a file's text, unpacked where its name ends in .gz.

    Raises:
        UserError: If it cannot be read or unpacked, or is not UTF-8.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch the file again") from None


def text_digest(path: Path) -> str:
    """Return the SHA-256 of a file's unpacked text, the same for .jsonl and .jsonl.gz."""
    return hashlib.sha256(read_text(path).encode()).hexdigest()


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, object) for every line of a JSONL file that is not blank.

    Raises:
        UserError: On a line that is no JSON object; names file and line.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{number}: not JSON ({error.msg}); mend the line") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: not a JSON object; mend the line")
        yield number, row


def check_fields(row: Mapping[str, Any], fields: Mapping[str, type], where: str) -> None:
    """Raise UserError naming the first of ``fields`` that ``row`` lacks or has of another type."""
    for name, kind in fields.items():
        if name not in row:
            raise UserError(f"{where}: field {name} is missing; add it or fetch the file again")
        if not isinstance(row[name], kind) or isinstance(row[name], bool):
            raise UserError(f"{where}: field {name} must be {kind.__name__}, not {row[name]!r:.40}")


_PUBLISHED = "set data.path=DIR to a folder with HumanEval.jsonl.gz and mbpp.jsonl.gz"


def hub_rows(
    repository: str,
    config: str | None,
    revision: str,
    *,
    split: str | None = None,
    otherwise: str = _PUBLISHED,
) -> list[Row]:
    """Return the rows of a hub data set: from the local cache first, else online.

    Args:
        repository: e.g. ``openai/openai_humaneval``.
        config: The data set's configuration, e.g. ``full``; None where it has one alone.
        revision: Pinned commit.
        split: Name of the split; None reads all of them.
        otherwise: What the user can do where there is no network.

    Raises:
        UserError: If it is neither cached nor reachable; within about ``_PROBE_SECONDS``.
    """
    import datasets
    from huggingface_hub import constants

    user_is_offline = constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE
    try:
        with _hub_offline():
            return _load(repository, config, revision, split, from_cache=True)
    except Exception as error:
        _LOG.info("data: %s is not cached (%s)", repository, error)
    if user_is_offline or not _hub_is_reachable(constants.ENDPOINT):
        why = "HF_HUB_OFFLINE is set" if user_is_offline else "the hub cannot be reached"
        raise UserError(
            f"{repository} at revision {revision[:12]} is not in the local cache and {why}; "
            f"{otherwise}, or go online once"
        )
    try:
        return _load(repository, config, revision, split, from_cache=False)
    except Exception as error:
        reason = one_line(error)[:200]
        raise UserError(
            f"{repository}@{revision[:12]} did not load from the hub ({reason}); try again, or "
            f"{otherwise}"
        ) from error


def _load(
    repository: str, config: str | None, revision: str, split: str | None, *, from_cache: bool
) -> list[Row]:
    """Return the rows of a split, or of all.

    Offline, ``datasets`` uses the revision that it cached last, so the cache's folder is checked.
    """
    import datasets

    splits = datasets.load_dataset(repository, config, revision=revision)
    files = [file["filename"] for parts in splits.cache_files.values() for file in parts]
    if from_cache and not all(revision in Path(file).parts for file in files):
        raise FileNotFoundError(f"another revision than {revision} is cached")
    return rows_of_splits(splits, split)


def rows_of_splits(
    splits: Mapping[str, Iterable[Mapping[str, Any]]], split: str | None
) -> list[Row]:
    """Return the rows of the split of that name, or of all splits.

    Raises:
        UserError: There is no such split.
    """
    if split is not None and split not in splits:
        raise UserError(f"data.split={split}: no such split; there are {', '.join(splits)}")
    return [dict(row) for name, rows in splits.items() if split in (None, name) for row in rows]


@contextmanager
def _hub_offline() -> Iterator[None]:
    """Make ``datasets`` and the hub's client use their caches only.

    Both read the environment at import only, so their modules' switches are set instead.
    """
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _hub_is_reachable(endpoint: str) -> bool:
    """Return whether the hub answers within a few seconds, through proxies if set.

    Runs in a thread, since name resolution has no timeout.
    """
    answered = threading.Event()

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(endpoint, timeout=_PROBE_SECONDS)
        except Exception as error:
            _LOG.info("data: %s does not answer (%s)", endpoint, error)
        else:
            answered.set()

    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(_PROBE_SECONDS)
    return answered.is_set()
