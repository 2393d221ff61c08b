"""Pre-trains the tiny backbones: sizes, tokenizers, and a deterministic training loop.

Covered: everything from a seed to a trained model in memory. Not covered: files (``build.py``) and
tuning by agents. Text has the layout of every later use: the prompt without its last newline, then
newline and body, then end of text; so no merge of the tokenizer spans the border.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from knexa.backbones.pretraining.corpus import Sample, samples
from knexa.seeding import derive_seed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD_TOKEN = "<|pad|>"
EOS_TOKEN = "<|end|>"

_BATCHES_PER_SORT = 16  # sorting this many batches by length saves most of the padding
_NUM_DIGEST_SAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """All settings that determine a tiny backbone's weights.

    Attributes:
        name: The backbone's name.
        family: The architecture class of transformers.
        vocab_size: Entries of its byte-level BPE, special tokens included.
        hidden: Width of the residual stream.
        layers: Transformer blocks.
        heads: Attention heads.
        inner: Width inside the MLP.
        context: Longest sequence, in tokens.
        steps: Optimizer steps.
        batch: Sequences per step.
        lr: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up; a cosine to zero follows.
        weight_decay: Of AdamW, for matrices.
        prompt_weight: Weight of a prompt token's loss; a body token's is 1.
        tokenizer_samples: Corpus samples that the tokenizer is trained on.
        seed: Seeds the tokenizer's samples, the corpus and the initial weights.
    """

    name: str
    family: Literal["qwen2", "gpt2", "bloom", "gpt_neox"]
    vocab_size: int
    hidden: int
    layers: int = 3
    heads: int = 4
    inner: int
    context: int = 256
    steps: int = 1400
    batch: int = 64
    lr: float = 3e-3
    warmup: int = 60
    weight_decay: float = 0.01
    prompt_weight: float = 0.1
    tokenizer_samples: int = 10_000
    seed: int = 0

    def digest(self) -> str:
        """Return a digest of all settings."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


PRETRAINING_CONFIGS: dict[str, PretrainingConfig] = {
    config.name: config
    for config in (
        PretrainingConfig(name="tiny-qwen2", family="qwen2", vocab_size=512, hidden=128, inner=256),
        PretrainingConfig(
            name="tiny-gpt2",
            family="gpt2",
            vocab_size=640,
            hidden=112,
            inner=448,
            steps=3000,  # learns to copy late (learned positions): at 1,400 1.7 times Qwen2's loss
        ),
        PretrainingConfig(
            name="tiny-bloom",
            family="bloom",
            vocab_size=768,
            hidden=112,
            inner=448,  # in BLOOM always four times the width
        ),
        PretrainingConfig(
            name="tiny-neox",
            family="gpt_neox",
            vocab_size=1024,
            hidden=128,
            inner=320,
            steps=2600,  # rotates a quarter of each head, so learns to copy later than Qwen2
        ),
    )
}


def corpus_digest(seed: int) -> str:
    """Return a digest of the corpus's first samples."""
    digest = hashlib.sha256()
    for sample in islice(samples(seed), _NUM_DIGEST_SAMPLES):
        digest.update(f"{sample.prompt}\x1f{sample.body}\x1e".encode())
    return digest.hexdigest()[:16]


def train_tokenizer(config: PretrainingConfig) -> "PreTrainedTokenizerFast":
    """Train the configured byte-level BPE on the corpus; digits are tokens of their own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[PAD_TOKEN, EOS_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = islice(samples(config.seed), config.tokenizer_samples)
    bpe.train_from_iterator((f"{s.prompt}\n{s.body}" for s in texts), trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        model_max_length=config.context,
        clean_up_tokenization_spaces=False,
    )


def build_model(config: PretrainingConfig) -> "PreTrainedModel":
    """Return the untrained model; its weights depend on the config alone."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "backbone weights", config.name))
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            _config(config), dtype=torch.float32
        )
    return model


def _config(config: PretrainingConfig) -> Any:
    from transformers import BloomConfig, GPT2Config, GPTNeoXConfig, Qwen2Config

    shared: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    match config.family:
        case "qwen2":
            return Qwen2Config(
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads // 2,
                intermediate_size=config.inner,
                max_position_embeddings=config.context,
                **shared,
            )
        case "gpt2":
            return GPT2Config(
                n_embd=config.hidden,
                n_layer=config.layers,
                n_head=config.heads,
                n_inner=config.inner,
                n_positions=config.context,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                **shared,
            )
        case "bloom":
            return BloomConfig(
                hidden_size=config.hidden, n_layer=config.layers, n_head=config.heads, **shared
            )
        case "gpt_neox":
            return GPTNeoXConfig(
                hidden_size=config.hidden,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.inner,
                max_position_embeddings=config.context,
                **shared,
            )


def batches(
    config: PretrainingConfig, tokenizer: "PreTrainedTokenizerFast"
) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
    """Yield endless batches of new samples: (tokens, loss weights), both [batch, longest]."""
    import torch

    stream = samples(derive_seed(config.seed, "corpus for training", config.name))
    rng = random.Random(derive_seed(config.seed, "batch order", config.name))
    while True:
        rows = _tokenize(list(islice(stream, config.batch * _BATCHES_PER_SORT)), config, tokenizer)
        rows.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(rows), config.batch))
        rng.shuffle(starts)
        for start in starts:
            batch = rows[start : start + config.batch]
            longest = max(len(tokens) for tokens, _ in batch)
            tokens_BT = torch.zeros(len(batch), longest, dtype=torch.long)
            weights_BT = torch.zeros(len(batch), longest)
            for i, (tokens, num_prompt) in enumerate(batch):
                tokens_BT[i, : len(tokens)] = torch.tensor(tokens)
                weights_BT[i, :num_prompt] = config.prompt_weight
                weights_BT[i, num_prompt : len(tokens)] = 1.0
            yield tokens_BT, weights_BT


def _tokenize(
    chunk: list[Sample], config: PretrainingConfig, tokenizer: "PreTrainedTokenizerFast"
) -> list[tuple[list[int], int]]:
    """Return (token ids, how many are prompt) of each sample."""
    prompts = tokenizer([s.prompt for s in chunk])["input_ids"]
    bodies = tokenizer(["\n" + s.body for s in chunk])["input_ids"]
    end = [tokenizer.eos_token_id]
    return [
        ((prompt + body + end)[: config.context], len(prompt))
        for prompt, body in zip(prompts, bodies, strict=True)
    ]


def pretrain(
    config: PretrainingConfig,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerFast",
    steps: int | None = None,
) -> Iterator[tuple[int, float]]:
    """Train ``model`` in place and yield (step, loss of that step), the loss before its update.

    Args:
        config: Settings; the schedule is the full run's even when ``steps`` is fewer.
        model: From ``build_model``.
        tokenizer: From ``train_tokenizer``.
        steps: How many steps to take; all of them by default.
    """
    import math

    import torch
    from torch.nn.functional import cross_entropy

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=config.lr,
        betas=(0.9, 0.98),
    )
    model.train()
    stream = islice(batches(config, tokenizer), config.steps if steps is None else steps)
    for step, (tokens_BT, weights_BT) in enumerate(stream):
        warm = min(1.0, (step + 1) / config.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.lr * warm * cosine
        # No mask: padding follows the text, and causal attention ignores later tokens.
        logits_BTV = model(input_ids=tokens_BT[:, :-1]).logits
        losses = cross_entropy(
            logits_BTV.flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="none"
        )
        weights = weights_BT[:, 1:].flatten()
        loss = (losses * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step, float(loss.detach())
