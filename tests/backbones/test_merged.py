import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from knexa.backbones.load import adapter_state, load_adapter, wrap
from knexa.backbones.merged import merged
from knexa.backbones.roster import Backbone, Lora

IDS = torch.tensor([[5, 9, 11, 2]])


class _Tokenizer:
    pad_token, eos_token, pad_token_id, eos_token_id = "<pad>", "<eos>", 0, 1


def _loaded(family, dtype=torch.float32):
    special = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    if family == "gpt2":
        config = GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, **special)
        model = GPT2LMHeadModel(config)
    else:
        config = Qwen2Config(
            vocab_size=32,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            **special,
        )
        model = Qwen2ForCausalLM(config)
    backbone = Backbone(source="x", family=family, lora=Lora(rank=2, alpha=4, dropout=0.0))
    loaded = wrap(model.to(dtype), _Tokenizer, backbone, name="x")
    generator = torch.Generator().manual_seed(3)
    load_adapter(
        loaded,
        {n: torch.randn(t.shape, generator=generator) for n, t in adapter_state(loaded).items()},
    )
    return loaded


@torch.no_grad()
def _logits(loaded):
    return loaded.model(input_ids=IDS).logits


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_a_merged_backbone_computes_the_same_and_comes_back_bit_for_bit(family):
    loaded = _loaded(family)
    before, weights = _logits(loaded), {n: p.clone() for n, p in loaded.model.named_parameters()}
    with merged(loaded):
        inside = _logits(loaded)
        changed = [n for n, p in loaded.model.named_parameters() if not torch.equal(p, weights[n])]
    assert changed
    torch.testing.assert_close(inside, before, rtol=1e-4, atol=1e-5)
    assert torch.equal(_logits(loaded), before)
    assert all(torch.equal(p, weights[n]) for n, p in loaded.model.named_parameters())


def test_a_half_precision_backbone_is_left_alone():
    loaded = _loaded("qwen2", torch.bfloat16)
    before = {n: p.clone() for n, p in loaded.model.named_parameters()}
    with merged(loaded):
        assert all(torch.equal(p, before[n]) for n, p in loaded.model.named_parameters())
