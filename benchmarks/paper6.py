"""The published backbones at full size on random weights, for machines that have no copy of them.

    python benchmarks/phases.py floor roster=paper6 $(python benchmarks/paper6.py FOLDER)

Writes into FOLDER what is not there yet (4 GB): architectures from the published configurations,
weights drawn from a seed, and the tokenizers of the tiny backbones of the same families, so the
text is nonsense and most answers are as long as they may be. Most of the published vocabularies is
beyond those tokenizers and decodes to nothing, so many answers are empty and are not sent: what
exchanges take in time and memory comes out too low. Prints the overrides that make `roster=paper6`
of it. `--small` makes them 2 layers deep and 64 wide, to try the command without a GPU.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "tests" / "data" / "backbones"
TINY = ROOT / "src" / "knexa" / "backbones" / "tiny"
TOKENIZERS = {"qwen2": "tiny-qwen2", "gpt2": "tiny-gpt2", "bloom": "tiny-bloom"}
TOKENIZERS |= {"gpt_neox": "tiny-neox"}
SMALL = {
    "qwen2": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_inner": 128},
    "bloom": {"n_embed": 64, "n_layer": 2},
    "gpt_neox": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128},
}
HEADS = ("num_attention_heads", "num_key_value_heads", "n_head")


def write(name: str, folder: Path, *, is_small: bool) -> None:
    """Write one backbone: its configuration, random weights in half precision, a tokenizer."""
    published = json.loads((CONFIGS / name / "config.json").read_text())
    family = published.pop("model_type")
    tokens = TINY / TOKENIZERS[family]
    tokenizer = AutoTokenizer.from_pretrained(tokens, local_files_only=True)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        published[key] = getattr(tokenizer, key)
    if is_small:
        published |= SMALL[family] | {key: 4 for key in HEADS if key in published}
        published["vocab_size"] = len(tokenizer)
    config = AutoConfig.for_model(family, **published)
    torch.manual_seed(0)
    unfinished = folder.with_suffix(".part")
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(unfinished)
    for file in (*tokens.glob("tokenizer*"), *tokens.glob("special_tokens*")):
        shutil.copy(file, unfinished)
    unfinished.rename(folder)


def main() -> None:
    """Write what is missing; print the overrides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    logging.disable_progress_bar()
    overrides = []
    for name in sorted(path.name for path in CONFIGS.iterdir()):
        folder = (options.folder / name).resolve()
        if not folder.is_dir():
            write(name, folder, is_small=options.small)
        overrides.append(f"roster.backbones.{name}.source={folder}")
    if options.small:
        overrides.append("training.precision=bf16-mixed")
    print(*overrides)


if __name__ == "__main__":
    main()
