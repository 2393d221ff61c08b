"""Describes the machine and the software of a run, for environment.json."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

CORE_PACKAGES = """
    knexa torch lightning transformers tokenizers peft datasets safetensors numpy scipy
    rustworkx hydra-core omegaconf pydantic matplotlib tree-sitter tree-sitter-python
    zstandard wandb tensorboard
""".split()  # noqa: SIM905  (a list of names is easier to read as text)


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_environment() -> dict[str, Any]:
    """Return versions, hardware and git state."""
    return {
        "packages": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "gpu": _gpu_name(),
        "git": git_state(Path(__file__).resolve().parents[3]),
    }


def git_state(checkout: Path) -> dict[str, Any] | None:
    """Return commit and dirty flag of ``checkout``, or None where it is not a repository's root.

    A package that is installed inside another repository must not report that repository's commit.
    """
    if not (checkout / ".git").exists():
        return None
    commit, status = _git(checkout, "rev-parse", "HEAD"), _git(checkout, "status", "--porcelain")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(status) if status is not None else None}


def _git(checkout: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    versions = {}
    for package in CORE_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _gpu_name() -> str | None:
    """Return the GPU's name if torch is loaded already."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))
