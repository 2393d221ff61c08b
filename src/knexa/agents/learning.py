"""Training an adapter on private data and, in equal parts, on what is taught.

Training is seeded by (purpose, round, student) and not by the teacher, so that all arms of a
student share their random numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from knexa.agents.exchange_protocol import ExchangeRuntime
from knexa.agents.lightning_module import fit
from knexa.agents.private_training import train_privately
from knexa.agents.state import AgentState
from knexa.agents.training import Batch, DPTraining, Example, ExtraLoss, FitReport, Term, collate
from knexa.backbones.load import LoadedBackbone
from knexa.seeding import derive_rng, derive_seed


@dataclass(frozen=True, slots=True)
class Extra:
    """A protocol's own part of the objective, beside weighted sequences.

    Attributes:
        draw: Returns the tensors (on the CPU) that it adds to one batch.
        loss: Returns its weighted loss of the model and such a batch.
    """

    draw: Callable[[LoadedBackbone, np.random.Generator], Batch]
    loss: ExtraLoss


def train(
    runtime: ExchangeRuntime,
    state: AgentState,
    terms: Sequence[Term],
    *,
    alpha: float,
    num_batches: int,
    learning_rate: float,
    purpose: str,
    round_number: int,
    extra: Extra | None = None,
) -> tuple[AgentState, FitReport]:
    """Train on batches of private data, each beside as many sequences of every term.

    Private data weighs 1 - alpha where there is anything to learn beside it, else 1. With
    ``training=dp`` it is drawn and learned apart (``private_training``).

    Args:
        runtime: The run's.
        state: The agent before training.
        terms: What is learned beside private data, such as a teacher's text.
        alpha: Share of the objective that is not private data's.
        num_batches: Batches, of which ``training.accumulate`` make an optimizer step.
        learning_rate: AdamW's rate.
        purpose: ``local`` or ``learn``; seeds the draws, with round and agent.
        round_number: The round.
        extra: A part of the objective that is not of sequences.
    """
    loaded = runtime.backbone(state)
    tokenizer, size = loaded.tokenizer, runtime.training.batch_size
    rng = derive_rng(runtime.seed, f"{purpose}-batches", round_number, state.index)
    own = [runtime.example(loaded, problem) for problem in runtime.private(state.index)]
    present = [(weight, examples) for weight, examples in terms if examples]
    if not own and not present:
        return state, FitReport(None, 0, 0)
    own_weight = 1.0 if not present and extra is None else 1 - alpha
    apart = isinstance(runtime.training, DPTraining) and bool(own)
    weighted = present if apart else [(own_weight, own), *present]
    dealt = [_deal(examples, num_batches, size, rng) for _, examples in weighted]
    batches = []
    for number in range(num_batches):
        groups = [(w, d[number]) for (w, _), d in zip(weighted, dealt, strict=True) if d[number]]
        batches.append(collate(groups, tokenizer.pad_token_id) if groups else {})
    if extra is not None:
        batches = [batch | extra.draw(loaded, rng) for batch in batches]
    extra_loss = None if extra is None else extra.loss
    if apart:
        return train_privately(
            runtime,
            state,
            loaded,
            own,
            batches,
            private_weight=own_weight,
            learning_rate=learning_rate,
            purpose=purpose,
            round_number=round_number,
            extra_loss=extra_loss,
        )
    return fit(
        loaded,
        state,
        batches,
        training=runtime.training,
        learning_rate=learning_rate,
        accelerator=runtime.accelerator,
        seed=derive_seed(runtime.seed, purpose, round_number, state.index),
        extra_loss=extra_loss,
    )


def _deal(
    examples: Sequence[Example], num_batches: int, size: int, rng: np.random.Generator
) -> list[list[Example]]:
    """Return batches of up to ``size`` examples, from one shuffled pass over all after another.

    A pass ends in a smaller batch. Within four batches (or those left to fill) examples are sorted
    by length: a third of a random batch would be padding, and the batches of two groups get longer
    together.
    """
    if not examples:
        return [[] for _ in range(num_batches)]
    batches: list[list[Example]] = []
    while len(batches) < num_batches:
        order = [examples[index] for index in rng.permutation(len(examples))]
        while order and len(batches) < num_batches:
            # No wider than what is left to fill: cutting later would drop the long examples.
            width = min(4, num_batches - len(batches)) * size
            window, order = order[:width], order[width:]
            window.sort(key=lambda example: len(example.ids))
            batches += [window[first : first + size] for first in range(0, len(window), size)]
    return batches
