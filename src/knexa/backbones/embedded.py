"""The folders of the tiny backbones inside the package."""

from pathlib import Path

from knexa.errors import UserError

TINY_NAMES: tuple[str, ...] = ("tiny-qwen2", "tiny-gpt2", "tiny-bloom", "tiny-neox")
"""The backbones that ship with the package."""

_ROOT = Path(__file__).parent / "tiny"


def embedded_path(name: str) -> Path:
    """Return the folder of a shipped backbone: weights, config, tokenizer, model card.

    Raises:
        UserError: If no backbone of this name ships with the package, or its weights are missing.
    """
    if name not in TINY_NAMES:
        raise UserError(f"no embedded backbone '{name}'; there are {', '.join(TINY_NAMES)}")
    folder = _ROOT / name
    if not (folder / "model.safetensors").is_file():
        raise UserError(
            f"the weights of '{name}' are missing from the package; "
            f"write them with: python -m knexa.backbones.pretraining.build --only {name}"
        )
    return folder
