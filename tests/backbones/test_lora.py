import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPT2Config, GPTNeoXConfig, Qwen2Config

from knexa.backbones import lora
from knexa.backbones.roster import Family, Lora
from knexa.errors import UserError

SLOT = Lora(rank=4, alpha=8.0, dropout=0.0)
CONFIGS = {
    "qwen2": Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
    ),
    "gpt2": GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=32),
    "bloom": BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=2),
    "gpt_neox": GPTNeoXConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
    ),
}
LINEAR_LAYERS_PER_BLOCK = {"qwen2": 7, "gpt2": 4, "bloom": 4, "gpt_neox": 4}


def build(family: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_config(CONFIGS[family])


@pytest.mark.parametrize("family", list(CONFIGS))
def test_every_linear_layer_of_a_block_carries_lora_and_only_lora_trains(family: Family) -> None:
    model = lora.attach(build(family), SLOT, family)
    parameters = lora.adapter_parameters(model)
    assert len(parameters) == 2 * 2 * LINEAR_LAYERS_PER_BLOCK[family]
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in trainable} == {id(p) for p in parameters.values()}


@pytest.mark.parametrize("family", list(CONFIGS))
def test_a_fresh_adapter_leaves_the_base_models_output_unchanged(family: Family) -> None:
    base = build(family).eval()
    ids = torch.arange(10)[None]
    with torch.no_grad():
        before = base(ids).logits.clone()
        after = lora.attach(base, SLOT, family).eval()(ids).logits
    assert torch.equal(before, after)


def test_unlisted_families_take_all_linear_layers_but_the_head() -> None:
    model = lora.attach(build("qwen2"), SLOT, "other")
    listed = lora.adapter_parameters(lora.attach(build("qwen2"), SLOT, "qwen2"))
    assert lora.adapter_parameters(model).keys() == listed.keys()


def test_attaching_leaves_the_global_generator_alone() -> None:
    base = build("gpt2")
    before = torch.get_rng_state()
    lora.attach(base, SLOT, "gpt2")
    assert torch.equal(before, torch.get_rng_state())


def test_target_modules_that_match_nothing_are_a_users_mistake() -> None:
    wrong = Lora(rank=4, alpha=8.0, dropout=0.0, target_modules=("no_such_layer",))
    with pytest.raises(UserError, match=r"no_such_layer.*set lora\.target_modules") as caught:
        lora.attach(build("gpt2"), wrong, "gpt2")
    assert "\n" not in str(caught.value)


def test_a_wrong_adapter_is_refused_and_nothing_is_written() -> None:
    parameters = lora.adapter_parameters(lora.attach(build("gpt2"), SLOT, "gpt2"))
    before = {name: p.detach().clone() for name, p in parameters.items()}
    good = {name: torch.ones(p.shape) for name, p in parameters.items()}
    first, last = next(iter(good)), list(good)[-1]
    wrong_shape = good | {last: torch.ones(1, 1)}
    missing = {name: tensor for name, tensor in good.items() if name != first}
    for wrong in (wrong_shape, missing, good | {"extra": torch.ones(1)}):
        with pytest.raises(ValueError, match="does not fit"):
            lora.write_tensors(parameters, wrong)
        assert all(torch.equal(before[name], p) for name, p in parameters.items())
