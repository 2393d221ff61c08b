"""Asynchronous rounds and faults on the synthetic federation: what holds under every schedule."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knexa.agents.exchange_protocol import NOTHING_FOUND
from knexa.federation.simulated_network.faults import Faults, Schedule
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.federation.world import Package, Trial
from knexa.matchmaking.plans import Directive
from tests.federation.simulated_network import faulty_runs

RATES = st.sampled_from([0.0, 0.1, 0.4, 1.0])
FAULTS = st.builds(
    Faults,
    dropout=st.sampled_from([0.0, 0.1, 0.4]),
    max_absence=st.integers(1, 3),
    abrupt=RATES,
    late_joiners=st.sampled_from([0.0, 0.4]),
    stragglers=RATES,
    straggler_factor=st.sampled_from([1.0, 3.0, 30.0]),
    slow_links=RATES,
    slow_link_factor=st.sampled_from([2.0, 300.0]),
    lost=st.sampled_from([0.0, 0.1, 0.5]),
    duplicated=RATES,
    reordered=RATES,
    truncated=st.sampled_from([0.0, 0.2]),
    corrupted=st.sampled_from([0.0, 0.2]),
    max_delay_s=st.sampled_from([1.0, 40.0]),
    restarts=st.sampled_from([(), (2,), (1, 2, 3, 4, 5, 6)]),
)
ASYNC = st.builds(
    Sync,
    mode=st.just("async"),
    quorum=st.sampled_from([0.1, 0.5, 1.0]),
    timer_s=st.sampled_from([0.5, 10.0, 1000.0]),
)
SYNCS = st.one_of(st.just(Sync()), ASYNC)

# A run takes some tens of milliseconds, by how busy the machine is: no deadline.
examples = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def fresh_run(faults, sync, **more):
    with TemporaryDirectory() as folder:
        return faulty_runs.run(Path(folder) / "run", faults, sync, **more)


def agents_of(row):
    return {*row.teachers, *row.students}


@examples
@given(faults=FAULTS, sync=SYNCS, num_agents=st.integers(1, 6))
def test_every_directive_ends_once_and_its_feedback_is_learned_with_its_own_context(
    faults, sync, num_agents
):
    done = fresh_run(faults, sync, num_agents=num_agents)
    assert sorted(row.id for row in done.exchanges) == sorted(done.diary.contexts)
    answered = [row for row in done.exchanges if row.outcome in ("delivered", "late")]
    others = [row for row in done.exchanges if row not in answered]
    assert {row.outcome for row in others} <= {"lost", "refused", "dropped"}
    assert all(row.reward_raw is None for row in others)
    assert len(done.diary.learned) == len(answered)
    for row, (context_d, reward) in zip(answered, done.diary.learned, strict=True):
        assert reward == row.reward_raw
        assert np.array_equal(context_d, done.diary.contexts[row.id])


@examples
@given(faults=FAULTS, sync=SYNCS, num_agents=st.integers(2, 7))
def test_nobody_is_matched_while_away_or_busy(faults, sync, num_agents):
    done = fresh_run(faults, sync, num_agents=num_agents)
    free = {(row.round, row.agent): row.present and not row.busy for row in done.rounds}
    for row in done.exchanges:
        assert all(free[row.issued_round, agent] for agent in agents_of(row))
    check_that_nobody_is_in_two_exchanges(done, num_agents)


def test_a_teacher_that_left_and_came_back_is_busy_until_its_exchange_is_over():
    faults = Faults(dropout=0.3, max_absence=1, abrupt=0.0, stragglers=0.5, straggler_factor=30.0)
    sync = Sync(mode="async", quorum=1.0, timer_s=4.0)
    done = fresh_run(faults, sync, num_agents=6, num_rounds=40, checkpoint_every=40)
    check_that_nobody_is_in_two_exchanges(done, 6)


class AgentTwoLeaves(Schedule):
    def present(self, round_number):
        return np.array([True, True, round_number == 1, True])


def two_rounds(pairs, tokens, kilobytes=None):
    """Send (teacher, student) directives in round 1, and begin round 2, which agent 2 misses."""
    scheduler = EventScheduler(faults=Faults(), sync=Sync(mode="async"), seed=0, num_agents=4)
    scheduler.fault_schedule = AgentTwoLeaves(Faults(), 0, 4)
    plan = tuple(
        Directive(id=f"r1-{place}", teachers=(j,), students=(i,), protocol="akd")
        for place, (j, i) in enumerate(pairs)
    )
    packages = {
        directive.id: {
            j: Package(
                parts=(b"text",),
                kilobytes=(kilobytes or {}).get(j, 1.0),
                tokens_generated=1,
                items_sent=1,
                guardrail=NOTHING_FOUND,
            )
            for j in directive.teachers
        }
        for directive in plan
    }
    attendance = scheduler.begin_round(1)
    sent = scheduler.send(1, plan, attendance, packages=packages, update_tokens=[0] * 4)
    trials = [Trial(directive=d, learning_tokens={i: tokens[i] for i in d.students}) for d in plan]
    scheduler.schedule(sent, trials)
    assert not scheduler.end_round(attendance, last=False).ended
    return scheduler, scheduler.begin_round(2)


def test_what_waits_for_an_agent_that_leaves_takes_effect_before_others_are_free_again():
    # Agent 0 learns at once, agent 2 for days.
    scheduler, attendance = two_rounds([(1, 0), (1, 2)], {0: 1, 2: 10**9})
    assert attendance.free_N.tolist() == [False, False, False, True]
    ended = scheduler.end_round(attendance, last=False).ended
    assert [(f.directive.students, f.outcome) for f in ended] == [
        ((0,), "delivered"),
        ((2,), "dropped"),
    ]
    assert scheduler.begin_round(3).free_N.tolist() == [True, True, False, True]


def test_whoever_only_waited_for_an_agent_that_leaves_is_free_though_others_are_busy():
    # Agent 2's packages travel for days, and agent 0 learns from agent 1's for as long.
    pairs, forever = [(1, 0), (2, 0), (2, 3)], 10**9
    _, attendance = two_rounds(pairs, {0: forever, 3: 1}, kilobytes={2: float(forever)})
    assert attendance.free_N.tolist() == [False, False, False, True]


def check_that_nobody_is_in_two_exchanges(done, num_agents):
    for agent in range(num_agents):
        mine = sorted(
            (row.issued_s, row.finished_s) for row in done.exchanges if agent in agents_of(row)
        )
        assert all(end <= begin for (_, end), (begin, _) in pairwise(mine))


@examples
@given(faults=FAULTS, sync=SYNCS, num_agents=st.integers(2, 6))
def test_time_only_moves_forward_and_late_means_a_later_round(faults, sync, num_agents):
    done = fresh_run(faults, sync, num_agents=num_agents)
    clocks = [row.clock_s for row in done.rounds]
    assert clocks == sorted(clocks)
    ends = {row.round: row.clock_s for row in done.rounds}
    for row in done.exchanges:
        assert row.issued_s < row.finished_s <= ends[row.round] or (row.outcome == "dropped")
        assert (row.outcome == "late") <= (row.issued_round < row.round)
        assert (row.outcome == "delivered") <= (row.issued_round == row.round)


@examples
@given(faults=FAULTS, sync=SYNCS, kill_in=st.integers(1, 6), mutual=st.booleans())
def test_a_run_killed_in_any_round_resumes_to_the_same(faults, sync, kill_in, mutual):
    whole = fresh_run(faults, sync, mutual=mutual, checkpoint_every=2)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        options = {"mutual": mutual, "checkpoint_every": 2}
        with pytest.raises(faulty_runs.KilledError):
            faulty_runs.run(path, faults, sync, kill_in=kill_in, **options)
        cut = faulty_runs.run(path, faults, sync, **options)
    assert (cut.rounds, cut.exchanges, cut.regret) == (whole.rounds, whole.exchanges, whole.regret)
    assert cut.checkpoint == whole.checkpoint


@examples
@given(faults=FAULTS, sync=SYNCS)
def test_a_restart_of_the_matchmaker_is_invisible(faults, sync):
    every_round = replace(faults, restarts=tuple(range(1, faulty_runs.NUM_ROUNDS + 1)))
    restarted = fresh_run(every_round, sync)
    whole = fresh_run(replace(faults, restarts=()), sync)
    assert restarted.exchanges == whole.exchanges
    assert restarted.rounds == whole.rounds
    assert restarted.checkpoint == whole.checkpoint


@examples
@given(stragglers=RATES, slow_links=RATES, duplicated=RATES, reordered=RATES, num_agents=st.just(5))
def test_in_lockstep_delays_and_copies_change_times_alone(num_agents, **rates):
    slow = fresh_run(Faults(**rates), Sync(), num_agents=num_agents)
    quick = fresh_run(Faults(), Sync(), num_agents=num_agents)
    assert slow.diary.learned[-1][1] == quick.diary.learned[-1][1]
    timed = dict.fromkeys(("issued_s", "arrived_s", "finished_s", "faults"))
    for mine, theirs in zip(slow.exchanges, quick.exchanges, strict=True):
        assert replace(mine, **timed) == replace(theirs, **timed)
    scores = [[row.pass_at_1_greedy for row in done.rounds] for done in (slow, quick)]
    assert scores[0] == scores[1]


STRAGGLERS = Faults(stragglers=0.5, straggler_factor=20.0)


def test_async_rounds_do_not_wait_for_stragglers():
    lockstep = fresh_run(STRAGGLERS, Sync(), num_agents=6)
    async_ = fresh_run(STRAGGLERS, Sync(mode="async", quorum=0.3), num_agents=6)
    # The last round of async waits for all, so the one before tells.
    fifth = [
        next(row.clock_s for row in done.rounds if row.round == 5) for done in (lockstep, async_)
    ]
    assert fifth[1] < fifth[0] / 2
    assert "late" in {row.outcome for row in async_.exchanges}
    assert {row.outcome for row in lockstep.exchanges} == {"delivered"}


def test_the_timer_ends_a_round_whose_quorum_does_not_come():
    done = fresh_run(Faults(lost=1.0, timeout_s=100.0), Sync(mode="async", quorum=1.0, timer_s=9.0))
    clocks = sorted({row.clock_s for row in done.rounds})
    assert clocks[:4] == pytest.approx([0.0, 9.0, 18.0, 27.0])
    assert {row.outcome for row in done.exchanges} == {"lost"}


def test_a_full_quorum_without_a_timer_is_lockstep_where_nobody_outruns_its_update():
    patient = fresh_run(Faults(), Sync(mode="async", quorum=1.0, timer_s=1e9), num_agents=6)
    lockstep = fresh_run(Faults(), Sync(), num_agents=6)
    assert patient.exchanges == lockstep.exchanges
    assert patient.rounds == lockstep.rounds


def test_agents_of_a_mutual_pair_are_done_together():
    done = fresh_run(STRAGGLERS, Sync(mode="async", quorum=0.3), mutual=True, num_agents=6)
    rounds = {}
    for row in done.exchanges:
        pair = (row.issued_round, frozenset(agents_of(row)))
        rounds.setdefault(pair, []).append(row.round)
    assert all(len(ends) == 2 and len(set(ends)) == 1 for ends in rounds.values())
