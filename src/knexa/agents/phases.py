"""An agent's phases: pure functions of (session, state, inputs), run wherever the engine likes.

None reads the global test set but ``evaluate`` and ``answer_finally``, whose results only the
report sees. Every draw is seeded by (run seed, phase, round, agent), so a trial ("what if j had
taught i?") with the same inputs is the exchange itself, on CPUs to the last bit.
"""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import numpy as np

from knexa.agents import solve
from knexa.agents.learning import train
from knexa.agents.scoring import refuse_divergence, skills, validation_loss
from knexa.agents.session import Session
from knexa.agents.state import AgentState
from knexa.agents.training import FitReport
from knexa.engine.two_step import two_step
from knexa.exchange.protocols import Distillation, FedAvg
from knexa.seeding import derive_seed


def start(session: Session, index: int) -> AgentState:
    """Return agent ``index`` before any training: a fresh adapter, an empty history.

    Under FedAvg a group begins with one adapter, the first member's (McMahan et al. 2017: clients
    start from one model): the mean of B and that of A make the mean of B A where A began alike.
    """
    from knexa.backbones.load import initial_adapter

    backbones = [member.backbone for member in session.members]
    loaded = session.pool.get(backbones[index])
    shared = isinstance(session.protocol, FedAvg)
    draw = backbones.index(backbones[index]) if shared else index
    seed = derive_seed(session.seed, "adapter", draw)
    return AgentState(index=index, adapter=initial_adapter(loaded, seed))


def update_locally(
    session: Session, state: AgentState, round_number: int
) -> tuple[AgentState, FitReport]:
    """Train on the private data for E epochs, then measure the agent on its validation split.

    Where the protocol rehearses, every batch also carries text from the replay store, weighed as in
    Eq. 2. The measurements go into the state's history, which profiles are made from.

    Raises:
        UserError: The learning rate makes training diverge.
    """
    protocol = session.protocol
    terms, alpha = [], 0.0
    if isinstance(protocol, Distillation) and protocol.rehearses:
        tokenizer = session.backbone(state).tokenizer
        alpha = protocol.alpha(round_number, session.num_rounds)
        terms = [(alpha, [session.kept_example(tokenizer, text) for text in state.replay])]
    trained, report = train(
        session,
        state,
        terms,
        alpha=alpha,
        num_batches=session.local_batches(state.index),
        learning_rate=session.training.local_learning_rate,
        purpose="local",
        round_number=round_number,
    )
    return _measure_privately(session, trained, report), report


def _measure_privately(session: Session, state: AgentState, report: FitReport) -> AgentState:
    loss = validation_loss(session, state)
    refuse_divergence(session, state, loss, "local")
    problems = session.splits[state.index].validation
    answers = solve.answer(session, state, problems, temperature=0.0, seed=0, is_executed=True)
    score = solve.score(session, problems, answers)
    history = state.history
    return state.with_history(
        pass_at_1=(*history.pass_at_1[-1:], score.pass_at_1 or 0.0),
        codebleu=(*history.codebleu[-1:], score.codebleu_fixed or 0.0),
        perplexity=(*history.perplexity[-1:], float(np.exp(min(loss, 50.0)))),
        train_loss=report.loss if report.loss is not None else history.train_loss,
        skills=skills(session, state) if session.measures_skills else history.skills,
    )


@two_step
def evaluate(session: Session, state: AgentState) -> Generator[None, None, dict[str, Any]]:
    """Return the greedy score on the global test set, for the report alone."""
    problems = session.benchmark.test
    answers = solve.answer(session, state, problems, temperature=0.0, seed=0, is_executed=True)
    yield
    return asdict(solve.score(session, problems, answers))


@two_step
def answer_finally(
    session: Session, state: AgentState
) -> Generator[None, None, list[dict[str, Any]]]:
    """Return n sampled completions of every test problem with outcome and CodeBLEU."""
    settings, problems = session.evaluation, session.benchmark.test
    answers = solve.answer(
        session,
        state,
        problems,
        temperature=settings.temperature,
        seed=derive_seed(session.seed, "final", state.index),
        num_samples=settings.num_samples,
        is_executed=True,
    )
    yield
    owners = [problem for problem in problems for _ in range(settings.num_samples)]
    completions = [given.completion for given in answers]
    bleus = [solve.codebleu(*pair) for pair in zip(owners, completions, strict=True)]
    outcomes = solve.execute(session, owners, completions)
    found = zip(owners, completions, bleus, outcomes, strict=True)
    return [
        {
            "task_id": problem.task_id,
            "agent": state.index,
            "sample": number % settings.num_samples,
            "category": problem.category,
            "outcome": str(outcome),
            "codebleu_compat": bleu.compat,
            "codebleu_fixed": bleu.fixed,
            "completion": completion,
        }
        for number, (problem, completion, bleu, outcome) in enumerate(found)
    ]
