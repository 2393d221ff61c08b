import json

import numpy as np
import pytest

from knexa.report.aggregate import group_runs
from knexa.report.measures import (
    at_steps,
    learning_curve,
    log_log_slope,
    regret_curves,
    slope_range,
    steps_curve,
)
from knexa.report.runs import read_runs
from tests.report.report_examples import STEPS_A_ROUND, rewrite, write_run

SPENT = ("delta", "tokens_generated", "tokens_trained", "optimizer_steps")


def only_group(folder):
    (group,) = group_runs(read_runs([folder])).groups
    return group


def test_slope_of_a_power_law_is_its_power():
    rounds_R = np.arange(1.0, 201.0)
    cumulative_SR = np.array([[1.0], [2.0], [3.0]]) * rounds_R**0.6
    slope = log_log_slope(rounds_R, cumulative_SR, 20, 200)
    assert slope.mean == pytest.approx(0.6)
    assert (slope.low, slope.high) == (pytest.approx(0.6), pytest.approx(0.6))


def test_slope_reads_its_range_alone():
    rounds_R = np.arange(1.0, 101.0)
    cumulative_R = np.where(rounds_R < 20, rounds_R**2, 400 * (rounds_R / 20) ** 0.5)
    assert log_log_slope(rounds_R, cumulative_R[None], 20, 100).mean == pytest.approx(0.5)


def test_no_slope_says_why():
    rounds_R = np.arange(1.0, 11.0)
    assert "fewer than 4" in log_log_slope(rounds_R, rounds_R[None], 8, 10)
    assert "not positive" in log_log_slope(rounds_R, -rounds_R[None], 1, 10)


def test_regret_is_cumulative_and_never_clamped(tmp_path):
    write_run(tmp_path, "linucb", 0, regret_power=0.5)
    rounds_R, cumulative_SR = regret_curves(only_group(tmp_path), "chosen")
    assert rounds_R.tolist() == [1, 2, 3, 4]
    assert cumulative_SR[0] == pytest.approx(rounds_R**0.5)
    assert regret_curves(only_group(tmp_path), "random")[1][0] == pytest.approx([1, 2, 3, 4])


def test_plans_that_are_no_pairings_have_no_regret(tmp_path):
    path = write_run(tmp_path, "central_kd", 0, regret_power=0.5)
    text = (path / "regret.jsonl").read_text()
    rewrite(path / "regret.jsonl", text.replace('"chosen": 1.0', '"chosen": null', 1))
    assert regret_curves(only_group(tmp_path), "chosen") is None


def test_regret_sums_the_rounds_that_all_seeds_probed(tmp_path):
    for seed, lost in ((0, 2), (1, 3)):
        path = write_run(tmp_path, "linucb", seed, regret_power=1.0) / "regret.jsonl"
        rows = path.read_text().splitlines(keepends=True)
        rewrite(path, "".join(row for row in rows if f'"round": {lost},' not in row))
    rounds_R, cumulative_SR = regret_curves(only_group(tmp_path), "chosen")
    assert rounds_R.tolist() == [1, 4]
    assert cumulative_SR.tolist() == [[1, 2], [1, 2]]


def test_default_range_of_slopes_is_the_last_nine_tenths(tmp_path):
    write_run(tmp_path, "linucb", 0, rounds=100, regret_power=0.5)
    study = group_runs(read_runs([tmp_path]))
    assert slope_range(study, None) == (10, 100)
    assert slope_range(study, (20, 60)) == (20, 60)


def test_a_curve_that_begins_later_says_nothing_of_fewer_steps(tmp_path):
    path = write_run(tmp_path, "linucb", 0, rounds=4, num_agents=2)
    rows = [json.loads(line) for line in (path / "rounds.jsonl").read_text().splitlines()]
    for row in rows:
        row["pass@1_greedy"] = 0.2 if row["round"] == 4 else None
    rewrite(path / "rounds.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    group = only_group(tmp_path)
    assert at_steps(group, 2 * STEPS_A_ROUND * 3.0) == {}
    assert at_steps(group, 2 * STEPS_A_ROUND * 4.0) == {0: pytest.approx(0.2)}


def test_steps_between_rounds_are_interpolated(tmp_path):
    write_run(tmp_path, "linucb", 0, passed=0.4, rounds=4, num_agents=2)
    group = only_group(tmp_path)
    assert at_steps(group, 2 * STEPS_A_ROUND * 1.5) == {0: pytest.approx(0.15)}
    curves = steps_curve(group)
    assert curves.x_R[-1] == 2 * STEPS_A_ROUND * 4
    assert curves.mean_R[-1] == pytest.approx(0.4)


def test_a_servers_steps_are_steps_too(tmp_path):
    path = write_run(tmp_path, "fedid", 0, passed=0.4, rounds=4, num_agents=2)
    rows = [json.loads(line) for line in (path / "exchanges.jsonl").read_text().splitlines()]
    rows[0]["server"], rows[1]["server"] = dict.fromkeys(SPENT, 7), None
    rewrite(path / "exchanges.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs([tmp_path])
    assert run.curve.steps_R.tolist() == [0, 27, 47, 67, 87]


def test_learning_curve_has_the_rounds_that_all_seeds_have(tmp_path):
    for seed, passed in ((0, 0.2), (1, 0.4)):
        write_run(tmp_path, "linucb", seed, passed=passed, rounds=4)
    path = next(tmp_path.glob("*-s1-*")) / "rounds.jsonl"
    rows = path.read_text().splitlines(keepends=True)
    rewrite(path, "".join(row for row in rows if '"round": 2' not in row))
    curves = learning_curve(only_group(tmp_path))
    assert curves.x_R.tolist() == [0, 1, 3, 4]
    assert curves.mean_R == pytest.approx([0, 0.075, 0.225, 0.3])
    half = 12.706 * 0.1  # the quantile of Student's t, and the standard error
    assert curves.low_R[-1] == pytest.approx(0.3 - half, abs=1e-3)
    assert curves.high_R[-1] == pytest.approx(0.3 + half, abs=1e-3)
