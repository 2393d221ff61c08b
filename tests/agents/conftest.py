"""Tiny random models on real architecture classes; no weights are read."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

torch.set_num_threads(1)
VOCABULARY, PAD, EOS = 64, 0, 63


def _build(family: str) -> torch.nn.Module:
    ids = {"bos_token_id": None, "eos_token_id": EOS, "pad_token_id": PAD}
    match family:
        case "qwen2":
            config = Qwen2Config(
                vocab_size=VOCABULARY,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=2,
                intermediate_size=64,
                **ids,
            )
            return Qwen2ForCausalLM(config)
        case "gpt2":
            config = GPT2Config(
                vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=128, **ids
            )
            return GPT2LMHeadModel(config)
        case "bloom":
            config = BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=2, **ids)
            return BloomForCausalLM(config)
        case _:
            config = GPTNeoXConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=128,
                **ids,
            )
            return GPTNeoXForCausalLM(config)


@pytest.fixture(scope="module", params=["qwen2", "gpt2", "bloom", "gpt_neox"])
def model(request: pytest.FixtureRequest) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        built = _build(request.param)
    # A random model repeats one token: louder weights make its choices depend on the prompt.
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return built.eval()
