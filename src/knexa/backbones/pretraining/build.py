"""Pre-train the tiny backbones: ``python -m knexa.backbones.pretraining.build``.

One model takes a few minutes on one core. A backbone's folder holds ``model.safetensors`` (fp16),
``config.json``, the tokenizer, ``card.json`` (config, digests, training curve) and ``README.md``.
"""

import argparse
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.backbones.embedded import TINY_NAMES
from knexa.backbones.pretraining.config import (
    PRETRAINING_CONFIGS,
    PretrainingConfig,
    build_model,
    corpus_digest,
    pretrain,
    train_tokenizer,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CURVE_DENSE = 20  # the first steps are all recorded; a test repeats them
_CURVE_EVERY = 50
_TINY = Path(__file__).parents[1] / "tiny"

log = logging.getLogger(__name__)


def build(config: PretrainingConfig, folder: Path) -> dict[str, Any]:
    """Train one backbone and write its folder.

    Returns:
        The model card.
    """
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    tokenizer = train_tokenizer(config)
    model = build_model(config)
    curve: list[tuple[int, float]] = []
    window: list[float] = []
    for step, loss in pretrain(config, model, tokenizer):
        window.append(loss)
        if step < _CURVE_DENSE:
            curve.append((step, round(loss, 4)))
        elif (step + 1) % _CURVE_EVERY == 0:
            curve.append((step, round(sum(window) / len(window), 4)))
            seconds = time.perf_counter() - began
            log.info("%s step %d loss %.4f %.0f s", config.name, step, curve[-1][1], seconds)
            window.clear()
    card = {
        "name": config.name,
        "architecture": type(model).__name__,
        "parameters": model.num_parameters(),
        "config": asdict(config),
        "config_digest": config.digest(),
        "corpus_digest": corpus_digest(config.seed),
        "curve": curve,
        "torch": torch.__version__.partition("+")[0],
    }
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(model, folder)
    tokenizer.save_pretrained(folder)
    (folder / "card.json").write_text(_compact(card))
    (folder / "README.md").write_text(_readme(card))
    return card


def _write_model(model: "PreTrainedModel", folder: Path) -> None:
    model.half()  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    # Weights are fp16 on disk only; the folder loads as fp32 by default.
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _compact(card: dict[str, Any]) -> str:
    """Return the card as JSON, with one line a point of the curve."""
    head = json.dumps({k: v for k, v in card.items() if k != "curve"}, indent=2)
    points = ",\n    ".join(json.dumps(point) for point in card["curve"])
    return head[:-2] + f',\n  "curve": [\n    {points}\n  ]\n}}\n'


def _readme(card: dict[str, Any]) -> str:
    config = card["config"]
    settings = "\n".join(f"| {key} | {value} |" for key, value in config.items())
    return f"""# {card["name"]}

A {card["architecture"]} of {card["parameters"] / 1e6:.2f} M parameters with a byte-level BPE of
{config["vocab_size"]} entries, small enough to be tuned on one CPU core in seconds. It writes
Python and carries names and constants from prompt to body; it solves next to none of the codelets
benchmark until it is tuned, because its corpus describes programs in other words.

- Made by `python -m knexa.backbones.pretraining.build --only {card["name"]}`
  (torch {card["torch"]}, one thread).
- Config digest `{card["config_digest"]}`, corpus digest `{card["corpus_digest"]}`.
- Final loss {card["curve"][-1][1]} (mean of the last {_CURVE_EVERY} steps; body tokens weigh 1,
  prompt tokens {config["prompt_weight"]}). The whole curve is in `card.json`.
- Load the tokenizer with `PreTrainedTokenizerFast`, which takes `tokenizer.json` as it is:
  `AutoTokenizer` of transformers 5 splits text by the rules of the full-size family instead.
- Trained on generated text only (`knexa.backbones.pretraining.corpus`). For tests and
  demonstrations; it knows nothing else. Weights are fp16 on disk and meant to be used in fp32.
  License: MIT.

| setting | value |
|---|---|
{settings}
"""


def main(argv: list[str] | None = None) -> int:
    """Build the backbones named on the command line; all four by default."""
    parser = argparse.ArgumentParser(
        prog="python -m knexa.backbones.pretraining.build", description=__doc__
    )
    parser.add_argument("--only", choices=TINY_NAMES, action="append", help="build this one")
    parser.add_argument("--out", type=Path, default=_TINY, help="folder of the backbones' folders")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in args.only or TINY_NAMES:
        card = build(PRETRAINING_CONFIGS[name], args.out / name)
        log.info("%s: %d parameters", name, card["parameters"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
