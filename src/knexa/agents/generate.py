"""Batched decoding with a KV cache, greedy or sampled; not beam search.

A sequence's draws depend on the seed and on its row of draws, by default its place in the input,
not on how sequences are batched. Shapes: B sequences in a batch, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Generation:
    """Generated ids, with EOS where reached, and their mean log-probability at temperature 1."""

    ids: list[int]
    mean_log_prob: float


@torch.inference_mode()
def generate(
    model: Any,
    prompts: Sequence[list[int]],
    *,
    eos: int,
    pad: int,
    max_new_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    batch_size: int = 128,
) -> Iterator[list[tuple[int, Generation]]]:
    """Continue every prompt; temperature 0 is greedy. Equal prompts of a batch are read once.

    Args:
        model: A causal LM in eval mode that takes ``past_key_values``.
        prompts: Token ids, each non-empty.
        eos: The id that ends a sequence.
        pad: The id that fills the left of shorter prompts (masked out).
        max_new_tokens: Tokens generated at most.
        temperature: Softmax temperature; 0 takes the most likely token.
        seed: Seed of the uniform draws, one row a sequence.
        rows: The row of each prompt; None is its place. A part of some prompts with their rows is
            drawn as all of them would be.
        batch_size: Sequences decoded together; the last bits may depend on it.

    Yields:
        At every step the sequences that ended there, often none: (index of the prompt, generation).
    """
    generator = torch.Generator().manual_seed(seed)
    rows = range(len(prompts)) if rows is None else rows
    uniform_RT = torch.rand(max(rows, default=-1) + 1, max_new_tokens, generator=generator)
    uniform_PT = uniform_RT[list(rows)]
    order = sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), index))
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        batch = _Batch(model, [prompts[i] for i in chunk], eos, pad, max_new_tokens, temperature)
        for ended in batch.decode(uniform_PT[chunk]):
            yield [(chunk[row], generation) for row, generation in ended]


class _Batch:
    """A batch being decoded; rows leave it when they end. U of its B prompts are distinct."""

    def __init__(
        self,
        model: Any,
        prompts: list[list[int]],
        eos: int,
        pad: int,
        max_new_tokens: int,
        temperature: float,
    ) -> None:
        self.model, self.eos, self.temperature = model, eos, temperature
        self.max_new_tokens = max_new_tokens
        self.device = next(model.parameters()).device
        longest = max(map(len, prompts))
        places: dict[tuple[int, ...], int] = {}
        owners = [places.setdefault(tuple(prompt), len(places)) for prompt in prompts]
        ids = [[pad] * (longest - len(prompt)) + [*prompt] for prompt in places]
        mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in places]
        self.owner_B = torch.tensor(owners, device=self.device)
        self.input_UT = torch.tensor(ids, device=self.device)
        self.mask_UT = torch.tensor(mask, device=self.device)
        self.takes_positions = "position_ids" in model_arguments(model)

    def decode(self, uniform_BT: torch.Tensor) -> Iterator[list[tuple[int, Generation]]]:
        """Yield at every step the rows that ended there."""
        num_rows = len(self.owner_B)
        tokens: list[list[int]] = [[] for _ in range(num_rows)]
        log_probs = torch.zeros(num_rows, dtype=torch.float64)
        rows = torch.arange(num_rows)
        log_probs_BV, cache = self._forward(self.input_UT, self.mask_UT, None)
        mask_BT = self.mask_UT
        if len(mask_BT) < num_rows:
            cache.batch_select_indices(self.owner_B)
            log_probs_BV, mask_BT = log_probs_BV[self.owner_B], mask_BT[self.owner_B]
        for step in range(self.max_new_tokens):
            next_B = self._choose(log_probs_BV, uniform_BT[rows, step])
            log_probs[rows] += log_probs_BV.gather(1, next_B[:, None])[:, 0].double().cpu()
            chosen = next_B.tolist()
            for row, token in zip(rows.tolist(), chosen, strict=True):
                tokens[row].append(token)
            is_last = step == self.max_new_tokens - 1
            alive = torch.tensor([token != self.eos and not is_last for token in chosen])
            yield [
                (row, Generation(tokens[row], float(log_probs[row]) / len(tokens[row])))
                for row in rows[~alive].tolist()
            ]
            if not alive.any():
                return
            if not alive.all():
                keep = alive.nonzero()[:, 0]
                on_device = keep.to(self.device)
                cache.batch_select_indices(on_device)
                next_B, mask_BT, rows = next_B[on_device], mask_BT[on_device], rows[keep]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(mask_BT.shape[0], 1)], dim=1)
            log_probs_BV, cache = self._forward(next_B[:, None], mask_BT, cache)

    def _forward(
        self, input_BT: torch.Tensor, mask_BT: torch.Tensor, cache: Any
    ) -> tuple[torch.Tensor, Any]:
        """Return the log-probabilities of the next tokens, and the cache."""
        arguments: dict[str, Any] = {}
        if self.takes_positions:
            positions = (mask_BT.cumsum(-1) - 1).clamp(min=0)
            arguments["position_ids"] = positions[:, -input_BT.shape[1] :]
        output = self.model(
            input_ids=input_BT,
            attention_mask=mask_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **arguments,
        )
        return output.logits[:, -1, :].float().log_softmax(-1), output.past_key_values

    def _choose(self, log_probs_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
        if self.temperature == 0:
            return log_probs_BV.argmax(-1)
        # Inverse-CDF sampling: like multinomial, at a fraction of its cost on the CPU.
        cdf_BV = (log_probs_BV.double() / self.temperature).softmax(-1).cumsum(-1)
        draw_B1 = uniform_B.to(cdf_BV)[:, None] * cdf_BV[:, -1:]
        return torch.searchsorted(cdf_BV, draw_B1, right=True)[:, 0].clamp(max=cdf_BV.shape[1] - 1)


def model_arguments(model: Any) -> frozenset[str]:
    """Return the argument names of the model's forward, below any PEFT wrapper."""
    import inspect

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return frozenset(inspect.signature(base.forward).parameters)
