"""Encoding problems as token sequences and back, alike in training, teaching and solving.

A prompt is tokenized without the newline that opens the body, and that newline opens the
completion: byte-level BPE merges a newline with the indentation after it, and a prompt that ended
in a bare newline would be a boundary that the model never saw: every completion would be empty.
"""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROMPTS: WeakKeyDictionary[Any, dict[str, tuple[int, ...]]] = WeakKeyDictionary()
"""The tokens of every prompt, since an agent answers the same problems again and again."""


def encode_prompt(tokenizer: Any, prompt: str, max_length: int) -> list[int]:
    """Return the prompt's token ids, at most ``max_length``, the oldest dropped first."""
    known = _PROMPTS.setdefault(tokenizer, {})
    if prompt not in known:
        known[prompt] = tuple(tokenizer.encode(prompt.rstrip("\n"), add_special_tokens=False))
    return list(known[prompt][-max_length:])


def encode_example(
    tokenizer: Any, prompt: str, completion: str, max_length: int
) -> tuple[list[int], int]:
    """Return (token ids, number of prompt tokens) of one training sequence, ended by EOS.

    The sequence is cut at ``max_length``; a prompt that is itself that long loses its oldest
    tokens, so that some of the completion is left to learn from.
    """
    target: list[int] = tokenizer.encode("\n" + completion.rstrip("\n"), add_special_tokens=False)
    target = [*target, tokenizer.eos_token_id][:max_length]
    room = max(max_length - len(target), max_length // 2)
    head = encode_prompt(tokenizer, prompt, room)
    return (head + target)[:max_length], len(head)


def decode_completion(tokenizer: Any, ids: "Sequence[int]") -> str:
    """Return the completion text of generated ids (EOS and what follows removed)."""
    kept = list(ids)
    if tokenizer.eos_token_id in kept:
        kept = kept[: kept.index(tokenizer.eos_token_id)]
    text: str = tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return truncate(text[1:] if text.startswith("\n") else text)


def truncate(completion: str) -> str:
    """Cut a function body where it ends: at the first line that is neither blank nor indented.

    A completion whose first line is not indented is a whole program and stays as it is. The text
    ends in one newline.
    """
    lines = completion.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first[:1] in (" ", "\t"):
        for number, line in enumerate(lines):
            if line.strip() and line[0] not in " \t":
                lines = lines[:number]
                break
    return "\n".join(lines).rstrip() + "\n"
