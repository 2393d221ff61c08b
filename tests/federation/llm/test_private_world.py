"""Noise in profiles and training through the real round: what is spent, what a resume gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from knexa.agents.exchange_protocol import ReceivedKnowledge
from knexa.agents.phases import learn
from knexa.agents.private_training import noise_plan, training_spent
from knexa.agents.scoring import measure
from knexa.agents.state import KeptText
from knexa.agents.training import DPTraining
from knexa.federation.llm.world import LLMWorld
from knexa.federation.summary import num_releases
from knexa.matchmaking.plans import Directive
from knexa.profiles.build import Paper32
from knexa.profiles.privacy import Gaussian
from knexa.protocols.akd_verified import AKDVerified
from knexa.protocols.similarity import Similarity
from knexa.tracking.rows import AgentRow
from tests.federation.carrying_out import carry_out
from tests.federation.llm.small_worlds import BACKBONES, SEED, world

TRAINING = DPTraining(local_learning_rate=3e-3, kd_learning_rate=3e-3, batch_size=4)
ROUNDS = 2
PLAN = (Directive(id=1, teachers=(0,), students=(1,), protocol="akd_verified"),)


def private_world() -> LLMWorld:
    made = world(AKDVerified(num_problems=4, num_steps=2), training=TRAINING)
    made.privacy = Gaussian(min_family=1).mechanism(
        families=["qwen2", "gpt2", "qwen2"],
        feature_names=Paper32.feature_names,
        seed=SEED,
        num_rounds=ROUNDS,
    )
    return made


def live(made: LLMWorld, round_number: int) -> np.ndarray:
    made.begin_round(round_number)
    profiles_NF = made.profiles()
    carry_out(made, round_number, PLAN)
    return profiles_NF


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> tuple[LLMWorld, list[np.ndarray], list[AgentRow], Path]:
    """A world after two rounds, its profiles, its rows, and a checkpoint of the first round."""
    made, folder = private_world(), tmp_path_factory.mktemp("checkpoint")
    rows, profiles = made.rows(0, []), []
    for number in range(1, ROUNDS + 1):
        profiles.append(live(made, number))
        rows += made.rows(number, [])
        if number == 1:
            made.save(folder)
    return made, profiles, rows, folder


def test_a_resumed_world_draws_the_same_noise(lived):
    made, profiles, _, folder = lived
    resumed = private_world()
    resumed.load(folder)
    assert np.array_equal(live(resumed, 2), profiles[1])
    for state, again in zip(made.states, resumed.states, strict=True):
        for tensors, same in ((state.adapter, again.adapter), (state.optimizer, again.optimizer)):
            assert all(torch.equal(tensors[name], same[name]) for name in tensors)


def test_both_budgets_compose_over_the_rounds_and_are_never_exceeded(lived):
    made, _, rows, _ = lived
    costs = []
    for number in range(ROUNDS + 1):
        seen = [row for row in rows if row.round <= number]
        profiles = made.privacy.spent(num_releases(seen))
        training = training_spent(made.runtime, seen)
        assert profiles is not None
        assert training is not None
        assert profiles.releases == number
        costs.append((profiles.epsilon, training.epsilon))
    assert costs[0] == (0.0, 0.0)
    assert costs[0] < costs[1] < costs[2]
    assert costs[1][1] < costs[2][1]
    assert max(costs[2]) <= 8.0


def test_only_who_learned_has_paid_for_it(lived):
    made, _, rows, _ = lived
    spent = training_spent(made.runtime, rows)
    assert spent is not None
    steps = [agent.steps for agent in spent.per_agent]
    planned = [noise_plan(made.runtime, agent).num_steps for agent in range(len(BACKBONES))]
    assert steps[1] == planned[1]  # it was taught in both rounds
    assert steps[0] == planned[0] - 2 * ROUNDS
    assert made.states[0].optimizer_steps == steps[0]


def test_what_a_student_is_taught_reaches_its_adapter(lived):
    runtime = replace(lived[0].runtime, num_rounds=ROUNDS + 1)
    state, task = lived[0].states[1], runtime.benchmark.transfer[0].task_id
    text = KeptText(task_id=task, completion="    return 1\n")
    before = measure(runtime, state)
    none = {"blocked": 0, "redacted": 0, "counted": 0}
    taught, report = learn(
        runtime, state, ReceivedKnowledge(guardrail=none, texts=(text,)), 3, before
    )
    alone, _ = learn(runtime, state, None, 3, before)
    assert report.fit.optimizer_steps == 2
    assert any(not torch.equal(taught.adapter[name], alone.adapter[name]) for name in alone.adapter)


def test_similarities_are_learnt_beside_private_noise():
    made = world(Similarity(num_problems=4, num_steps=2), training=TRAINING)
    plan = (Directive(id=1, teachers=(0,), students=(1,), protocol="similarity"),)
    made.begin_round(1)
    (exchange,) = carry_out(made, 1, plan)
    assert np.isfinite(exchange.reward)


def test_without_private_training_nothing_is_promised():
    assert training_spent(world(AKDVerified()).runtime, []) is None
