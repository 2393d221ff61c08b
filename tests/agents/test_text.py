import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from knexa.agents.text import decode_completion, encode_example, encode_prompt, truncate

PROMPT = 'def add(a, b):\n    """Add."""\n'
BODY = "    total = a + b\n    return total\n"


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([PROMPT + BODY] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")


def test_an_example_is_the_prompt_then_exactly_what_decoding_reads(tokenizer):
    ids, num_prompt = encode_example(tokenizer, PROMPT, BODY, 256)
    assert ids[:num_prompt] == encode_prompt(tokenizer, PROMPT, 256)
    assert ids[-1] == tokenizer.eos_token_id
    assert decode_completion(tokenizer, ids[num_prompt:]) == BODY


def test_what_follows_eos_is_not_read(tokenizer):
    ids, num_prompt = encode_example(tokenizer, PROMPT, BODY, 256)
    assert decode_completion(tokenizer, [*ids[num_prompt:], *ids[:5]]) == BODY


def test_a_long_prompt_loses_its_oldest_tokens_and_keeps_room_to_learn(tokenizer):
    ids, num_prompt = encode_example(tokenizer, "# words\n" * 200 + PROMPT, BODY, 64)
    whole = encode_prompt(tokenizer, "# words\n" * 200 + PROMPT, 10_000)
    assert len(ids) <= 64
    assert len(ids) - num_prompt > 0
    assert ids[:num_prompt] == whole[-num_prompt:]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("    return 1\n\nprint(2)\n", "    return 1\n"),
        (
            "    if a:\n\n        return 1\n    return 2",
            "    if a:\n\n        return 1\n    return 2\n",
        ),
        ("def f():\n    return 1\nx = 2\n", "def f():\n    return 1\nx = 2\n"),
        ("", "\n"),
        ("\n\n    return 3\ndef g(): pass", "\n\n    return 3\n"),
    ],
)
def test_a_body_ends_at_the_first_unindented_line(text, kept):
    assert truncate(text) == kept


@given(st.text(alphabet=" ab\n\t:", max_size=60))
def test_truncating_twice_is_truncating_once(text):
    assert truncate(truncate(text)) == truncate(text)
