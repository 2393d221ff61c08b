"""The fetched model itself, where the user's cache has it."""

import pytest
import torch

from knexa.agents.generate import generate
from knexa.agents.text import decode_completion, encode_prompt
from knexa.backbones import model_cache
from knexa.backbones.load import load_backbone
from knexa.backbones.roster import Backbone, Lora
from knexa.backbones.wheels import WHEELS

PROMPT = 'def add(a, b):\n    """Return the sum of a and b."""\n'


@pytest.mark.slow
def test_the_fetched_model_writes_python() -> None:
    manifest = model_cache.read_manifest("smollm2")
    if manifest is None or manifest.sha256 != WHEELS["smollm2"].sha256:
        pytest.skip("cache:smollm2 is not in this user's model cache: run knexa fetch smollm2")
    slot = Lora(rank=16, alpha=32, dropout=0.0)
    loaded = load_backbone(Backbone(source="cache:smollm2", family="llama", lora=slot))
    assert (loaded.num_parameters, loaded.num_trainable) == (139_399_488, 4_884_480)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    tokenizer = loaded.tokenizer
    ids = encode_prompt(tokenizer, PROMPT, 512)
    assert tokenizer.decode(ids) == PROMPT.rstrip("\n")
    ended = generate(
        loaded.model,
        [ids],
        eos=tokenizer.eos_token_id,
        pad=tokenizer.pad_token_id,
        max_new_tokens=16,
    )
    ((_, generation),) = [pair for step in ended for pair in step]
    assert decode_completion(tokenizer, generation.ids) == "    return a + b\n"
