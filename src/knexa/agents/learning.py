"""How a student learns from what it received: the phases that train an adapter.

Learning is seeded by (round, student) and not by the teacher, so all arms of a student share their
random numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from knexa.agents.lessons import Received, prompt_batch, query_problems, transfer_problems
from knexa.agents.lightning_module import fit
from knexa.agents.private_training import train_privately
from knexa.agents.scoring import (
    Gauge,
    gauge,
    mean_loss,
    reference_examples,
    refuse_divergence,
)
from knexa.agents.session import Session
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Batch, DPTraining, Example, FitReport, collate
from knexa.exchange.protocols import Adapter, Distillation
from knexa.seeding import derive_rng, derive_seed

Term = tuple[float, Sequence[Example]]
"""A weight and the sequences that share it: one teacher term of the objective."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What an exchange did to a student."""

    before: Gauge
    after: Gauge
    fit: FitReport
    items_kept: int


def learn(
    session: Session,
    state: AgentState,
    received: Received | None,
    round_number: int,
    before: Gauge,
) -> tuple[AgentState, Learned]:
    """Learn from what was received by the configured protocol (AKD's objective is Eq. 2).

    Without ``received`` this is the no-teacher arm: the same number of steps on private data alone,
    beside what the student kept of earlier lessons where the protocol rehearses.

    Raises:
        UserError: The learning rate makes training diverge.
    """
    protocol = session.protocol
    if not isinstance(protocol, Distillation):
        trained, report = _take_over(session, state, received), FitReport(None, 0, 0)
    else:
        keeps = protocol.rehearses or session.liars.does(state.index, "copied")
        if received is not None and keeps:
            state = replace(state, replay=_remember(session, state.replay, received.texts))
        trained, report = _distil(session, protocol, state, received, round_number)
    after = gauge(session, trained)
    if isinstance(protocol, Distillation):  # an adapter that is taken over is its sender's doing
        refuse_divergence(session, trained, after.loss, "kd")
    kept = 0 if received is None else received.items_kept
    return trained, Learned(before, after, report, kept)


def _take_over(session: Session, state: AgentState, received: Received | None) -> AgentState:
    """Move the adapter towards the one received; the moments of AdamW stay the student's own."""
    if received is None or received.adapter is None:
        return state
    # What FedAvg hands down is the mean already, the student's own share included.
    alpha = session.protocol.alpha if isinstance(session.protocol, Adapter) else 1.0
    other = {name: torch.from_numpy(array) for name, array in received.adapter.items()}
    mixed = {name: (1.0 - alpha) * own + alpha * other[name] for name, own in state.adapter.items()}
    return replace(state, adapter=mixed)


def _distil(
    session: Session,
    protocol: Distillation,
    state: AgentState,
    received: Received | None,
    round_number: int,
) -> tuple[AgentState, FitReport]:
    tokenizer = session.backbone(state).tokenizer
    alpha = protocol.alpha(round_number, session.num_rounds)
    texts = () if received is None else received.texts
    texts = state.replay if protocol.rehearses else texts
    taught = [session.kept_example(tokenizer, text) for text in texts]
    if received is not None and received.soft:
        taught = [
            replace(example, soft=soft) for example, soft in zip(taught, received.soft, strict=True)
        ]
    terms: list[Term] = [(alpha, taught)]
    if received is not None and received.own_weight:
        own = [session.kept_example(tokenizer, text) for text in received.own]
        terms.append((alpha * received.own_weight, own))
    return train(
        session,
        state,
        terms,
        alpha=alpha,
        cosines_MM=None if received is None else received.cosines_MM,
        num_batches=protocol.num_steps * session.training.accumulate,
        learning_rate=session.training.kd_learning_rate,
        purpose="learn",
        round_number=round_number,
    )


def _remember(
    session: Session, store: tuple[KeptText, ...], texts: Sequence[KeptText]
) -> tuple[KeptText, ...]:
    fresh = dict.fromkeys(texts)
    old = tuple(text for text in store if text not in fresh)
    return (*old, *fresh)[-getattr(session.protocol, "replay_size", len(old) + len(fresh)) :]


def learn_centrally(
    session: Session, state: AgentState, texts: Sequence[KeptText], round_number: int
) -> tuple[AgentState, FitReport, float]:
    """Train a server agent on weighted text alone (FedID's L_s).

    Returns:
        Its state, the report, and the rectification signal: the fall of its mean token
        cross-entropy on the labelled query split, in nats.
    """
    protocol = session.protocol
    assert isinstance(protocol, Distillation)
    queries = reference_examples(session, state, query_problems(session))
    tokenizer = session.backbone(state).tokenizer
    before = mean_loss(session, state, queries)
    trained, report = train(
        session,
        state,
        [(1.0, [session.kept_example(tokenizer, text) for text in texts])],
        alpha=1.0,
        num_batches=protocol.num_steps * session.training.accumulate,
        learning_rate=session.training.kd_learning_rate,
        purpose="learn",
        round_number=round_number,
    )
    return trained, report, before - mean_loss(session, trained, queries)


def train(
    session: Session,
    state: AgentState,
    terms: Sequence[Term],
    *,
    alpha: float,
    num_batches: int,
    learning_rate: float,
    purpose: str,
    round_number: int,
    cosines_MM: Any = None,
) -> tuple[AgentState, FitReport]:
    """Train on ``num_batches`` batches of private data, each beside as much of every term.

    Private data weighs 1 - alpha where there is anything to learn beside it, else 1. With
    ``training=dp`` it is drawn and learnt apart (``private_training``).
    """
    loaded = session.backbone(state)
    tokenizer, size = loaded.tokenizer, session.training.batch_size
    rng = derive_rng(session.seed, f"{purpose}-batches", round_number, state.index)
    own = [session.example(tokenizer, problem) for problem in session.private(state.index)]
    present = [(weight, examples) for weight, examples in terms if examples]
    if not own and not present:
        return state, FitReport(None, 0, 0)
    own_weight = 1.0 if not present and cosines_MM is None else 1 - alpha
    apart = isinstance(session.training, DPTraining) and bool(own)
    weighted = present if apart else [(own_weight, own), *present]
    dealt = [_deal(examples, num_batches, size, rng) for _, examples in weighted]
    batches = []
    for number in range(num_batches):
        groups = [(w, d[number]) for (w, _), d in zip(weighted, dealt, strict=True) if d[number]]
        batches.append(collate(groups, tokenizer.pad_token_id) if groups else {})
    if cosines_MM is not None:
        similar = _similarity_terms(session, loaded, cosines_MM, alpha, round_number, rng)
        batches = [batch | next(similar) for batch in batches]
    if apart:
        return train_privately(
            session,
            state,
            loaded,
            own,
            batches,
            private_weight=own_weight,
            num_batches=num_batches,
            learning_rate=learning_rate,
            purpose=purpose,
            round_number=round_number,
        )
    return fit(
        loaded,
        state,
        batches,
        training=session.training,
        learning_rate=learning_rate,
        accelerator=session.accelerator,
        seed=derive_seed(session.seed, purpose, round_number, state.index),
    )


def _similarity_terms(
    session: Session,
    loaded: Any,
    cosines_MM: Any,
    alpha: float,
    round_number: int,
    rng: np.random.Generator,
) -> Any:
    """Yield, without end, a random group of prompts and what the teacher finds alike in it."""
    problems = transfer_problems(session, round_number)
    size = min(session.training.batch_size, len(problems))
    while True:
        drawn = rng.choice(len(problems), size, replace=False)
        input_PT, mask_PT = prompt_batch(session, loaded, [problems[i] for i in drawn])
        terms: Batch = {
            "prompt_PT": input_PT.cpu(),
            "prompt_mask_PT": mask_PT.cpu(),
            "cosines_PP": torch.from_numpy(cosines_MM[np.ix_(drawn, drawn)]),
            "similarity_weight": torch.tensor(alpha),
        }
        yield terms


def _deal(
    examples: Sequence[Example], num_batches: int, size: int, rng: np.random.Generator
) -> list[list[Example]]:
    """Return batches of up to ``size`` examples: shuffled passes over all, one after another.

    A pass ends in a smaller batch, as an epoch does; fewer examples than ``size`` make batches of
    all. Each four batches in a row, or those that are left to fill, are filled by length, short
    ones first: a third of a random batch would be padding, and two groups that are dealt alike grow
    in step.
    """
    if not examples:
        return [[] for _ in range(num_batches)]
    batches: list[list[Example]] = []
    while len(batches) < num_batches:
        order = [examples[index] for index in rng.permutation(len(examples))]
        while order and len(batches) < num_batches:
            # No wider than what is left to fill: a cut would drop the long ones of a window.
            width = min(4, num_batches - len(batches)) * size
            window, order = order[:width], order[width:]
            window.sort(key=lambda example: len(example.ids))
            batches += [window[first : first + size] for first in range(0, len(window), size)]
    return batches
