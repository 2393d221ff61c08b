"""Solving problems: completions from an agent, their outcomes in the sandbox, their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from knexa.agents.generate import generate
from knexa.agents.session import Session
from knexa.agents.state import AgentState
from knexa.agents.text import decode_completion
from knexa.backbones.merged import merged
from knexa.data.problem import Problem
from knexa.evaluation import Outcome
from knexa.evaluation.codebleu import CodeBleu, CodeBleuReference, comparable


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion of a problem; ``confidence`` is the mean log-probability of its tokens."""

    task_id: str
    completion: str
    confidence: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Score:
    """Greedy measurements of one agent on one set of problems (None: no problem was scored)."""

    pass_at_1: float | None
    codebleu_compat: float | None
    codebleu_fixed: float | None
    num_tokens: int


def answer(
    session: Session,
    state: AgentState,
    problems: Sequence[Problem],
    *,
    temperature: float,
    seed: int,
    num_samples: int = 1,
) -> list[Answer]:
    """Return ``num_samples`` completions of every problem, problem by problem."""
    loaded = session.backbone(state)
    loaded.model.eval()
    tokenizer = loaded.tokenizer
    prompts = [
        session.prompt(tokenizer, problem) for problem in problems for _ in range(num_samples)
    ]
    with merged(loaded):
        generations = generate(
            loaded.model,
            prompts,
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            max_new_tokens=session.evaluation.max_new_tokens,
            temperature=temperature,
            seed=seed,
            batch_size=session.evaluation.batch_size,
        )
    owners = [problem for problem in problems for _ in range(num_samples)]
    return [
        Answer(
            problem.task_id,
            decode_completion(tokenizer, generation.ids),
            generation.mean_log_prob,
            len(generation.ids),
        )
        for problem, generation in zip(owners, generations, strict=True)
    ]


def execute(
    session: Session, problems: Sequence[Problem], completions: Sequence[str]
) -> list[Outcome]:
    """Return the outcome of each completion of the problem beside it."""
    executions = session.executor.run(list(zip(problems, completions, strict=True)))
    return [execution.outcome for execution in executions]


def solved(session: Session, state: AgentState, problems: Sequence[Problem]) -> list[bool | None]:
    """Answer the problems greedily; return which are solved, None for what the sandbox lost."""
    answers = answer(session, state, problems, temperature=0.0, seed=0)
    outcomes = execute(session, problems, [item.completion for item in answers])
    return [
        None if outcome is Outcome.INFRASTRUCTURE_ERROR else outcome is Outcome.PASSED
        for outcome in outcomes
    ]


def measure(session: Session, state: AgentState, problems: Sequence[Problem]) -> Score:
    """Answer the problems greedily and score the answers; what the sandbox lost is left out."""
    answers = answer(session, state, problems, temperature=0.0, seed=0)
    outcomes = execute(session, problems, [item.completion for item in answers])
    passed, compat, fixed = [], [], []
    for problem, item, outcome in zip(problems, answers, outcomes, strict=True):
        if outcome is Outcome.INFRASTRUCTURE_ERROR:
            continue
        bleu = codebleu(problem, item.completion)
        passed.append(outcome is Outcome.PASSED)
        compat.append(bleu.compat)
        fixed.append(bleu.fixed)
    tokens = sum(item.num_tokens for item in answers)
    return Score(_mean(passed), _mean(compat), _mean(fixed), tokens)


@lru_cache(maxsize=1 << 15)
def codebleu(problem: Problem, completion: str) -> CodeBleu:
    """Return the CodeBLEU of a completion against the canonical solution, docstrings aside."""
    return _reference(problem).score(comparable(problem, completion))


@lru_cache(maxsize=1 << 12)
def _reference(problem: Problem) -> CodeBleuReference:
    return CodeBleuReference(comparable(problem, problem.canonical_solution))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
