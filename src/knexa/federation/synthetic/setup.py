"""Set-up of a federation of formulas: nothing to load, one process; and its summary."""

from typing import Any

import numpy as np

from knexa.data.divergence import jensen_shannon
from knexa.data.problem import CATEGORIES
from knexa.engine.local import Observer, Workers
from knexa.errors import UserError
from knexa.federation.byzantine_metrics import honest_agents
from knexa.federation.settings import Settings
from knexa.federation.summary import num_releases
from knexa.federation.synthetic.formulas import FormulaWorld
from knexa.matchmaking.arrays import Array
from knexa.seeding import derive_rng
from knexa.statistics import bootstrap_mean
from knexa.tracking.info import AgentInfo
from knexa.tracking.rows import Privacy, RoundRow, SampleRow, Score, Scores

CHECKPOINT_EVERY = 50
"""Rounds of formulas take milliseconds, a durable checkpoint tens of them."""

_UNSERVED_NEEDS = frozenset({"peer losses"})


class FormulaSetup:
    """A federation of formulas set up for one run; implements ``federation.setup.Setup``.

    Raises:
        UserError: The matchmaker or the reward needs language models.
    """

    def __init__(self, settings: Settings, world: FormulaWorld) -> None:
        matchmaker, choices = settings.matchmaker, settings.choices
        chosen = f"matchmaker={settings.matchmaker_name}"
        if matchmaker.protocol is not None or matchmaker.needs & _UNSERVED_NEEDS:
            raise UserError(
                f"{chosen} works on models and text: federation={choices['federation']} has "
                "neither; use federation=llm, or a matchmaker that pairs peers by profiles"
            )
        world.check(settings)
        self.settings, self._world, self.byzantine = settings, world, world.byzantine
        world.privacy = self.privacy = settings.privacy.mechanism(
            families=[world.family_of(agent) for agent in range(world.num_agents)],
            feature_names=settings.profile.feature_names,
            seed=settings.seed,
            num_rounds=settings.federation.num_rounds,
        )
        self.workers = Workers(1, "cpu", "formulas")
        self.checkpoint_every = CHECKPOINT_EVERY

    def world(self, observer: Observer) -> FormulaWorld:
        """Return the agents."""
        return self._world

    def overview(self) -> dict[str, Any]:
        """Return the fields of ``StartInfo`` that describe agents, data and exchange."""
        world = self._world
        shares_NC = world.shares_NC
        divergence_NN = jensen_shannon(shares_NC)
        num_pairs = world.num_agents * (world.num_agents - 1)
        return {
            "agents": [self._agent(agent, shares_NC[agent]) for agent in range(world.num_agents)],
            "data": f"formulas (federation={self.settings.choices['federation']})",
            "partition": world.partition,
            "mean_js": float(divergence_NN.sum() / max(1, num_pairs)),
            "exchange": world.protocol_name,
        }

    def _agent(self, agent: int, shares_C: Array) -> AgentInfo:
        top = np.argsort(-shares_C, kind="stable")[:3]
        return AgentInfo(
            name=f"agent-{agent}",
            backbone=self._world.family_of(agent),
            num_parameters=0,
            num_trainable=0,
            num_train=0,
            num_validation=0,
            top_categories=tuple(CATEGORIES[category] for category in top),
        )

    def judged(self, samples: list[SampleRow]) -> list[SampleRow]:
        """Return the samples: formulas answer nothing."""
        return samples

    def scores(self, rounds: list[RoundRow], samples: list[SampleRow]) -> Scores:
        """Return the final Pass@1, its interval over agents, and the agents' data shares."""
        scores_N, seed = self._world.pass_at_1(), self.settings.seed
        honest: dict[int, Score] = {}
        if scores_N is not None:
            honest = honest_agents(self.byzantine, scores_N, seed=seed)
        return Scores(
            pass_at=_score(scores_N, seed),
            own_pass_at=_score(self._world.own_pass_at_1(), seed),
            honest_pass_at=honest,
            privacy=Privacy(profiles=self.privacy.spent(num_releases(rounds)), training=None),
            data_shares=tuple(map(tuple, self._world.shares_NC.tolist())),
        )


def _score(scores_N: Array | None, seed: int) -> dict[int, Score]:
    """Return Pass@1 with its interval over agents, by k; empty where the world has none."""
    if scores_N is None:
        return {}
    interval = bootstrap_mean(scores_N, rng=derive_rng(seed, "bootstrap"))
    return {1: Score.of(interval, scores_N.tolist())}
