"""Regret from counterfactual probes: the best plan's raw reward less that of the round's plan.

Of one round; the report sums over rounds. Regret may be negative. Axes: N agents, T topics; rewards
are ``[teacher, student]`` or ``[teacher, student, topic]``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.matchings import max_weight_pairs
from knexa.matchmaking.plans import Arm, Plan, Selection
from knexa.matchmaking.round_view import Probe
from knexa.tracking.rows import RegretRow

MAX_RECORDED_AGENTS = 32
"""Reward matrices of larger federations are not recorded: 64 agents would take 40 kB a round."""


@dataclass(frozen=True, kw_only=True)
class Regret:
    """When rounds are probed.

    Attributes:
        every: Probe round 1 and every so many rounds after it; 0 never probes. A probe of losses
            trains every pair; under a reward of answers the teachers' text is all that it needs.
    """

    name: ClassVar[str] = "regret"

    every: Annotated[int, Field(ge=0)] = 1

    def due(self, round: int) -> bool:
        """Return whether the 1-based ``round`` is probed."""
        return self.every > 0 and (round - 1) % self.every == 0


def arms_total(rewards: Array, arms: Sequence[Arm]) -> float:
    """Return the arms' total reward, correctly rounded, so that equal sets have equal totals."""
    return math.fsum(float(rewards[arm]) for arm in arms)


def random_total(rewards_NN: Array, num_pairs: int) -> float:
    """Return the expected total of that many uniformly random disjoint pairs with random roles.

    By symmetry each of the N (N - 1) ordered pairs is among the M chosen ones with probability
    M / (N (N - 1)), so the expectation is that share of the sum over all ordered pairs.
    """
    num_agents = len(rewards_NN)
    if num_agents < 2:
        return 0.0
    ordered_pairs = rewards_NN[~np.eye(num_agents, dtype=bool)].tolist()
    return math.fsum(ordered_pairs) * num_pairs / (num_agents * (num_agents - 1))


def chosen_pairs(plan: Plan, num_agents: int) -> list[tuple[int, int]] | None:
    """Return a plan's pairs, or None where it is not a pairing of disjoint agents among N."""
    pairs = [directive.pair for directive in plan]
    agents = [agent for pair in pairs if pair is not None for agent in pair]
    if None in pairs or len(set(agents)) < len(agents):
        return None
    if not all(0 <= agent < num_agents for agent in agents):
        return None  # a server agent takes part, and no probe covers it
    return [pair for pair in pairs if pair is not None]


def among(probe: Probe, available_N: Mask | None) -> Probe:
    """Return the probe with ``-inf`` for the pairs of which one is not available."""
    if available_N is None:
        return probe
    both_NN = available_N[:, None] & available_N[None, :]
    np.fill_diagonal(both_NN, True)  # the diagonal stays NaN
    both = both_NN.reshape(both_NN.shape + (1,) * (probe.rewards.ndim - 2))
    return replace(probe, rewards=np.where(both, probe.rewards, -np.inf))


def regret_row(
    round: int,
    probe: Probe,
    plan: Plan,
    available_N: Mask | None = None,
    num_pairs: int | None = None,
) -> RegretRow:
    """Return the round's row of regret.jsonl, where plans are disjoint pairs.

    The best and the random matching are of the available agents and have ``num_pairs`` pairs (None:
    half of these agents), even where the policy chose fewer; regret is then negative if the pairs
    that were left out would have lost. A chosen pair counts even if its packages are lost.

    ``random`` is None where some pairs cannot be served: the expectation has no closed form then.

    Raises:
        ValueError: When a probed reward is not finite.
    """
    probe = among(probe, available_N)
    rewards_NN = probe.rewards
    num_agents = len(rewards_NN)
    served_NN = _served(round, probe)
    here_n = np.arange(num_agents) if available_N is None else np.flatnonzero(available_N)
    most = len(here_n) // 2
    num_pairs = most if num_pairs is None else min(num_pairs, most)
    best = max_weight_pairs(rewards_NN, num_pairs)
    chosen = chosen_pairs(plan, num_agents)
    here_nn = np.ix_(here_n, here_n)
    all_may_meet = served_NN[here_nn].sum() == len(here_n) * (len(here_n) - 1)
    return RegretRow(
        round=round,
        rewards=_recorded(rewards_NN, served_NN),
        no_teacher=tuple(probe.no_teacher_N.tolist()),
        best=arms_total(rewards_NN, best),
        chosen=None if chosen is None else arms_total(rewards_NN, chosen),
        random=random_total(rewards_NN[here_nn], num_pairs) if all_may_meet else None,
        best_pairs=tuple(best),
    )


def selection_regret_row(
    round: int,
    probe: Probe,
    plan: Plan,
    selection: Selection,
    topics: TransferTopics,
    available_N: Mask | None = None,
) -> RegretRow:
    """Return the round's row of regret.jsonl, where ``selection`` is no pairing.

    The best plan is the exact optimum of the selection among the available agents, the random one
    the expectation of its ``draw``. ``chosen`` is None where a directive is no arm of the selection
    or stands twice. Rewards of arms with topics are not recorded: there are T times as many.

    Raises:
        ValueError: When a probed reward is not finite.
    """
    probe = among(probe, available_N)
    rewards, served = probe.rewards, _served(round, probe)
    rewards = np.where(served, rewards, -np.inf)
    best = selection.select(rewards, topics, len(rewards) // 2, None)
    found = [selection.arm_of(directive, topics) for directive in plan]
    arms = [arm for arm in found if arm is not None and max(arm[:2]) < len(rewards)]
    is_known = len(set(arms)) == len(plan) and all(served[arm] for arm in arms)
    here_n = np.arange(len(rewards)) if available_N is None else np.flatnonzero(available_N)
    return RegretRow(
        round=round,
        rewards=_recorded(rewards, served) if rewards.ndim == 2 else None,
        no_teacher=tuple(probe.no_teacher_N.tolist()),
        best=arms_total(rewards, best),
        chosen=arms_total(rewards, arms) if is_known else None,
        random=selection.expected(rewards[np.ix_(here_n, here_n)], topics),
        best_pairs=tuple(sorted({(arm[0], arm[1]) for arm in best})),
    )


def _served(round: int, probe: Probe) -> Mask:
    """Return which arms the probe has a reward of, in its shape; refuse one that is not finite."""
    rewards = probe.rewards
    served = ~np.isneginf(rewards)
    everyone = np.arange(len(rewards))
    served[everyone, everyone] = False
    if not (np.isfinite(rewards[served]).all() and np.isfinite(probe.no_teacher_N).all()):
        raise ValueError(f"the probe of round {round} has a reward that is not finite")
    return served


def _recorded(rewards_NN: Array, served_NN: Mask) -> tuple[tuple[float | None, ...], ...] | None:
    """Return the rewards of a row, None where there are none or the federation is large."""
    if len(rewards_NN) > MAX_RECORDED_AGENTS:
        return None
    known_NN = rewards_NN.astype(object)
    known_NN[~served_NN] = None
    return tuple(map(tuple, known_NN.tolist()))
