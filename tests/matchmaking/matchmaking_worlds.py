"""Small worlds that the tests of this room share."""

import numpy as np

from knexa.agents import profile_layout
from knexa.matchmaking.base import Array, RoundView
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.matchings import Exact


def random_profiles(rng: np.random.Generator, num_agents: int = 6) -> Array:
    """Profiles that look like real ones: a family one-hot, dynamics, a skewed histogram."""
    profiles_NF = np.zeros((num_agents, profile_layout.NUM_FEATURES))
    families_N = rng.integers(0, 4, num_agents)
    profiles_NF[np.arange(num_agents), families_N] = 1.0
    dynamic = slice(profile_layout.NUM_STATIC, -profile_layout.NUM_DATA)
    profiles_NF[:, dynamic] = rng.random((num_agents, profile_layout.NUM_DYNAMIC))
    profiles_NF[:, -profile_layout.NUM_DATA :] = rng.dirichlet(
        np.full(profile_layout.NUM_DATA, 0.1), num_agents
    )
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
    )


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
