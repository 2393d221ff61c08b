"""The round loop on a world of formulas: what it records, and what an interruption changes."""

from pathlib import Path

import numpy as np
import pytest

from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.federation.world import Exchange, Package, Trial
from knexa.matchmaking.answers import NO_TOPICS
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.regret import Regret
from knexa.matchmaking.rewards import LocalLoss
from knexa.matchmaking.round_view import Probe
from knexa.tracking.rows import AgentRow, ExchangeRow, RegretRow, RoundRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker
from knexa.tracking.tree_file import load_tree, save_tree

NUM_AGENTS, NUM_ROUNDS, SEED = 5, 6, 11


class RoundKilledError(Exception):
    """What a test raises in the middle of a round."""


class FormulaWorld:
    """Agents are numbers; a student moves half-way to its teacher; the reward is its gain."""

    num_agents = NUM_AGENTS
    topics = NO_TOPICS

    def __init__(self, fail_in_round: int | None = None) -> None:
        self.skills = np.linspace(0.1, 0.9, NUM_AGENTS)
        self.fail_in_round = fail_in_round
        self.probed: list[int] = []

    def begin_round(self, round_number, active_N=None):
        self.skills = self.skills + 0.01 * np.sin(round_number + np.arange(NUM_AGENTS))

    def profiles(self):
        profiles = np.zeros((NUM_AGENTS, 32))
        profiles[:, 8] = self.skills
        profiles[:, 20:] = np.eye(NUM_AGENTS, 12)
        return profiles

    def _gains(self):
        return 0.5 * (self.skills[:, None] - self.skills[None, :])

    def probe(self, round_number, *, by_topic=False):
        self.probed.append(round_number)
        gains = self._gains()
        np.fill_diagonal(gains, np.nan)
        return Probe(rewards=gains, no_teacher_N=np.zeros(NUM_AGENTS))

    def update_tokens(self):
        return [100] * NUM_AGENTS

    def packages(self, round_number, plan):
        package = Package(
            parts=(b"formula",), kilobytes=1.5, tokens_generated=7, items_sent=3, guardrail={}
        )
        return {each.id: {each.teachers[0]: package} for each in plan}

    def try_learning(self, round_number, plan):
        return [Trial(directive=each, learning_tokens={each.students[0]: 100}) for each in plan]

    def commit(self, round_number, trials):
        if round_number == self.fail_in_round:
            raise RoundKilledError
        gains, exchanges = self._gains(), []
        for directive in [trial.directive for trial in trials]:
            teacher, student = directive.pair
            self.skills[student] += gains[teacher, student]
            exchanges.append(
                Exchange(
                    directive=directive,
                    reward=float(gains[teacher, student]),
                    kilobytes=1.5,
                    items_sent=3,
                    items_kept=2,
                    guardrail={"blocked": 0, "redacted": 0, "counted": 1},
                )
            )
        return exchanges

    def rows(self, round_number, exchanges):
        return [
            AgentRow(
                round=round_number,
                agent=i,
                name=f"a{i}",
                backbone="formula",
                pass_at_1_greedy=float(skill),
                own_pass_at_1_greedy=None,
                tokens_trained=0,
                tokens_generated=0,
                optimizer_steps=0,
                kilobytes_received=0.0,
            )
            for i, skill in enumerate(self.skills)
        ]

    def final_samples(self):
        return []

    def save(self, folder: Path):
        save_tree(folder / "world.safetensors", {"skills": self.skills})

    def load(self, folder: Path):
        self.skills = load_tree(folder / "world.safetensors")["skills"].copy()


def _cpm(policy, num_pairs=None):
    return CPM(
        matchmaker=policy,
        context=Interaction(),
        matching=Exact(),
        reward=LocalLoss(),
        protocol="akd",
        num_profile_features=32,
        num_pairs=num_pairs,
    )


def _run(path, world, *, policy=None, regret=2, num_pairs=None):
    with RunDirectory(path) as run_dir:
        cpm = _cpm(policy or LinUCB(), num_pairs)
        scheduler = EventScheduler(faults=Faults(), sync=Sync(), seed=SEED, num_agents=NUM_AGENTS)
        checkpoint = run_dir.latest_checkpoint()
        run_dir.truncate_after(checkpoint[0] if checkpoint else -1)
        if checkpoint:
            restore(world, cpm, scheduler, checkpoint[1])
        run_rounds(
            world,
            cpm,
            scheduler,
            Tracker(run_dir),
            seed=SEED,
            num_rounds=NUM_ROUNDS,
            regret=Regret(every=regret),
            last_round=checkpoint[0] if checkpoint else None,
        )
        return {
            "rounds": run_dir.read_rows(RoundRow),
            "exchanges": run_dir.read_rows(ExchangeRow),
            "regret": run_dir.read_rows(RegretRow),
        }


def test_rows_follow_the_contract(tmp_path):
    rows = _run(tmp_path / "run", FormulaWorld())
    assert [(row.round, row.agent) for row in rows["rounds"]] == [
        (t, i) for t in range(NUM_ROUNDS + 1) for i in range(NUM_AGENTS)
    ]
    assert [row.round for row in rows["regret"]] == [1, 3, 5]
    per_round = [sum(row.round == t for row in rows["exchanges"]) for t in range(1, 7)]
    assert per_round == [NUM_AGENTS // 2] * NUM_ROUNDS
    for row in rows["exchanges"]:
        assert row.protocol == "akd"
        assert len(row.teachers) == len(row.students) == 1


@pytest.mark.parametrize("failing_round", [1, 2, 5])
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path, failing_round):
    _run(tmp_path / "whole", FormulaWorld())
    with pytest.raises(RoundKilledError):
        _run(tmp_path / "cut", FormulaWorld(fail_in_round=failing_round))
    _run(tmp_path / "cut", FormulaWorld())
    for name in ("rounds", "exchanges", "regret"):
        whole = (tmp_path / "whole" / f"{name}.jsonl").read_bytes()
        assert whole
        assert (tmp_path / "cut" / f"{name}.jsonl").read_bytes() == whole


@pytest.mark.parametrize("num_pairs", [None, 1])
def test_an_oracle_is_probed_every_round_and_has_no_regret(tmp_path, num_pairs):
    world = FormulaWorld()
    rows = _run(tmp_path / "run", world, policy=Oracle(), regret=3, num_pairs=num_pairs)
    assert world.probed == list(range(1, NUM_ROUNDS + 1))
    assert [row.round for row in rows["regret"]] == [1, 4]
    for row in rows["regret"]:
        assert row.chosen == row.best > row.random


def test_a_policy_that_needs_no_probe_gets_none(tmp_path):
    world = FormulaWorld()
    _run(tmp_path / "run", world, regret=0)
    assert world.probed == []
