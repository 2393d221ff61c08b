"""Runs of the synthetic federation under faults, with what the matchmaker chose and learned."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.federation.synthetic.skills import SkillWorld, Synthetic
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.regret import Regret
from knexa.matchmaking.rewards import LocalLoss
from knexa.profiles.build import Paper32
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker

SEED, NUM_ROUNDS = 7, 6
RAW = LocalLoss(normalization="none")


@dataclass
class Diary:
    """What a policy proposed (contexts by directive) and what it was taught, in order."""

    contexts: dict[str, np.ndarray] = field(default_factory=dict)
    learned: list[tuple[np.ndarray, float]] = field(default_factory=list)


class NotingLinUCB(LinUCB):
    """LinUCB that notes into a diary which outlives it."""

    diary: Diary

    def propose(self, view):
        plan = super().propose(view)
        for directive in plan:
            (self.diary.contexts[directive.id],) = view.contexts_of([directive.pair])
        return plan

    def learn(self, contexts_Kd, rewards_K):
        self.diary.learned += zip(contexts_Kd.copy(), rewards_K.tolist(), strict=True)
        super().learn(contexts_Kd, rewards_K)


class KilledError(Exception):
    """What a test raises at the end of a round."""


class KilledTracker(Tracker):
    """Stops a run at the end of a round, before its checkpoint."""

    kill_in: int | None = None

    def end_round(self, round: int) -> dict[str, float]:
        if round == self.kill_in:
            raise KilledError
        return super().end_round(round)


def run(
    path: Path,
    faults: Faults,
    sync: Sync,
    *,
    num_agents: int = 5,
    num_rounds: int = NUM_ROUNDS,
    mutual: bool = False,
    kill_in: int | None = None,
    checkpoint_every: int = NUM_ROUNDS,
) -> SimpleNamespace:
    """Run, or go on with, a federation; return its rows, its diary and its last checkpoint."""
    settings: Any = SimpleNamespace(seed=SEED, reward=RAW, profile=Paper32())
    world = SkillWorld(Synthetic(num_rounds=num_rounds, num_agents=num_agents), settings)
    diary = Diary()

    def rebuild() -> CPM:
        policy = NotingLinUCB()
        policy.diary = diary
        return CPM(
            matchmaker=policy,
            context=Interaction(),
            matching=Exact(),
            reward=RAW,
            protocol=world.protocol_name,
            num_profile_features=32,
            mutual=mutual,
        )

    cpm = rebuild()
    scheduler = EventScheduler(faults=faults, sync=sync, seed=SEED, num_agents=num_agents)
    with RunDirectory(path) as run_dir:
        checkpoint = run_dir.rewind()
        if checkpoint:
            restore(world, cpm, scheduler, checkpoint[1])
        tracker = KilledTracker(run_dir)
        tracker.kill_in = kill_in
        run_rounds(
            world,
            cpm,
            scheduler,
            tracker,
            seed=SEED,
            num_rounds=num_rounds,
            regret=Regret(every=2),
            last_round=checkpoint[0] if checkpoint else None,
            checkpoint_every=checkpoint_every,
            rebuild=rebuild,
        )
        rows = {
            "rounds": run_dir.read_rows(RoundRow),
            "exchanges": run_dir.read_rows(ExchangeRow),
            "regret": run_dir.read_rows(RegretRow),
        }
        found = run_dir.latest_checkpoint()
        assert found is not None
        files = {f.name: f.read_bytes() for f in sorted(found[1].iterdir()) if f.is_file()}
    return SimpleNamespace(**rows, diary=diary, checkpoint=files)
