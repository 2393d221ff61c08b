"""Routed exchange under faults: several directives teach a student, and it learns once a round."""

from pathlib import Path
from typing import Any, Literal

import pytest

from knexa.cli.organisation import organisation_settings
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.plans import Selection
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
    folder: Path,
    selection: Selection,
    faults: Faults,
    sync: Sync,
    kill_in: int | None = None,
    *,
    ask: Literal["all", "missing"] = "all",
    every: int = 1,
) -> dict[str, bytes]:
    """Run small agents, or go on with them; return the files of the run."""
    world = small.world(AKDVerified(num_steps=1, ask=ask), reward=NewAnswers())

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
            regret=Regret(every=every),
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
    ("name", "sync", "selection", "ask"),
    [
        ("churn", Sync(mode="async", timer_s=4.0), Routed(), "all"),
        ("churn", Sync(mode="async", timer_s=4.0), Routed(), "missing"),
        ("lossy", Sync(), Routed(budget=6), "missing"),
        ("slow", Sync(mode="async", timer_s=4.0), OneToMany(), "all"),
    ],
    ids=lambda value: str(getattr(value, "mode", getattr(value, "name", value))),
)
def test_routed_agents_live_through_faults_and_a_kill(tmp_path, name, sync, selection, ask):
    whole = run(tmp_path / "whole", selection, profile(name), sync, ask=ask)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", selection, profile(name), sync, kill_in=2, ask=ask)
    assert run(tmp_path / "cut", selection, profile(name), sync, ask=ask) == whole

    exchanges, rounds = (rows(tmp_path / "whole", kind) for kind in (ExchangeRow, RoundRow))
    came = [row for row in exchanges if row.outcome in ("delivered", "late")]
    assert came
    assert all(row.answers_new is not None for row in came)
    assert all(row.reward_raw is None for row in exchanges if row not in came)
    learned = {(row.round, row.agent) for row in rounds if row.learn_loss is not None}
    assert learned == {(row.round, row.students[0]) for row in came}


def test_asking_for_what_is_missing_costs_less_and_brings_as_much(tmp_path):
    still = Faults()
    found = {}
    for ask in ("all", "missing"):
        run(tmp_path / ask, Routed(), still, Sync(), ask=ask)
        exchanges, rounds = (rows(tmp_path / ask, kind) for kind in (ExchangeRow, RoundRow))
        firsts = [row.answers_new for row in exchanges if row.round == 1]
        asked = [sum(r.answers_asked for r in exchanges if r.round == n) for n in (1, 2, 3)]
        spent = [
            sum(getattr(row, cost) for row in rounds)
            for cost in ("kilobytes_received", "tokens_generated")
        ]
        found[ask] = firsts, asked, spent
    (firsts, asked, spent), (frugal_firsts, frugal_asked, frugal_spent) = found.values()
    assert sum(firsts) > 0
    assert (frugal_firsts, frugal_asked[0]) == (firsts, asked[0])
    assert frugal_asked[1] < asked[1]
    assert all(less < more for less, more in zip(frugal_spent, spent, strict=True))


@pytest.mark.parametrize("ask", ["all", "missing"])
def test_what_is_measured_changes_nothing_that_happens(tmp_path, ask):
    measured, unmeasured = (
        run(tmp_path / str(every), Routed(), Faults(), Sync(), ask=ask, every=every)
        for every in (1, 0)
    )
    assert "regret.jsonl" in measured
    happened = {name for name in measured if not name.endswith(("regret.jsonl", "manifest.json"))}
    assert {"rounds.jsonl", "exchanges.jsonl", "checkpoint/agents/0.safetensors"} <= happened
    assert all(measured[name] == unmeasured[name] for name in happened)
