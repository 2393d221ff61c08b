import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.matchmaking.plans import Directive
from knexa.matchmaking.regret import Regret, random_total, regret_row
from knexa.matchmaking.round_view import Probe
from knexa.tracking.schema import encode
from tests.matchmaking.matchmaking_worlds import directed_matchings, view_of


def probe_of(rewards_NN: np.ndarray) -> Probe:
    rewards_NN = np.array(rewards_NN, dtype=np.float64)
    np.fill_diagonal(rewards_NN, np.nan)
    return Probe(rewards=rewards_NN, no_teacher_N=np.full(len(rewards_NN), -0.1))


def plan_of(pairs, num_agents: int = 6):
    return view_of(np.zeros((num_agents, 32)), np.random.default_rng(0)).plan(pairs)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), num_agents=st.integers(2, 7))
def test_row_holds_the_best_and_the_random_total_of_all_full_matchings(seed, num_agents):
    rewards_NN = np.random.default_rng(seed).normal(size=(num_agents, num_agents)) - 0.5
    totals = [
        sum(rewards_NN[pair] for pair in pairs)
        for pairs in directed_matchings(num_agents, num_agents // 2)
    ]
    row = regret_row(1, probe_of(rewards_NN), ())
    assert row.best == pytest.approx(max(totals), rel=1e-9, abs=1e-12)
    assert row.random == pytest.approx(np.mean(totals), rel=1e-9, abs=1e-12)
    assert sum(rewards_NN[t, s] for t, s in row.best_pairs) == pytest.approx(row.best)


@pytest.mark.parametrize("num_pairs", [0, 1, 2, 9])
def test_all_arms_have_as_many_pairs_as_the_federation_allows(num_pairs):
    rewards_NN = np.random.default_rng(6).normal(size=(5, 5))
    totals = [
        sum(rewards_NN[pair] for pair in pairs)
        for pairs in directed_matchings(5, min(num_pairs, 2))
    ]
    row = regret_row(1, probe_of(rewards_NN), (), num_pairs=num_pairs)
    assert len(row.best_pairs) == min(num_pairs, 2)
    assert row.best == pytest.approx(max(totals))
    assert row.random == pytest.approx(np.mean(totals))


def test_row_is_json_with_null_on_the_diagonal():
    probe = probe_of([[0, 1, 2], [3, 0, 4], [5, 6, 0]])
    row = json.loads(encode(regret_row(4, probe, plan_of([(1, 0)], 3))))
    assert row == {
        "round": 4,
        "rewards": [[None, 1.0, 2.0], [3.0, None, 4.0], [5.0, 6.0, None]],
        "no_teacher": [-0.1, -0.1, -0.1],
        "best": 6.0,
        "chosen": 3.0,
        "random": 21 / 6,
        "best_pairs": [[2, 1]],
    }


def test_the_best_plan_has_no_regret_to_the_last_bit_in_any_order():
    rng = np.random.default_rng(1)
    for _ in range(50):
        probe = probe_of(rng.normal(size=(6, 6)) * 0.1)
        best = regret_row(1, probe, ()).best_pairs
        row = regret_row(1, probe, plan_of([best[i] for i in rng.permutation(3)]))
        assert row.best == row.chosen


def test_totals_are_not_clamped():
    row = regret_row(1, probe_of(np.full((6, 6), -2.0)), ())
    assert (row.best, row.chosen, row.random) == (-6.0, 0.0, pytest.approx(-6.0))


def test_an_empty_plan_is_zero_and_what_is_no_pairing_is_null():
    probe = probe_of(np.ones((6, 6)))
    everybody = Directive(id="r1-0", teachers=(0, 1), students=(2, 3), protocol="ensemble")
    assert regret_row(1, probe, ()).chosen == 0.0
    assert regret_row(1, probe, (everybody,)).chosen is None
    assert regret_row(1, probe, (*plan_of([(4, 5)]), everybody)).chosen is None
    assert regret_row(1, probe, plan_of([(0, 1), (1, 2)])).chosen is None
    server = Directive(id="r1-0", teachers=(6,), students=(0,), protocol="akd")
    assert regret_row(1, probe, (server,)).chosen is None


def test_a_probe_that_is_not_finite_is_refused():
    probe = probe_of(np.ones((4, 4)))
    probe.rewards[0, 1] = np.inf
    with pytest.raises(ValueError, match="probe of round 3"):
        regret_row(3, probe, ())


def test_a_lone_agent_has_nothing_to_regret():
    assert random_total(np.zeros((1, 1)), 0) == 0.0
    assert regret_row(1, probe_of([[0.0]]), ()).best == 0.0


def test_probes_fall_due_from_the_first_round_on():
    assert [round for round in range(1, 8) if Regret(every=3).due(round)] == [1, 4, 7]
    assert all(Regret(every=1).due(round) for round in range(1, 8))
    assert not any(Regret(every=0).due(round) for round in range(1, 8))


def test_pairs_that_the_protocol_cannot_serve_are_null_and_never_best():
    rewards_NN = np.full((4, 4), -np.inf)
    rewards_NN[0, 1], rewards_NN[1, 0] = 2.0, 3.0
    row = regret_row(1, probe_of(rewards_NN), plan_of([(0, 1)], 4))
    assert row.rewards[0] == (None, 2.0, None, None)
    assert row.best_pairs == ((1, 0),)
    assert (row.best, row.chosen, row.random) == (3.0, 2.0, None)
