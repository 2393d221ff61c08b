"""Measurements of an agent without training: its losses, its scores of text, its skills."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from knexa.agents import solve
from knexa.agents.exchange_protocol import Measurement
from knexa.agents.runtime import Runtime
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example, answer_logits, collate, first_used, weighted_loss
from knexa.data.problem import CATEGORIES, Problem
from knexa.errors import UserError

MOST_LOGIT_BYTES = 4 << 30
"""The most memory, in 32 bits, for the logits of sequences that are measured together."""


def measure(runtime: Runtime, state: AgentState) -> Measurement:
    """Return the agent's validation loss and the quantity that the configured reward compares."""
    loss = validation_loss(runtime, state) if state.index < len(runtime.splits) else None
    match runtime.measure:
        case "transfer_loss":
            examples = reference_examples(runtime, state, runtime.benchmark.probe)
            return Measurement(loss, mean_loss(runtime, state, examples))
        case "transfer_pass":
            solved = solve.solved(runtime, state, runtime.benchmark.probe)
            return Measurement(loss, pass_rate(solved))
        case _:
            return Measurement(loss, loss)


def refuse_divergence(
    runtime: Runtime, state: AgentState, loss: float | None, rate: Literal["local", "kd"]
) -> None:
    """Raise ``UserError`` where training at that learning rate gave a loss that is not finite."""
    if loss is not None and not np.isfinite(loss):
        key = f"{rate}_learning_rate"
        raise UserError(
            f"training.{key}={getattr(runtime.training, key):g}: training of agent "
            f"{runtime.members[state.index].name} diverges (validation loss {loss:g}); lower it"
        )


def reference_examples(
    runtime: Runtime, state: AgentState, problems: Sequence[Problem]
) -> list[Example]:
    """Return the problems with their canonical solutions in the agent's tokens."""
    loaded = runtime.backbone(state)
    return [runtime.example(loaded, problem) for problem in problems]


def validation_loss(runtime: Runtime, state: AgentState) -> float:
    """Return L_i of Eq. 3: the mean token cross-entropy on the validation split, in nats."""
    problems = runtime.splits[state.index].validation
    return mean_loss(runtime, state, reference_examples(runtime, state, problems))


def text_loss(runtime: Runtime, state: AgentState, texts: Sequence[KeptText]) -> float:
    """Return the mean token cross-entropy on a teacher's text, in nats; infinite without any.

    Every token counts alike, whatever the weights of the texts.
    """
    loaded = runtime.backbone(state)
    examples = [runtime.kept_example(loaded, replace(text, weight=1.0)) for text in texts]
    return mean_loss(runtime, state, examples) if examples else float("inf")


def mean_loss(runtime: Runtime, state: AgentState, examples: Sequence[Example]) -> float:
    """Return the mean cross-entropy over the examples' answer tokens, in nats."""
    loaded = runtime.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    total, tokens = 0.0, 0
    for part in _parts(runtime, loaded.model, examples):
        chunk = examples[part]
        count = sum(len(example.ids) - example.num_prompt for example in chunk)
        batch = collate([(1.0, chunk)], loaded.tokenizer.pad_token_id)
        with torch.inference_mode():
            loss = weighted_loss(
                loaded.model, {name: tensor.to(device) for name, tensor in batch.items()}
            )
        total, tokens = total + float(loss) * count, tokens + count
    return total / max(tokens, 1)


def _parts(runtime: Runtime, model: Any, examples: Sequence[Example]) -> Iterator[slice]:
    """Yield slices of examples to measure together: at most a batch, as far as logits allow."""
    size = runtime.evaluation.batch_size
    for begin in range(0, len(examples), size):
        end = min(begin + size, len(examples))
        longest = max(len(example.ids) for example in examples[begin:end])
        rows = max(1, MOST_LOGIT_BYTES // (4 * longest * model.config.vocab_size))
        for first in range(begin, end, rows):
            yield slice(first, min(first + rows, end))


@torch.inference_mode()
def mean_log_probs(
    runtime: Runtime, state: AgentState, texts: Sequence[KeptText]
) -> NDArray[np.float32]:
    """Return the mean log-probability of each text's tokens, in nats."""
    loaded = runtime.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    unsorted = [runtime.kept_example(loaded, text) for text in texts]
    order = sorted(range(len(unsorted)), key=lambda index: (len(unsorted[index].ids), index))
    examples = [unsorted[index] for index in order]
    scores_C = np.zeros(len(examples), dtype=np.float32)
    for part in _parts(runtime, loaded.model, examples):
        batch = collate([(1.0, examples[part])], loaded.tokenizer.pad_token_id)
        input_BT, mask_BT = batch["input_BT"].to(device), batch["mask_BT"].to(device)
        first = first_used(batch["weight_BT"])
        logits_BTV = answer_logits(loaded.model, input_BT, mask_BT, first)
        loss_BT = F.cross_entropy(
            logits_BTV.float().transpose(1, 2), input_BT[:, first:], reduction="none"
        )
        used_BT = (batch["weight_BT"][:, first:] > 0).to(device)
        sums_B = (loss_BT * used_BT).sum(1) / used_BT.sum(1)
        scores_C[order[part]] = -sums_B.cpu().numpy()
    return scores_C


def pass_rate(solved: Sequence[bool | None]) -> float:
    """Return the share of problems solved; those that the sandbox lost (None) are left out."""
    known = [passed for passed in solved if passed is not None]
    return sum(known) / len(known) if known else 0.0


def skills(runtime: Runtime, state: AgentState) -> tuple[float, ...]:
    """Return the greedy pass rate on the probe problems of each category, 0 where none is."""
    problems = runtime.benchmark.probe
    solved = solve.solved(runtime, state, problems)
    return tuple(
        pass_rate([p for problem, p in zip(problems, solved, strict=True) if problem.category == c])
        for c in range(len(CATEGORIES))
    )
