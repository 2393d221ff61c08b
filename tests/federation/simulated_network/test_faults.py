"""The fault schedule, packages on their way, and every fault at once on language models."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.cli.commands import run_command_line
from knexa.cli.exit_codes import EXIT_USER_ERROR
from knexa.exchange.package import KnowledgePackage, PackageError, TextItem, decode, encode
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.envelope import seal, unseal
from knexa.federation.simulated_network.faults import Copy, Faults, Schedule
from knexa.federation.simulated_network.in_flight import AwaitedPackages, send
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.federation.summary import costs_of
from knexa.federation.world import Package
from knexa.matchmaking import fedavg
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.regret import Regret
from knexa.protocols.akd import AKD
from knexa.protocols.fedavg import AdapterAveraging
from knexa.tracking.rows import ExchangeRow, RoundRow
from knexa.tracking.run_directory import RunDirectory
from tests.federation.llm import small_worlds as small
from tests.federation.simulated_network.faulty_runs import KilledError, KilledTracker

# The schedule


def schedule(num_agents: int = 200, seed: int = 3, **rates: Any) -> Schedule:
    return Schedule(Faults(**rates), seed, num_agents)


def test_without_faults_everybody_is_there_and_everything_arrives():
    clean = schedule(num_agents=3)
    assert clean.present(5).all()
    assert clean.leaving(5) == frozenset()
    assert clean.copies(5, 1, 0) == (Copy(),)
    assert clean.speeds().tolist() == [1.0] * 3


def test_who_leaves_comes_back_in_time():
    churn = schedule(dropout=0.05, max_absence=3, abrupt=0.5)
    present_TN = np.array([churn.present(round) for round in range(1, 40)])
    away = 1.0 - present_TN[5:].mean()
    assert 0.05 < away < 0.13  # 5 % a round, two rounds on average
    # Nine rounds without an agent would be three departures in a row or more.
    absences = [run for agent in present_TN.T for run in _runs_of(~agent)]
    assert 1 <= np.median(absences) <= 3
    assert max(absences) <= 9


def _runs_of(flags) -> list[int]:
    ends = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return (ends[1::2] - ends[::2]).tolist()


def test_abrupt_leavers_are_there_in_the_round_that_they_leave_in():
    sudden, early = schedule(dropout=0.1, abrupt=1.0), schedule(dropout=0.1, abrupt=0.0)
    assert len(sudden.leaving(1)) > 0
    assert sudden.present(1).all()
    assert not sudden.present(2)[sorted(sudden.leaving(1))].any()
    assert not early.present(1).all()
    assert early.leaving(1) == frozenset()


def test_late_joiners_come_by_their_round_and_stay():
    late = schedule(late_joiners=0.5, joined_by=4)
    present_TN = np.array([late.present(round) for round in range(1, 8)])
    assert 60 < present_TN[0].sum() < 140
    assert present_TN[3:].all()
    assert (np.diff(present_TN.astype(int), axis=0) >= 0).all()


def test_rates_of_packages_are_the_configured_ones():
    rates = {"lost": 0.1, "duplicated": 0.2, "reordered": 0.3, "truncated": 0.15, "corrupted": 0.25}
    network, counts, total = schedule(**rates), Counter(), 4000
    for round in range(20):
        for teacher in range(200):
            copies = network.copies(round, teacher, 0)
            counts["duplicated"] += len(copies) == 2
            first = copies[0]
            counts["lost"] += first.lost
            counts["reordered"] += first.delay_s > 0
            counts["truncated"] += first.truncated is not None
            counts["corrupted"] += bool(first.flips)
    for kind, rate in rates.items():
        assert counts[kind] / total == pytest.approx(rate, abs=0.03)


def test_the_schedule_is_the_seeds_alone():
    torture = {"dropout": 0.2, "lost": 0.3, "duplicated": 0.5, "corrupted": 0.3}
    one, same, other = schedule(**torture), schedule(**torture), schedule(seed=4, **torture)
    late_first = [same.copies(round, 0, 0) for round in (9, 1)][::-1]
    assert [one.copies(round, 0, 0) for round in (1, 9)] == late_first
    assert np.array_equal(one.present(7), same.present(7))
    assert not np.array_equal(one.present(7), other.present(7))


# Packages on their way


def test_an_envelope_opens_to_what_was_sealed():
    parts = (b"text", b"", bytes(range(256)))
    opened = unseal(seal("r1-0/2", parts))
    assert (opened.address, opened.parts) == ("r1-0/2", parts)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), cut=st.floats(0, 0.999))
def test_no_changed_or_cut_envelope_opens(place, mask, cut):
    sealed = seal("r1-0/2", (b'{"completion":"return 1"}', b"\0" * 40))
    for copy in (Copy(flips=((place, mask),)), Copy(truncated=cut)):
        with pytest.raises(PackageError, match="digest"):
            unseal(copy.carry(sealed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200))
def test_an_envelope_of_anything_is_refused(data):
    with pytest.raises(PackageError):
        unseal(data)


def test_the_digest_tells_what_the_format_cannot():
    item = TextItem(task_id="t", completion="return 1")
    data = encode(KnowledgePackage(sender="a", round=1, items=(item,)))
    place = data.index(b"return 1") + 7
    changed = Copy(flips=((place / len(data) + 1e-9, ord("1") ^ ord("7")),)).carry(data)
    assert decode(changed).items[0].completion == "return 7"  # valid, and another answer
    sealed = seal("r1-0/0", (data,))
    changed = sealed.replace(data, changed)
    with pytest.raises(PackageError, match="digest"):
        unseal(changed)


PACKAGE = Package(
    parts=(b"text",), kilobytes=10.0, tokens_generated=5, items_sent=2, guardrail={"blocked": 0}
)


def sent(*copies: Copy, awaited: AwaitedPackages | None = None):
    return send(
        PACKAGE,
        copies,
        AwaitedPackages() if awaited is None else awaited,
        directive_id="r1-0",
        teacher=2,
        student=1,
        sent_s=10.0,
        travel_s=1.0,
        timeout_s=60.0,
    )


DAMAGED = Copy(flips=((0.5, 1),))


@pytest.mark.parametrize(
    ("copies", "arrived", "known", "faults"),
    [
        ([Copy()], 11.0, 11.0, {}),
        ([Copy(delay_s=5.0)], 16.0, 16.0, {"reordered": 1}),
        ([Copy(lost=True)], None, 70.0, {"lost": 1}),
        ([DAMAGED], None, 11.0, {"corrupted": 1, "refused": 1}),
        ([Copy(truncated=0.5)], None, 11.0, {"truncated": 1, "refused": 1}),
        ([Copy(lost=True), Copy(delay_s=3.0, duplicate=True)], 14.0, 14.0, {"lost": 1}),
        ([DAMAGED, Copy(delay_s=3.0, duplicate=True)], 14.0, 14.0, {"corrupted": 1, "refused": 1}),
    ],
)
def test_a_package_comes_with_its_first_sound_copy(copies, arrived, known, faults):
    outcome = sent(*copies)
    assert (outcome.arrived_s, outcome.known_s, outcome.faults) == (arrived, known, faults)


def test_a_copy_is_taken_once_and_never_after_its_directive_is_over():
    awaited = AwaitedPackages()
    outcome = sent(Copy(), Copy(delay_s=9.0, duplicate=True), awaited=awaited)
    (late,) = outcome.late_copies
    assert late.arrives_s == 20.0
    assert not awaited.take(late.address, late.digest)
    awaited.close("r1-0")
    assert not awaited.take(late.address, late.digest)
    assert awaited.digests == {}


# Language models


TORTURE = Faults(
    dropout=0.1,
    max_absence=1,
    late_joiners=0.3,
    joined_by=2,
    stragglers=0.5,
    straggler_factor=8.0,
    slow_links=0.5,
    lost=0.1,
    duplicated=0.8,
    reordered=0.5,
    truncated=0.2,
    corrupted=0.2,
    max_delay_s=3.0,
    timeout_s=5.0,
    restarts=(1, 3),
)


ASYNC = Sync(mode="async", quorum=0.5, timer_s=4.0)
NUM_ROUNDS = 7


def run_models(folder: Path, seed: int, kill_in: int | None = None) -> list[Any]:
    """Run small agents, or go on with them; return the rows of rounds and exchanges."""
    with RunDirectory(folder) as run_dir:
        world = small.world(AKD(num_steps=1))
        cpm = small.cpm(LinUCB(), world)
        scheduler = EventScheduler(faults=TORTURE, sync=ASYNC, seed=seed, num_agents=3)
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
            seed=small.SEED,
            num_rounds=NUM_ROUNDS,
            regret=Regret(every=0),
            last_round=checkpoint[0] if checkpoint else None,
            rebuild=lambda: small.cpm(LinUCB(), world),
        )
        return run_dir.read_rows(RoundRow), run_dir.read_rows(ExchangeRow)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The folder and the rows of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("torture") / "whole"
    return folder, run_models(folder, seed=14)


@pytest.mark.slow
def test_language_models_live_through_every_fault_at_once(tmp_path, whole_run):
    rounds, exchanges = [], []
    # Between the two seeds every kind of fault strikes.
    for more_rounds, more_exchanges in (whole_run[1], run_models(tmp_path / "run", seed=8)):
        rounds += more_rounds
        exchanges += more_exchanges
        learned = {(row.round, row.agent) for row in more_rounds if row.learn_loss is not None}
        assert learned == {
            (row.round, student)
            for row in more_exchanges
            if row.outcome in ("delivered", "late")
            for student in row.students
        }
    assert {row.outcome for row in exchanges} == {"delivered", "late", "refused", "dropped"}
    befell = costs_of(rounds, exchanges).faults
    assert befell.keys() == {
        *("absent", "busy", "corrupted", "duplicated", "left", "lost"),
        *("refused", "reordered", "truncated"),
    }


@pytest.mark.slow
def test_language_models_resume_with_an_exchange_under_way(tmp_path, whole_run):
    whole_folder, whole = whole_run
    late = next(row for row in whole[1] if row.outcome == "late")
    with pytest.raises(KilledError):  # what is late has to be computed again
        run_models(tmp_path / "cut", seed=14, kill_in=late.issued_round + 1)
    assert run_models(tmp_path / "cut", seed=14) == whole
    checkpoints = [
        RunDirectory(folder).latest_checkpoint()[1] / "agents"
        for folder in (whole_folder, tmp_path / "cut")
    ]
    for mine, theirs in zip(*(sorted(folder.iterdir()) for folder in checkpoints), strict=True):
        assert mine.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_what_a_lost_package_weighed_is_counted_where_the_others_of_its_directive_came(tmp_path):
    world = small.world(AdapterAveraging())
    sent, came = {}, []
    packages, commit = world.packages, world.commit

    def noting_packages(round_number, plan):
        made = packages(round_number, plan)
        sent.update(made[plan[0].id])
        return made

    def noting_commit(round_number, trials):
        came.extend(commit(round_number, trials))
        return came

    world.packages, world.commit = noting_packages, noting_commit
    with RunDirectory(tmp_path / "run") as run_dir:
        run_rounds(
            world,
            small.cpm(fedavg.FedAvg(), world),
            EventScheduler(faults=Faults(lost=0.5), sync=Sync(), seed=1, num_agents=3),
            KilledTracker(run_dir),
            seed=small.SEED,
            num_rounds=1,
            regret=Regret(every=0),
            last_round=None,
        )
        (row,) = run_dir.read_rows(ExchangeRow)
    (lost,) = set(sent).difference(row.teachers)
    assert row.outcome == "delivered"
    assert row.kilobytes == pytest.approx(came[0].kilobytes + sent[lost].kilobytes)


# As a user types it


@pytest.mark.parametrize(
    ("federation", "sync"),
    [
        ("synthetic", "async"),
        ("synthetic/linear", "lockstep"),
        ("synthetic/answers", "async"),
    ],
)
def test_a_run_under_torture_says_what_befell_it(federation, sync, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["federation/faults=torture", f"federation.sync={sync}", "logger=none"]
    short = ["federation.num_rounds=8", "federation.num_agents=7"]
    assert run_command_line([f"federation={federation}", *overrides, *short]) == 0
    (done,) = Path("outputs").rglob("DONE")
    summary = json.loads((done.parent / "summary.json").read_text())
    assert {"absent", "left", "refused"} <= summary["faults"].keys()
    assert sum(summary["directives"].values()) == summary["exchanges"]
    assert summary["clock_s"] > 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["federation/faults=tortur"], "federation/faults"),
        (["federation.faults.lost=1.5"], "federation.faults.lost=1.5: must be a number"),
        (["federation.faults.restarts=[0]"], r"federation.faults.restarts[0]=0"),
        (["federation.sync=asinc"], "federation.sync=asinc (did you mean async?)"),
        (["federation.quorum=0"], "federation.quorum=0"),
        (["federation.sync=async", "matchmaker=fedid"], "waits for everybody"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(overrides, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run_command_line(overrides) == EXIT_USER_ERROR
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
