"""GGUF files become models of the cache, exactly, or one line says why not."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from knexa.backbones import gguf, model_cache
from knexa.backbones.load import load_backbone
from knexa.backbones.roster import Backbone, Lora
from knexa.backbones.sources import resolve_source
from knexa.errors import UserError
from tests.backbones.gguf_files import F32, Q4_1, small_llama, write_gguf

SLOT = Lora(rank=4, alpha=8.0, dropout=0.0)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "knexa" / "models"


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    return small_llama()


def backbone_of(file: Path, **values: object) -> Backbone:
    return Backbone(source=f"gguf:{file}", family="llama", lora=SLOT, **values)  # type: ignore[arg-type]


def refused(file: Path, cache: Path) -> str:
    """Return the one line that refuses a file, after which the cache holds nothing of it."""
    with pytest.raises(UserError) as caught:
        gguf.converted(file)
    assert [path.name for path in cache.glob("*") if not path.name.endswith(".lock")] == []
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    return str(caught.value)


def test_a_gguf_file_is_the_model_that_was_written(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    write_gguf(tmp_path / "a.gguf", llama)
    loaded = load_backbone(backbone_of(tmp_path / "a.gguf"), name="a")
    text = "<|im_start|>def f(x):\n    return 12"
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    assert ids[0] == 1
    assert loaded.tokenizer.decode(ids) == text
    assert (loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id) == (2, 0)
    with torch.inference_mode():
        wanted = llama(input_ids=torch.tensor([ids])).logits
        assert torch.allclose(loaded.model(input_ids=torch.tensor([ids])).logits, wanted, atol=1e-5)
    loaded.model(input_ids=torch.tensor([ids])).logits.sum().backward()


def test_quantised_weights_are_kept_exactly(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    held = write_gguf(tmp_path / "a.gguf", llama, Q4_1)
    folder = gguf.converted(tmp_path / "a.gguf")
    found = LlamaForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    for name, weight in held.items():
        assert np.array_equal(found[name].numpy(), weight), name


def test_a_file_is_dequantised_once_whatever_its_name(
    tmp_path: Path, llama: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    folder = gguf.converted(file)
    monkeypatch.setattr(gguf, "convert", lambda *_, **__: pytest.fail("it is there already"))
    assert gguf.converted(file.rename(tmp_path / "b.gguf")) == folder


def test_a_pinned_digest_is_checked(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    digest = model_cache.sha256_of(file)
    assert resolve_source(backbone_of(file, revision=digest), name="a").is_dir()
    with pytest.raises(UserError, match=f"has the SHA-256 {digest}, and revision=00 pins another"):
        resolve_source(backbone_of(file, revision="00"), name="a")


def test_a_missing_pad_token_is_the_end_token(tmp_path: Path, llama: LlamaForCausalLM) -> None:
    write_gguf(tmp_path / "a.gguf", llama, pad_token=False)
    loaded = load_backbone(backbone_of(tmp_path / "a.gguf"), name="a")
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == 2


def test_a_missing_end_token_is_one_line(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM
) -> None:
    write_gguf(tmp_path / "a.gguf", llama, end_token=False)
    assert "its tokenizer has no end-of-text token" in refused(tmp_path / "a.gguf", cache)


@pytest.mark.parametrize("kept", [5, 100, -1, 0.5], ids=str)
def test_a_cut_file_is_one_line(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM, kept: float
) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    assert "is cut or damaged" in refused(file, cache)


def test_what_is_no_gguf_file_is_one_line(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK" * 1000)
    assert "is no GGUF file" in refused(tmp_path / "a.gguf", cache)
    assert "there is no such file" in refused(tmp_path / "b.gguf", cache)


def test_an_unknown_architecture_is_one_line(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM
) -> None:
    write_gguf(tmp_path / "a.gguf", llama, architecture="rwkv6")
    assert "architecture rwkv6 is not supported" in refused(tmp_path / "a.gguf", cache)


def test_another_architecture_than_the_rosters_is_one_line(
    tmp_path: Path, llama: LlamaForCausalLM
) -> None:
    write_gguf(tmp_path / "a.gguf", llama)
    wrong = Backbone(source=f"gguf:{tmp_path / 'a.gguf'}", family="qwen2", lora=SLOT)
    with pytest.raises(UserError, match=r"'qwen2' but the model .* is 'llama'"):
        load_backbone(wrong, name="a")


def test_missing_weights_are_not_made_up(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM
) -> None:
    write_gguf(tmp_path / "a.gguf", llama, F32, without="blk.1.ffn_up.weight")
    message = refused(tmp_path / "a.gguf", cache)
    assert "lacks 1 weights of its architecture: model.layers.1.mlp.up_proj.weight" in message


def test_without_the_reading_package_the_extra_is_named(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_gguf(tmp_path / "a.gguf", llama)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'knexa\[gguf\]'"):
        gguf.converted(tmp_path / "a.gguf")


def test_an_incomplete_model_is_noticed_and_made_again(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM
) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    folder = gguf.converted(file)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])
    assert model_cache.read_manifest(folder.name) is None
    assert gguf.converted(file) == folder
    assert (folder / "model.safetensors").read_bytes() == whole


def test_what_a_killed_process_left_is_no_model_and_is_removed(
    tmp_path: Path, cache: Path, llama: LlamaForCausalLM
) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    name = f"gguf-{model_cache.sha256_of(file)[:16]}"
    left = cache / f".{name}.tmp"
    (left / "model").mkdir(parents=True)
    (left / "model" / "model.safetensors").write_bytes(b"half")
    assert model_cache.model_names() == []
    assert gguf.converted(file) == cache / name
    assert not left.exists()


def test_dequantising_is_told_once(
    tmp_path: Path, llama: LlamaForCausalLM, caplog: pytest.LogCaptureFixture
) -> None:
    write_gguf(tmp_path / "a.gguf", llama)
    with caplog.at_level(logging.INFO, "knexa.backbones.gguf"):
        gguf.converted(tmp_path / "a.gguf")
        gguf.converted(tmp_path / "a.gguf")
    told = [record for record in caplog.records if record.name == "knexa.backbones.gguf"]
    assert [record.getMessage() for record in told] == [f"dequantising {tmp_path}/a.gguf, once"]


def test_two_that_want_one_model_at_once_make_it_once(
    tmp_path: Path, llama: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.gguf"
    write_gguf(file, llama)
    digest = model_cache.sha256_of(file)
    name, convert, made = f"gguf-{digest[:16]}", gguf.convert, []

    def counted(*arguments: object, **values: object) -> object:
        made.append(arguments)
        return convert(*arguments, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(gguf, "convert", counted)
    with ThreadPoolExecutor() as threads:
        with model_cache.making(name) as work:
            other = threads.submit(gguf.converted, file)  # waits until the model is made
            gguf.convert(file, work, name, source="a test", sha256=digest)
        assert other.result() == model_cache.models_folder() / name
    assert len(made) == 1


def test_a_cache_folder_that_is_not_absolute_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("HOME", "/home/ann")
    assert model_cache.models_folder() == Path("/home/ann/.cache/knexa/models")
