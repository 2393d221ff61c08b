"""An agent's phases: pure functions of (session, state, inputs), run wherever the engine likes.

None reads the global test set but ``evaluate`` and ``answer_finally``, whose results only the
report sees. Every draw is seeded by (run seed, phase, round, agent), so a trial ("what if j had
taught i?") with the same inputs is the exchange itself, to the last bit.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from knexa.agents import solve
from knexa.agents.lightning_module import fit
from knexa.agents.session import Session
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example, FitReport, collate, weighted_loss
from knexa.data.problem import Problem
from knexa.evaluation import Outcome
from knexa.exchange.package import KnowledgePackage, TextItem, decode, encode
from knexa.seeding import derive_rng, derive_seed

log = logging.getLogger(__name__)


def start(session: Session, index: int) -> AgentState:
    """Return agent ``index`` before any training: a fresh adapter, an empty history."""
    from knexa.backbones.load import initial_adapter

    loaded = session.pool.get(session.roster.agents[index].backbone)
    seed = derive_seed(session.seed, "adapter", index)
    return AgentState(index=index, adapter=initial_adapter(loaded, seed))


def update_locally(
    session: Session, state: AgentState, round_number: int
) -> tuple[AgentState, FitReport]:
    """Train on the private data for E epochs, then measure the agent on its validation split.

    Where the protocol rehearses, every batch also carries text from the replay store, weighed as in
    Eq. 2. The measurements go into the state's history, which profiles are made from.
    """
    training, private = session.training, session.splits[state.index].train
    batches_per_epoch = -(-len(private) // training.batch_size)
    kept = state.replay if session.protocol.rehearses else ()
    trained, report = _train(
        session,
        state,
        kept,
        num_batches=training.local_epochs * batches_per_epoch,
        learning_rate=training.local_learning_rate,
        purpose="local",
        round_number=round_number,
    )
    return _measure_privately(session, trained, report), report


def _measure_privately(session: Session, state: AgentState, report: FitReport) -> AgentState:
    validation = session.splits[state.index].validation
    score = solve.measure(session, state, validation)
    history, loss = state.history, validation_loss(session, state)
    return state.with_history(
        pass_at_1=(*history.pass_at_1[-1:], score.pass_at_1 or 0.0),
        codebleu=(*history.codebleu[-1:], score.codebleu_fixed or 0.0),
        perplexity=(*history.perplexity[-1:], float(np.exp(min(loss, 50.0)))),
        train_loss=report.loss if report.loss is not None else history.train_loss,
    )


def validation_loss(session: Session, state: AgentState) -> float:
    """Return L_i of Eq. 3: the mean token cross-entropy on the validation split, in nats."""
    loaded = session.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    problems = session.splits[state.index].validation
    total, tokens, size = 0.0, 0, session.evaluation.batch_size
    for begin in range(0, len(problems), size):
        examples = [
            session.example(loaded.tokenizer, problem) for problem in problems[begin : begin + size]
        ]
        count = sum(len(example.ids) - example.num_prompt for example in examples)
        batch = collate([(1.0, examples)], loaded.tokenizer.pad_token_id)
        with torch.inference_mode():
            loss = weighted_loss(
                loaded.model, {name: tensor.to(device) for name, tensor in batch.items()}
            )
        total, tokens = total + float(loss) * count, tokens + count
    return total / max(tokens, 1)


@dataclass(frozen=True, slots=True)
class Lesson:
    """A teacher's package as it leaves the gateway, and what leaving cost it."""

    teacher: int
    data: bytes
    items_sent: int
    guardrail: dict[str, int]
    tokens_generated: int

    @property
    def kilobytes(self) -> float:
        """Size of the package as sent, in units of 1,024 bytes."""
        return len(self.data) / 1024


def teach(session: Session, state: AgentState, round_number: int) -> Lesson:
    """Answer the transfer problems of the round and pack what the guardrail lets out."""
    protocol, agent = session.protocol, session.roster.agents[state.index]
    problems = transfer_problems(session, round_number)
    answers = solve.answer(
        session,
        state,
        problems,
        temperature=protocol.temperature(round_number, session.num_rounds),
        seed=derive_seed(session.seed, "teach", round_number, state.index),
    )
    items = [
        TextItem(task_id=a.task_id, completion=a.completion, confidence=a.confidence)
        for a in answers
        if a.completion.strip()
    ]
    vetted = session.guardrail.vet(items)
    package = KnowledgePackage(sender=agent.name, round=round_number, items=tuple(vetted.items))
    return Lesson(
        teacher=state.index,
        data=encode(package),
        items_sent=len(package.items),
        guardrail=counts(vetted.report),
        tokens_generated=sum(a.num_tokens for a in answers),
    )


def transfer_problems(session: Session, round_number: int) -> list[Problem]:
    """Return the transfer problems of the round: all, or the drawn ``num_problems``, in order."""
    transfer, number = session.benchmark.transfer, session.protocol.num_problems
    if number is None or number >= len(transfer):
        return list(transfer)
    rng = derive_rng(session.seed, "transfer", round_number)
    return [transfer[i] for i in sorted(rng.choice(len(transfer), number, replace=False))]


@dataclass(frozen=True, slots=True)
class Received:
    """What any student keeps of a package: it depends on the package alone, so it is made once."""

    teacher: int
    texts: tuple[KeptText, ...]
    guardrail: dict[str, int]


def receive(session: Session, lesson: Lesson) -> Received:
    """Decode, vet and, where the protocol verifies, run the answers of a package.

    Raises:
        PackageError: The package is not valid.
    """
    package = decode(lesson.data)
    known = [item for item in package.items if item.task_id in session.transfer_by_id]
    vetted = session.guardrail.vet(known)
    items: Sequence[TextItem] = vetted.items
    if session.protocol.verified:
        problems = [session.transfer_by_id[item.task_id] for item in items]
        outcomes = solve.execute(session, problems, [item.completion for item in items])
        items = [
            item for item, outcome in zip(items, outcomes, strict=True) if outcome is Outcome.PASSED
        ]
    texts = tuple(KeptText(task_id=item.task_id, completion=item.completion) for item in items)
    return Received(lesson.teacher, texts, counts(vetted.report))


def counts(report: Any) -> dict[str, int]:
    """Return the guardrail's counts as the contract names them."""
    return {
        "blocked": report.blocked,
        "redacted": report.redacted,
        "counted": report.counted,
    }


@dataclass(frozen=True, slots=True)
class Learned:
    """What an exchange did to a student: its validation loss before and after, in nats."""

    loss_before: float
    loss_after: float
    fit: FitReport
    items_kept: int


def learn(
    session: Session, state: AgentState, received: Received | None, round_number: int
) -> tuple[AgentState, Learned]:
    """Learn from a teacher's text by the configured protocol (AKD, Eq. 2).

    Without ``received`` this is the no-teacher arm: the same number of steps on private data alone.
    """
    protocol, before = session.protocol, validation_loss(session, state)
    texts: tuple[KeptText, ...] = () if received is None else received.texts
    if received is not None and protocol.rehearses:
        state = replace(state, replay=_remember(session, state.replay, texts))
        texts = state.replay
    trained, report = _train(
        session,
        state,
        texts,
        num_batches=protocol.num_steps * session.training.accumulate,
        learning_rate=session.training.kd_learning_rate,
        purpose="learn",
        round_number=round_number,
    )
    after = validation_loss(session, trained)
    kept = 0 if received is None else len(received.texts)
    return trained, Learned(before, after, report, kept)


def _remember(
    session: Session, store: tuple[KeptText, ...], texts: Sequence[KeptText]
) -> tuple[KeptText, ...]:
    fresh = dict.fromkeys(texts)
    old = tuple(text for text in store if text not in fresh)
    return (*old, *fresh)[-getattr(session.protocol, "replay_size", len(old) + len(fresh)) :]


def _train(
    session: Session,
    state: AgentState,
    texts: Sequence[KeptText],
    *,
    num_batches: int,
    learning_rate: float,
    purpose: str,
    round_number: int,
) -> tuple[AgentState, FitReport]:
    """Train on ``num_batches`` batches of private data, each beside as much teacher text."""
    loaded = session.backbone(state)
    tokenizer, size = loaded.tokenizer, session.training.batch_size
    alpha = session.protocol.alpha(round_number, session.num_rounds) if texts else 0.0
    rng = derive_rng(session.seed, f"{purpose}-batches", round_number, state.index)
    private = session.splits[state.index].train
    own = [session.example(tokenizer, problem) for problem in private]
    taught = [session.kept_example(tokenizer, text) for text in texts]
    batches = [
        collate(
            [(1 - alpha, group), (alpha, other)] if other else [(1.0, group)],
            tokenizer.pad_token_id,
        )
        for group, other in zip(
            _deal(own, num_batches, size, rng), _deal(taught, num_batches, size, rng), strict=True
        )
    ]
    return fit(
        loaded,
        state,
        batches,
        training=session.training,
        learning_rate=learning_rate,
        accelerator=session.accelerator,
        seed=derive_seed(session.seed, purpose, round_number, state.index),
    )


def _deal(
    examples: Sequence[Example], num_batches: int, size: int, rng: np.random.Generator
) -> list[list[Example]]:
    """Return batches of up to ``size`` examples: shuffled passes over all, one after another.

    A pass ends in a smaller batch, as an epoch does; fewer examples than ``size`` make batches of
    all. Each four batches in a row are filled by length, short ones first: a third of a random
    batch would be padding, and two groups that are dealt alike grow in step.
    """
    if not examples:
        return [[] for _ in range(num_batches)]
    batches: list[list[Example]] = []
    while len(batches) < num_batches:
        order = [examples[index] for index in rng.permutation(len(examples))]
        for begin in range(0, len(order), 4 * size):
            window = sorted(order[begin : begin + 4 * size], key=lambda example: len(example.ids))
            batches += [window[first : first + size] for first in range(0, len(window), size)]
    return batches[:num_batches]


def evaluate(session: Session, state: AgentState) -> dict[str, Any]:
    """Return the greedy score on the global test set, for the report alone."""
    return asdict(solve.measure(session, state, session.benchmark.test))


def answer_finally(session: Session, state: AgentState) -> list[dict[str, Any]]:
    """Return n sampled completions of every test problem with outcome and CodeBLEU."""
    settings, problems = session.evaluation, session.benchmark.test
    answers = solve.answer(
        session,
        state,
        problems,
        temperature=settings.temperature,
        seed=derive_seed(session.seed, "final", state.index),
        num_samples=settings.num_samples,
    )
    owners = [problem for problem in problems for _ in range(settings.num_samples)]
    outcomes = solve.execute(session, owners, [a.completion for a in answers])
    rows = []
    for number, (problem, given, outcome) in enumerate(zip(owners, answers, outcomes, strict=True)):
        bleu = solve.codebleu(problem, given.completion)
        rows.append(
            {
                "task_id": problem.task_id,
                "agent": state.index,
                "sample": number % settings.num_samples,
                "category": problem.category,
                "outcome": str(outcome),
                "codebleu_compat": bleu.compat,
                "codebleu_fixed": bleu.fixed,
                "completion": given.completion,
            }
        )
    return rows
