"""Three small agents in this process: any exchange protocol through the real round, in seconds."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
import yaml

from knexa.agents import solve
from knexa.agents.exchange_protocol import ExchangeProtocol, ExchangeRuntime
from knexa.agents.training import Training
from knexa.backbones.pool import BackbonePool
from knexa.backbones.roster import Agent
from knexa.config.components import instantiate
from knexa.data.codelets import Codelets
from knexa.data.partition import AgentData
from knexa.data.problem import Problem
from knexa.engine.local import Pool, Workers
from knexa.evaluation import Executor, Outcome
from knexa.evaluation.settings import Evaluation
from knexa.exchange.guardrail.filter import Guardrail
from knexa.federation.llm.setup import admissible_pairs
from knexa.federation.llm.world import LLMWorld
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.rewards import LocalLoss, Reward
from knexa.profiles.build import Paper32
from tests.federation.carrying_out import carry_out

CONF = Path(__file__).parents[3] / "conf"
BACKBONES = ("tiny-qwen2", "tiny-gpt2", "tiny-qwen2")
SEED = 5


@cache
def runtime(num_servers: int = 0) -> ExchangeRuntime:
    """A runtime that lasts as long as the test process, so that backbones are loaded once."""
    torch.set_num_threads(1)
    node = yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text())
    roster = instantiate(node, key="roster")
    agents = [Agent(name=f"a{i}", backbone=name) for i, name in enumerate(BACKBONES)]
    roster = replace(roster, agents=tuple(agents))
    benchmark = Codelets(num_train=48, num_test=12, num_transfer=12).load()
    problems = benchmark.train
    splits = [
        AgentData(train=problems[begin : begin + 6 + i], validation=problems[begin + 12 :][:3])
        for i, begin in enumerate((0, 16, 32))
    ]
    return ExchangeRuntime(
        seed=SEED,
        num_rounds=2,
        roster=roster,
        benchmark=benchmark,
        splits=splits,
        pool=BackbonePool(roster.backbones),
        executor=Executor(),
        training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3, batch_size=4),
        evaluation=Evaluation(max_new_tokens=24, num_samples=1, ks=(1,), every=0),
        protocol=ExchangeProtocol(),
        guardrail=Guardrail(),
        accelerator="cpu",
    )


def passes(problem: Problem, completion: str) -> bool:
    """Return whether an answer passes: half of all do, by their text."""
    return crc32(f"{problem.task_id} {completion}".encode()) % 2 == 0


def let_some_answers_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute no program: an answer passes if ``passes`` says so."""

    def execute(runtime: Any, problems: Any, completions: Any) -> list[Outcome]:
        pairs = zip(problems, completions, strict=True)
        return [Outcome.PASSED if passes(*pair) else Outcome.FAILED for pair in pairs]

    monkeypatch.setattr(solve, "execute", execute)
    monkeypatch.setattr(solve, "begin", lambda *_: None)


def world(protocol: ExchangeProtocol, *, reward: Reward | None = None, **changes: Any) -> LLMWorld:
    """Return a world of the three agents that exchange by ``protocol``."""
    reward = reward or LocalLoss()
    changed = replace(runtime(), protocol=protocol, measure=reward.measure, **changes)
    pool = Pool(Workers(1, "cpu", "a test"), changed)
    return LLMWorld(changed, pool, reward, Paper32(), admissible_pairs(changed))


def cpm(matchmaker: Matchmaker, of: LLMWorld, *, mutual: bool = False) -> CPM:
    """Return the CPM of that world."""
    return CPM(
        matchmaker=matchmaker,
        context=Interaction(),
        matching=Exact(),
        reward=of.reward,
        protocol=of.protocol_name,
        num_profile_features=len(Paper32.feature_names),
        admissible_NN=of.admissible_NN,
        mutual=mutual,
    )


def one_round(matchmaker: Matchmaker, of: LLMWorld, *, mutual: bool = False) -> list[Any]:
    """Live through round 1 and return its exchanges."""
    of.begin_round(1)
    plan = cpm(matchmaker, of, mutual=mutual).propose(
        1, of.profiles(), rng=np.random.default_rng(SEED)
    )
    return carry_out(of, 1, plan)
