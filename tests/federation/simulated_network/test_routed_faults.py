"""Routed exchange under faults: several directives teach a student, and it learns once a round."""

from pathlib import Path
from typing import Any

import pytest

from knexa.cli.organisation import organisation_settings
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.matchmaking.base import Selection
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.regret import Regret
from knexa.matchmaking.rewards import NewAnswers
from knexa.matchmaking.selections import OneToMany, Routed
from knexa.matchmaking.topic_contexts import TopicPast
from knexa.profiles.build import Paper32
from knexa.protocols.akd_verified import AKDVerified
from knexa.tracking.rows import ExchangeRow, RoundRow
from knexa.tracking.run_directory import RunDirectory
from tests.federation.llm import small_worlds as small
from tests.federation.simulated_network.faulty_runs import KilledError, KilledTracker

pytestmark = pytest.mark.slow
NUM_ROUNDS = 3
TIMES = {"timings.jsonl", "environment.json", ".lock"}


@pytest.fixture(autouse=True)
def some_answers_pass(monkeypatch):
    small.let_some_answers_pass(monkeypatch)


def profile(name: str) -> Faults:
    return organisation_settings([f"federation/faults={name}"]).federation.faults


def run(
    folder: Path, selection: Selection, faults: Faults, sync: Sync, kill_in: int | None = None
) -> dict[str, bytes]:
    """Run small agents, or go on with them; return the files of the run."""
    world = small.world(AKDVerified(num_steps=1), reward=NewAnswers())

    def cpm() -> CPM:
        return CPM(
            matchmaker=LinUCB(regularization=0.1, exploration=0.3),
            context=TopicPast(),
            matching=selection,
            reward=world.reward,
            protocol=world.protocol_name,
            num_profile_features=len(Paper32.feature_names),
            topics=world.topics,
        )

    matchmaker = cpm()
    scheduler = EventScheduler(faults=faults, sync=sync, seed=3, num_agents=3)
    with RunDirectory(folder) as run_dir:
        checkpoint = run_dir.rewind()
        if checkpoint:
            restore(world, matchmaker, scheduler, checkpoint[1])
        tracker = KilledTracker(run_dir)
        tracker.kill_in = kill_in
        run_rounds(
            world,
            matchmaker,
            scheduler,
            tracker,
            seed=small.SEED,
            num_rounds=NUM_ROUNDS,
            regret=Regret(every=1),
            last_round=checkpoint[0] if checkpoint else None,
            rebuild=cpm,
        )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.name not in TIMES}


def rows(folder: Path, kind: Any) -> list[Any]:
    with RunDirectory(folder) as run_dir:
        found: list[Any] = run_dir.read_rows(kind)
    return found


@pytest.mark.parametrize(
    ("name", "sync", "selection", "kill_in"),
    [
        ("churn", Sync(mode="async", timer_s=4.0), Routed(), 2),
        ("lossy", Sync(), Routed(budget=6), 2),
        ("slow", Sync(mode="async", timer_s=4.0), OneToMany(), 2),
    ],
    ids=lambda value: str(getattr(value, "mode", getattr(value, "name", value))),
)
def test_routed_agents_live_through_faults_and_a_kill(tmp_path, name, sync, selection, kill_in):
    whole = run(tmp_path / "whole", selection, profile(name), sync)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", selection, profile(name), sync, kill_in)
    assert run(tmp_path / "cut", selection, profile(name), sync) == whole

    exchanges, rounds = (rows(tmp_path / "whole", kind) for kind in (ExchangeRow, RoundRow))
    came = [row for row in exchanges if row.outcome in ("delivered", "late")]
    assert came
    assert all(row.answers_new is not None for row in came)
    assert all(row.reward_raw is None for row in exchanges if row not in came)
    learned = {(row.round, row.agent) for row in rounds if row.learn_loss is not None}
    assert learned == {(row.round, row.students[0]) for row in came}
