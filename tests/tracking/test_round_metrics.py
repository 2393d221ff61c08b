from dataclasses import replace

import pytest

from knexa.tracking.metrics import RunMetrics, agent_names, pair_counts, regret_totals
from tests.row_examples import exchange_row, round_row
from tests.tracking.tracking_examples import exchange_rows, regret_row, round_rows


def test_means_skip_what_was_not_measured_and_counts_are_sums():
    metrics = RunMetrics().end_round(1, round_rows(1), [], [])
    assert metrics["pass@1_greedy"] == pytest.approx(0.215)
    assert metrics["learn_loss"] == 0.7  # two of four agents learned
    assert metrics["tokens_trained"] == 400
    assert metrics["agents/3/pass@1_greedy"] == pytest.approx(0.23)
    assert "agents/0/learn_loss" not in metrics


def test_totals_run_over_rounds():
    metrics = RunMetrics()
    first = metrics.end_round(1, round_rows(1), exchange_rows(1), [regret_row(1)])
    second = metrics.end_round(2, round_rows(2), exchange_rows(2), [])
    assert (first["kilobytes_total"], second["kilobytes_total"]) == (5.0, 10.0)
    assert first["exchange/reward"] == pytest.approx(0.15)
    assert second["cumulative_regret"] == first["cumulative_regret"] == pytest.approx(0.15)
    assert "probe/best" in first
    assert "probe/best" not in second


def test_regret_is_unclamped():
    better_than_best = replace(regret_row(1), best=0.1, chosen=0.4, random=0.0)
    assert regret_totals([better_than_best]).cumulative_regret == pytest.approx(-0.3)


def test_rounds_without_a_pairing_are_left_out_of_both_sums():
    null = replace(regret_row(2), chosen=None)
    totals = regret_totals([regret_row(1), null])
    assert totals.regret_rounds == (1,)
    assert totals.random_regret == pytest.approx(0.3)
    only_null = regret_totals([null])
    assert only_null.cumulative_regret is None
    assert only_null.random_regret == pytest.approx(0.3)


def test_large_federations_report_means_only():
    rows = [round_row(agent=i, pass_at_1_greedy=0.5) for i in range(1000)]
    metrics = RunMetrics().end_round(1, rows, [], [])
    assert metrics["pass@1_greedy"] == 0.5
    assert not any(name.startswith("agents/") for name in metrics)


def test_pair_counts_are_teacher_by_student_without_the_diagonal():
    everybody = exchange_row(teachers=(0, 1), students=(0, 1))
    pair = exchange_row(teachers=(1,), students=(0,))
    assert pair_counts([everybody, pair], 2) == [[0, 1], [2, 0]]


def test_server_agents_are_no_part_of_the_pair_counts():
    with_server = exchange_row(teachers=(0, 1), students=(2, 0, 1))
    assert pair_counts([with_server], 2) == [[0, 1], [1, 0]]


def test_the_running_total_counts_what_was_sent_to_choose_peers():
    rounds = [
        round_row(agent=i, kilobytes_scouted=kilobytes) for i, kilobytes in ((0, 3.0), (1, 0.5))
    ]
    metrics = RunMetrics().end_round(1, rounds, [exchange_row(kilobytes=2.0)], [])
    assert metrics["kilobytes_total"] == 5.5


def test_agents_are_named_by_index():
    assert agent_names([round_row(agent=2, name="cyd"), round_row(agent=0, name="ada")]) == [
        "ada",
        "agent 1",
        "cyd",
    ]
