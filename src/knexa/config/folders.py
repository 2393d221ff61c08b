"""Where the configs are: the checkout's ``conf`` and ``sweeps``, else the wheel's copies."""

from pathlib import Path

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]


def config_folder() -> Path:
    """Return the folder of ``config.yaml`` and the config groups."""
    return _checkout_or_wheel("conf", "_conf")


def sweep_folder() -> Path:
    """Return the folder of the named sweeps, one YAML each."""
    return _checkout_or_wheel("sweeps", "_sweeps")


def _checkout_or_wheel(in_checkout: str, in_wheel: str) -> Path:
    root = _PACKAGE_FOLDER.parents[1]
    folder = root / in_checkout
    # A site-packages may have a folder of that name, but no pyproject.toml and src/.
    if (root / "pyproject.toml").is_file() and _PACKAGE_FOLDER.parent.name == "src":
        return folder
    return _PACKAGE_FOLDER / in_wheel


def options_of(group: str) -> list[str]:
    """Return the sorted names of a config group's options, without W&B's own sweep files."""
    folder = sweep_folder() if group == "sweep" else config_folder() / group
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    return [name for name in names if group != "sweep" or not name.startswith("wandb_")]
