"""Formula worlds and policies put together without the application, for many seeds at once."""

from types import SimpleNamespace

import numpy as np

from knexa.federation.synthetic.answers import AnswerWorld, SyntheticAnswers
from knexa.federation.synthetic.linear import LinearWorld, SyntheticLinear
from knexa.federation.synthetic.skills import SkillWorld, Synthetic
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.regret import regret_row
from knexa.matchmaking.rewards import LocalLoss, NewAnswers
from knexa.matchmaking.topic_contexts import Topic
from knexa.profiles.build import Paper32
from knexa.seeding import derive_rng
from tests.federation.carrying_out import carry_out

RAW = LocalLoss(normalization="none")


def _settings(seed: int, reward=RAW) -> SimpleNamespace:
    return SimpleNamespace(seed=seed, reward=reward, profile=Paper32())


def skill_world(seed: int = 0, **settings) -> SkillWorld:
    return SkillWorld(Synthetic(num_rounds=100, **settings), _settings(seed))


def linear_world(seed: int = 0, **settings) -> LinearWorld:
    return LinearWorld(SyntheticLinear(num_rounds=200, **settings), _settings(seed))


def answer_world(seed: int = 0, **settings) -> AnswerWorld:
    return AnswerWorld(SyntheticAnswers(num_rounds=5, **settings), _settings(seed, NewAnswers()))


def answers_cpm(world: AnswerWorld, policy, matching) -> CPM:
    return CPM(
        matchmaker=policy,
        context=Topic(),
        matching=matching,
        reward=NewAnswers(),
        protocol=world.protocol_name,
        num_profile_features=32,
        topics=world.topics,
    )


def pass_at_1_after(world: AnswerWorld, policy, matching, num_rounds: int = 5) -> float:
    """Live through the rounds; return the agents' mean Pass@1 in percent."""
    cpm = answers_cpm(world, policy, matching)
    for number in range(1, num_rounds + 1):
        world.begin_round(number)
        plan = cpm.propose(number, world.profiles(), derive_rng(world.seed, "matchmaker", number))
        cpm.receive(
            [
                Feedback(directive_id=e.directive.id, reward=e.reward, answers=e.answers)
                for e in carry_out(world, number, plan)
            ]
        )
    return 100 * float(world.pass_at_1().mean())


def cumulative_regret(world, policy, num_rounds: int, context=None) -> np.ndarray:
    """Live through the rounds as the run loop does; return the regret summed up to each round."""
    cpm = CPM(
        matchmaker=policy,
        context=context or Interaction(),
        matching=Exact(),
        reward=RAW,
        protocol=world.protocol_name,
        num_profile_features=32,
    )
    regret = []
    for number in range(1, num_rounds + 1):
        world.begin_round(number)
        probe = world.probe(number)
        rng = derive_rng(world.seed, "matchmaker", number)
        plan = cpm.propose(number, world.profiles(), rng, probe=probe)
        row = regret_row(number, probe, plan)
        regret.append(row.best - row.chosen)
        cpm.receive(
            [
                Feedback(directive_id=e.directive.id, reward=e.reward)
                for e in carry_out(world, number, plan)
            ]
        )
    return np.cumsum(regret)


def log_slope(regret: np.ndarray, first_round: int) -> float:
    """Return the slope of log regret over log round from ``first_round`` on: 1 is linear."""
    rounds = np.arange(1, len(regret) + 1)
    used = rounds >= first_round
    return float(np.polyfit(np.log(rounds[used]), np.log(regret[used]), 1)[0])
