"""Small worlds that the tests of this room share."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from omegaconf import OmegaConf

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.matchings import Exact, max_weight_pairs
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.regret import arms_total
from knexa.matchmaking.rewards import LocalLoss
from knexa.matchmaking.round_view import RoundView
from knexa.profiles import layout

CONF = Path(__file__).parents[2] / "conf"


def node_of(option: str) -> dict[str, Any]:
    """The config node of an option such as ``matchmaker/linucb``, as composed beside tiny6."""
    group = option.split("/")[0]
    node = yaml.safe_load((CONF / f"{option}.yaml").read_text())
    node.pop("defaults", None)  # a matchmaker's own exchange
    roster = yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text())
    config = OmegaConf.create({"seed": 0, "roster": roster, group: node})
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return dict(found[group])


def random_profiles(rng: np.random.Generator, num_agents: int = 6) -> Array:
    """Profiles that look like real ones: a family one-hot, dynamics, a skewed histogram."""
    profiles_NF = np.zeros((num_agents, layout.NUM_FEATURES))
    families_N = rng.integers(0, 4, num_agents)
    profiles_NF[np.arange(num_agents), families_N] = 1.0
    dynamic = slice(layout.NUM_STATIC, -layout.NUM_DATA)
    profiles_NF[:, dynamic] = rng.random((num_agents, layout.NUM_DYNAMIC))
    profiles_NF[:, -layout.NUM_DATA :] = rng.dirichlet(np.full(layout.NUM_DATA, 0.1), num_agents)
    return profiles_NF


def view_of(
    profiles_NF: Array,
    rng: np.random.Generator,
    *,
    round: int = 1,
    num_pairs: int | None = None,
    context=None,
    matching=None,
    probe=None,
    **more,
) -> RoundView:
    return RoundView(
        round=round,
        profiles_NF=profiles_NF,
        context=context or Interaction(),
        matching=matching or Exact(),
        num_pairs=len(profiles_NF) // 2 if num_pairs is None else num_pairs,
        protocol="akd",
        rng=rng,
        probe=probe,
        **more,
    )


def pairs_of(plan) -> list[tuple[int, int]]:
    return [directive.pair for directive in plan]


def started(policy, num_features: int):
    policy.start(num_features)
    return policy


def earned(policy, seed: int, num_rounds: int = 60) -> tuple[float, float]:
    """Return (earned, best possible) per round in the last 20 rounds of a linear world."""
    world = np.random.default_rng(seed)
    theta_d = world.normal(size=101)
    cpm = cpm_of(policy)
    got, best = [], []
    for round in range(1, num_rounds + 1):
        profiles_NF = random_profiles(world)
        rewards_NN = Interaction().build(profiles_NF) @ theta_d
        plan = cpm.propose(round, profiles_NF, np.random.default_rng([seed, round]))
        noise = world.normal(size=len(plan)) * 0.05
        cpm.receive(
            [
                Feedback(directive_id=d.id, reward=float(rewards_NN[d.pair] + noise[k]))
                for k, d in enumerate(plan)
            ]
        )
        got.append(arms_total(rewards_NN, pairs_of(plan)))
        best.append(arms_total(rewards_NN, max_weight_pairs(rewards_NN, 3)))
    return float(np.mean(got[-20:])), float(np.mean(best[-20:]))


def cpm_of(policy, **settings) -> CPM:
    defaults = {
        "context": Interaction(),
        "matching": Exact(),
        "reward": LocalLoss(),
        "protocol": "akd",
        "num_profile_features": 32,
    }
    return CPM(matchmaker=policy, **(defaults | settings))


def directed_matchings(num_agents: int, num_pairs: int) -> list[tuple[tuple[int, int], ...]]:
    """Every set of that many disjoint ordered pairs, by enumeration."""

    def extend(free: tuple[int, ...], left: int):
        if left == 0:
            yield ()
            return
        if len(free) < 2 * left:
            return
        first, rest = free[0], free[1:]
        yield from extend(rest, left)  # the first agent stays out
        for partner in rest:
            others = tuple(agent for agent in rest if agent != partner)
            for tail in extend(others, left - 1):
                yield ((first, partner), *tail)
                yield ((partner, first), *tail)

    return list(extend(tuple(range(num_agents)), num_pairs))
