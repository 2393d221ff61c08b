"""An agent's phases: pure functions of (runtime, state, inputs), run in any process.

Only ``evaluate`` and ``answer_finally`` read the global test set, and only the report sees their
results. Every draw is seeded by (run seed, phase, round, agent), so a trial ("what if j had taught
i?") with the same inputs gives the same as the exchange, on CPUs to the last bit.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from knexa.agents import solve
from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    Learned,
    Measurement,
    OutgoingPackage,
    Question,
    ReceivedKnowledge,
    Written,
)
from knexa.agents.learning import train
from knexa.agents.runtime import Runtime
from knexa.agents.scoring import refuse_divergence, skills, validation_loss
from knexa.agents.state import AgentState
from knexa.agents.training import FitReport
from knexa.engine.two_step import two_step
from knexa.seeding import derive_seed
from knexa.tracking.rows import SampleRow


def start(runtime: ExchangeRuntime, index: int) -> AgentState:
    """Return agent ``index`` before training: a fresh adapter and an empty history.

    Where the protocol ``shares_start``, agents with equal backbones begin with the first's adapter.
    """
    from knexa.backbones.load import initial_adapter

    backbones = [member.backbone for member in runtime.members]
    loaded = runtime.pool.get(backbones[index])
    draw = backbones.index(backbones[index]) if runtime.protocol.shares_start else index
    seed = derive_seed(runtime.seed, "adapter", draw)
    return AgentState(index=index, adapter=initial_adapter(loaded, seed))


def update_locally(
    runtime: ExchangeRuntime, state: AgentState, round_number: int
) -> tuple[AgentState, FitReport]:
    """Train on the private data for E epochs, then measure the agent on its validation split.

    Where the protocol rehearses, every batch also carries text that the agent kept, weighed as in
    Eq. 2. The measurements go into the state's history, which profiles are made from.
    """
    context = ExchangeContext(runtime, round_number)
    alpha, terms = runtime.protocol.rehearsal(context, state)
    trained, report = train(
        runtime,
        state,
        terms,
        alpha=alpha,
        num_batches=runtime.local_batches(state.index),
        learning_rate=runtime.training.local_learning_rate,
        purpose="local",
        round_number=round_number,
    )
    return _measure_privately(runtime, trained, report), report


def teach(
    runtime: ExchangeRuntime,
    state: AgentState,
    round_number: int,
    sender: int,
    asked: Sequence[Question] = (Question(),),
    written: Written = Written(),  # noqa: B008 - frozen
) -> tuple[list[OutgoingPackage], Written]:
    """Return the agent's package for each question, and all that it has written in the round.

    Args:
        runtime: The runtime.
        state: Who writes.
        round_number: The round, from 1 on.
        sender: Whose name the packages bear.
        asked: The questions.
        written: What it wrote in the round before; only what is asked beyond it is decoded.
    """
    protocol, everything = runtime.protocol, ExchangeContext(runtime, round_number, written=written)
    contexts = [replace(everything, question=question) for question in asked]
    wanted = {problem.task_id for context in contexts for problem in protocol.problems(context)}
    problems = [each for each in protocol.problems(everything) if each.task_id in wanted]
    written = protocol.write(everything, state, problems)
    packages = [
        protocol.teach(replace(context, written=written), state, sender) for context in contexts
    ]
    return packages, written


@two_step
def receive(
    runtime: ExchangeRuntime,
    package: OutgoingPackage,
    round_number: int,
    question: Question = Question(),  # noqa: B008 - frozen
) -> Generator[None, None, ReceivedKnowledge]:
    """Return what students keep of a package, the same for all that asked the question."""
    received = runtime.protocol.receive(ExchangeContext(runtime, round_number, question), package)
    return (yield from received) if isinstance(received, Generator) else received


def learn(
    runtime: ExchangeRuntime,
    state: AgentState,
    received: ReceivedKnowledge | None,
    round_number: int,
    before: Measurement,
) -> tuple[AgentState, Learned]:
    """Return the student after learning; without ``received`` this is the no-teacher arm."""
    context = ExchangeContext(runtime, round_number)
    return runtime.protocol.learn(context, state, received, before)


def _measure_privately(runtime: Runtime, state: AgentState, report: FitReport) -> AgentState:
    loss = validation_loss(runtime, state)
    refuse_divergence(runtime, state, loss, "local")
    problems = runtime.splits[state.index].validation
    answers = solve.answer(runtime, state, problems, temperature=0.0, seed=0, is_executed=True)
    score = solve.score(runtime, state, problems, answers)
    history = state.history
    return state.with_history(
        pass_at_1=(*history.pass_at_1[-1:], score.pass_at_1 or 0.0),
        codebleu=(*history.codebleu[-1:], score.codebleu_fixed or 0.0),
        perplexity=(*history.perplexity[-1:], float(np.exp(min(loss, 50.0)))),
        train_loss=report.loss if report.loss is not None else history.train_loss,
        skills=skills(runtime, state) if runtime.measures_skills else history.skills,
    )


@two_step
def evaluate(runtime: Runtime, state: AgentState) -> Generator[None, None, solve.Score]:
    """Return the greedy score on the global test set, for the report alone."""
    problems = runtime.test(state.index)
    answers = solve.answer(runtime, state, problems, temperature=0.0, seed=0, is_executed=True)
    yield
    return solve.score(runtime, state, problems, answers)


@two_step
def answer_finally(runtime: Runtime, state: AgentState) -> Generator[None, None, list[SampleRow]]:
    """Return n sampled completions of every test problem with outcome and CodeBLEU."""
    settings, problems = runtime.evaluation, runtime.test(state.index)
    answers = solve.answer(
        runtime,
        state,
        problems,
        temperature=settings.temperature,
        seed=derive_seed(runtime.seed, "final", state.index),
        num_samples=settings.num_samples,
        is_executed=True,
    )
    yield
    owners = [problem for problem in problems for _ in range(settings.num_samples)]
    completions = [answer.completion for answer in answers]
    bleus = [solve.codebleu(*pair) for pair in zip(owners, completions, strict=True)]
    outcomes = solve.execute(runtime, owners, completions)
    found = zip(owners, completions, bleus, outcomes, strict=True)
    return [
        SampleRow(
            task_id=problem.task_id,
            agent=state.index,
            sample=number % settings.num_samples,
            category=problem.category,
            outcome=str(outcome),
            codebleu_compat=bleu.compat,
            codebleu_fixed=bleu.fixed,
            completion=completion,
        )
        for number, (problem, completion, bleu, outcome) in enumerate(found)
    ]
