"""Solving problems: an agent's completions, their outcomes in the sandbox, their scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from knexa.agents.generate import generate
from knexa.agents.runtime import Runtime
from knexa.agents.state import AgentState
from knexa.agents.text import decode_completion
from knexa.backbones.merged import merged
from knexa.data.problem import Problem
from knexa.data.skew import category_histogram, own_weights
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
    """An agent's greedy scores on a set of problems; None where no problem was scored.

    ``own_pass_at_1`` is weighted by the agent's own data (``data.skew.own_weights``).
    """

    pass_at_1: float | None
    own_pass_at_1: float | None
    codebleu_compat: float | None
    codebleu_fixed: float | None
    num_tokens: int


def answer(
    runtime: Runtime,
    state: AgentState,
    problems: Sequence[Problem],
    *,
    temperature: float,
    seed: int,
    num_samples: int = 1,
    is_executed: bool = False,
    places: Sequence[int] | None = None,
) -> list[Answer]:
    """Return ``num_samples`` completions of every problem, problem by problem.

    With ``is_executed`` the sandbox runs each answer while others are still being decoded;
    ``execute`` returns the outcomes. ``places`` are the problems' places in a longer list that they
    are a part of: their answers are drawn as if all of it were answered.
    """
    if places is None:
        places = range(len(problems))
    loaded = runtime.backbone(state)
    loaded.model.eval()
    tokenizer = loaded.tokenizer
    owners = [problem for problem in problems for _ in range(num_samples)]
    answers: list[Answer | None] = [None] * len(owners)
    with merged(loaded):
        for ended in generate(
            loaded.model,
            [runtime.prompt(loaded, problem) for problem in owners],
            eos=tokenizer.eos_token_id,
            pad=tokenizer.pad_token_id,
            max_new_tokens=runtime.evaluation.max_new_tokens,
            temperature=temperature,
            seed=seed,
            rows=[
                place * num_samples + number for place in places for number in range(num_samples)
            ],
            batch_size=runtime.evaluation.batch_size,
        ):
            for index, generation in ended:
                completion = decode_completion(tokenizer, generation.ids)
                task_id, num_tokens = owners[index].task_id, len(generation.ids)
                answers[index] = Answer(task_id, completion, generation.mean_log_prob, num_tokens)
                if is_executed:
                    runtime.executor.begin(owners[index], completion)
            runtime.executor.advance()
    return [each for each in answers if each is not None]


def begin(runtime: Runtime, problems: Sequence[Problem], completions: Sequence[str]) -> None:
    """Let the sandbox begin with what ``execute`` will ask for."""
    for problem, completion in zip(problems, completions, strict=True):
        runtime.executor.begin(problem, completion)


def execute(
    runtime: Runtime, problems: Sequence[Problem], completions: Sequence[str]
) -> list[Outcome]:
    """Return the outcome of each completion of the problem beside it."""
    executions = runtime.executor.run(list(zip(problems, completions, strict=True)))
    return [execution.outcome for execution in executions]


def solved(runtime: Runtime, state: AgentState, problems: Sequence[Problem]) -> list[bool | None]:
    """Return which problems the agent solves greedily, None for what the sandbox lost."""
    answers = answer(runtime, state, problems, temperature=0.0, seed=0, is_executed=True)
    outcomes = execute(runtime, problems, [item.completion for item in answers])
    return [
        None if outcome is Outcome.INFRASTRUCTURE_ERROR else outcome is Outcome.PASSED
        for outcome in outcomes
    ]


def score(
    runtime: Runtime, state: AgentState, problems: Sequence[Problem], answers: Sequence[Answer]
) -> Score:
    """Score the agent's answer to each problem; what the sandbox lost is left out."""
    completions = [item.completion for item in answers]
    # CodeBLEU first, while the last programs run.
    bleus = [codebleu(*pair) for pair in zip(problems, completions, strict=True)]
    outcomes = execute(runtime, problems, completions)
    passed, compat, fixed, categories = [], [], [], []
    for problem, bleu, outcome in zip(problems, bleus, outcomes, strict=True):
        if outcome is Outcome.INFRASTRUCTURE_ERROR:
            continue
        categories.append(problem.category)
        passed.append(outcome is Outcome.PASSED)
        compat.append(bleu.compat)
        fixed.append(bleu.fixed)
    tokens = sum(item.num_tokens for item in answers)
    weights_P = own_weights(categories, category_histogram(runtime.private(state.index)).tolist())
    own = float(weights_P @ np.array(passed, dtype=np.float64)) if weights_P.any() else None
    return Score(_mean(passed), own, _mean(compat), _mean(fixed), tokens)


@lru_cache(maxsize=1 << 15)
def codebleu(problem: Problem, completion: str) -> CodeBleu:
    """Return the CodeBLEU of a completion against the canonical solution, docstrings aside."""
    return _reference(problem).score(comparable(problem, completion))


@lru_cache(maxsize=1 << 12)
def _reference(problem: Problem) -> CodeBleuReference:
    return CodeBleuReference(comparable(problem, problem.canonical_solution))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None
