"""What an agent measures without being trained: its losses, its scores of text, its skills."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from knexa.agents import solve
from knexa.agents.session import Session
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import (
    Example,
    answer_logits,
    collate,
    first_used,
    weighted_loss,
)
from knexa.data.problem import CATEGORIES, Problem
from knexa.errors import UserError
from knexa.exchange.package import PackageLimits, decode
from knexa.exchange.tensors import pack

MOST_LOGIT_BYTES = 4 << 30
"""What the logits of sequences that are measured together may take in 32 bits."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """An agent measured before or after an exchange.

    Attributes:
        loss: Mean token cross-entropy on its validation split, in nats; None without one.
        value: What the reward is measured by; None where it is a loss that the agent has not.
    """

    loss: float | None
    value: float | None


def gauge(session: Session, state: AgentState) -> Gauge:
    """Return the agent's validation loss and what the configured reward asks for."""
    loss = validation_loss(session, state) if state.index < len(session.splits) else None
    match session.measure:
        case "transfer_loss":
            return Gauge(loss, mean_loss(session, state, _references(session, state)))
        case "transfer_pass":
            return Gauge(loss, pass_rate(solve.solved(session, state, session.benchmark.transfer)))
        case _:
            return Gauge(loss, loss)


def refuse_divergence(
    session: Session, state: AgentState, loss: float | None, rate: Literal["local", "kd"]
) -> None:
    """Check the validation loss that training at that learning rate has led to.

    Raises:
        UserError: It is not finite.
    """
    if loss is not None and not np.isfinite(loss):
        key = f"{rate}_learning_rate"
        raise UserError(
            f"training.{key}={getattr(session.training, key):g}: training of agent "
            f"{session.members[state.index].name} diverges (validation loss {loss:g}); lower it"
        )


def _references(session: Session, state: AgentState) -> list[Example]:
    return reference_examples(session, state, session.benchmark.transfer)


def reference_examples(
    session: Session, state: AgentState, problems: Sequence[Problem]
) -> list[Example]:
    """Return the problems with their canonical solutions in the agent's tokens."""
    tokenizer = session.backbone(state).tokenizer
    return [session.example(tokenizer, problem) for problem in problems]


def validation_loss(session: Session, state: AgentState) -> float:
    """Return L_i of Eq. 3: the mean token cross-entropy on the validation split, in nats."""
    problems = session.splits[state.index].validation
    return mean_loss(session, state, reference_examples(session, state, problems))


def text_loss(session: Session, state: AgentState, texts: Sequence[KeptText]) -> float:
    """Return the mean token cross-entropy on somebody's text, in nats; infinite without any.

    Every token counts alike, whatever its text weighs in a lesson.
    """
    tokenizer = session.backbone(state).tokenizer
    examples = [session.kept_example(tokenizer, replace(text, weight=1.0)) for text in texts]
    return mean_loss(session, state, examples) if examples else float("inf")


def mean_loss(session: Session, state: AgentState, examples: Sequence[Example]) -> float:
    """Return the mean cross-entropy over the examples' answer tokens, in nats."""
    loaded = session.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    total, tokens = 0.0, 0
    for part in _parts(session, loaded.model, examples):
        chunk = examples[part]
        count = sum(len(example.ids) - example.num_prompt for example in chunk)
        batch = collate([(1.0, chunk)], loaded.tokenizer.pad_token_id)
        with torch.inference_mode():
            loss = weighted_loss(
                loaded.model, {name: tensor.to(device) for name, tensor in batch.items()}
            )
        total, tokens = total + float(loss) * count, tokens + count
    return total / max(tokens, 1)


def _parts(session: Session, model: Any, examples: Sequence[Example]) -> Iterator[slice]:
    """Yield which examples are measured together, in order: at most a batch, as logits allow."""
    size = session.evaluation.batch_size
    for begin in range(0, len(examples), size):
        end = min(begin + size, len(examples))
        longest = max(len(example.ids) for example in examples[begin:end])
        rows = max(1, MOST_LOGIT_BYTES // (4 * longest * model.config.vocab_size))
        for first in range(begin, end, rows):
            yield slice(first, min(first + rows, end))


def score_pool(
    session: Session, state: AgentState, package: bytes, num_teachers: int, round_number: int
) -> bytes:
    """Return the package of the agent's mean log-probability of every pooled answer, in order."""
    items = decode(package, limits=pool_limits(num_teachers)).items
    texts = [KeptText(task_id=item.task_id, completion=item.completion) for item in items]
    scores_C = mean_log_probs(session, state, texts)
    return pack("scores", session.members[state.index].name, round_number, {"scores": scores_C})


def pool_limits(num_teachers: int) -> PackageLimits:
    """Return what a pool of so many teachers' text may hold: as much as their packages together."""
    one = PackageLimits()
    return PackageLimits(
        max_bytes=one.max_bytes * num_teachers, max_items=one.max_items * num_teachers
    )


@torch.inference_mode()
def mean_log_probs(
    session: Session, state: AgentState, texts: Sequence[KeptText]
) -> NDArray[np.float32]:
    """Return the mean log-probability of each text's tokens, in nats."""
    loaded = session.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    unsorted = [session.kept_example(loaded.tokenizer, text) for text in texts]
    order = sorted(range(len(unsorted)), key=lambda index: (len(unsorted[index].ids), index))
    examples = [unsorted[index] for index in order]
    scores_C = np.zeros(len(examples), dtype=np.float32)
    for part in _parts(session, loaded.model, examples):
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
    """Return the share of problems solved; what the sandbox lost is left out."""
    known = [passed for passed in solved if passed is not None]
    return sum(known) / len(known) if known else 0.0


def skills(session: Session, state: AgentState) -> tuple[float, ...]:
    """Return the greedy pass rate on the transfer problems of each category, 0 where none is."""
    problems = session.benchmark.transfer
    solved = solve.solved(session, state, problems)
    return tuple(
        pass_rate([p for problem, p in zip(problems, solved, strict=True) if problem.category == c])
        for c in range(len(CATEGORIES))
    )
