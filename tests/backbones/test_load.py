import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from knexa.backbones import load
from knexa.backbones.load import LoadedBackbone
from knexa.backbones.pool import BackbonePool
from knexa.backbones.roster import Backbone, Lora
from knexa.errors import UserError

SLOT = Lora(rank=4, alpha=8.0, dropout=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of a few thousand parameters, fp16 on disk, without a padding token."""
    path = tmp_path_factory.mktemp("tiny")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(["def add(a, b):\n    return a + b\n"] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>").save_pretrained(path)
    config = GPT2Config(
        vocab_size=len(bpe.get_vocab()),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        GPT2LMHeadModel(config).to(torch.float16).save_pretrained(path)
    return path


@pytest.fixture
def backbone(folder: Path) -> Backbone:
    return Backbone(source=str(folder), family="gpt2", lora=SLOT)


@pytest.fixture
def loaded(backbone: Backbone) -> LoadedBackbone:
    return load.load_backbone(backbone, name="tiny")


def test_half_precision_on_disk_becomes_float32_in_memory(loaded: LoadedBackbone) -> None:
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}


def test_adapters_stay_float32_on_a_bfloat16_base(backbone: Backbone) -> None:
    loaded = load.load_backbone(backbone, dtype="bfloat16")
    types = {p.requires_grad: p.dtype for p in loaded.model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}


def test_counts_are_of_the_wrapped_model(loaded: LoadedBackbone) -> None:
    num_adapter = sum(p.numel() for p in loaded.adapter_parameters.values())
    assert loaded.num_trainable == num_adapter
    assert loaded.num_parameters == sum(p.numel() for p in loaded.model.parameters())
    assert 0 < loaded.num_trainable < loaded.num_parameters


def test_tokenizer_without_padding_pads_with_end_of_text(loaded: LoadedBackbone) -> None:
    assert loaded.tokenizer.pad_token == "<eos>"
    text = "def add(a, b):\n    return a + b\n"
    assert loaded.tokenizer.decode(loaded.tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("pad_token", [None, "<eos>"])
def test_a_tokenizer_without_an_end_of_text_is_refused(
    folder: Path, tmp_path: Path, pad_token: str | None
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "tokenizer_config.json"
    saved = json.loads(settings.read_text()) | {"eos_token": None, "pad_token": pad_token}
    settings.write_text(json.dumps(saved))
    with pytest.raises(UserError, match="'tiny': its tokenizer has no end-of-text token"):
        load.load_backbone(Backbone(source=str(tmp_path), family="gpt2", lora=SLOT), name="tiny")


def test_adapter_state_is_a_copy_that_load_adapter_restores(loaded: LoadedBackbone) -> None:
    fresh = load.initial_adapter(loaded, seed=1)
    load.load_adapter(loaded, fresh)
    kept = load.adapter_state(loaded)
    assert list(kept) == list(fresh)
    load.load_adapter(loaded, {name: torch.full(t.shape, 9.0) for name, t in kept.items()})
    assert all(torch.equal(kept[name], fresh[name]) for name in kept)
    load.load_adapter(loaded, kept)
    assert all(torch.equal(load.adapter_state(loaded)[name], kept[name]) for name in kept)


def test_initial_adapter_depends_on_the_seed_alone(loaded: LoadedBackbone) -> None:
    before = torch.get_rng_state()
    one, again, two = (load.initial_adapter(loaded, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    for name, tensor in one.items():
        if "lora_A" in name:
            assert 0 < float(tensor.abs().max()) <= tensor.shape[1] ** -0.5
        else:
            assert not tensor.any()


def test_pool_loads_a_backbone_once(backbone: Backbone) -> None:
    pool = BackbonePool({"tiny": backbone})
    assert pool.get("tiny") is pool.get("tiny")


def test_a_backbone_loaded_within_inference_mode_can_be_trained(backbone: Backbone) -> None:
    with torch.inference_mode():
        loaded = BackbonePool({"tiny": backbone}).get("tiny")
    assert not any(parameter.is_inference() for parameter in loaded.model.parameters())
    loaded.model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum().backward()


def test_a_family_that_the_model_is_not_is_named(folder: Path) -> None:
    wrong = Backbone(source=str(folder), family="bloom", lora=SLOT)
    with pytest.raises(UserError, match=r"'bloom' but the model .* is 'gpt2'"):
        load.load_backbone(wrong, name="tiny")


def test_a_folder_without_a_model_is_a_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no causal language model") as caught:
        load.load_backbone(Backbone(source=str(tmp_path), family="gpt2", lora=SLOT), name="tiny")
    assert "\n" not in str(caught.value)
