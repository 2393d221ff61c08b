"""The robust table: interquartile means and probabilities of improvement over all settings."""

import csv

import numpy as np
import pytest
import scipy.stats

from knexa.cli.commands import run_command_line
from knexa.report.aggregate import group_runs
from knexa.report.robust import robust_table
from knexa.report.runs import read_runs
from tests.report.report_examples import write_run

PASSED = {
    ("linucb", 0.1): (0.30, 0.32, 0.41, 0.33),
    ("linucb", 10.0): (0.20, 0.22, 0.90, 0.21),
    ("random", 0.1): (0.31, 0.30, 0.29, 0.28),
    ("random", 10.0): (0.21, 0.15, 0.16, 0.10),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for (matchmaker, alpha), values in PASSED.items():
        for seed, passed in enumerate(values):
            config = {"partition.alpha": alpha}
            write_run(folder, matchmaker, seed, passed=passed, config=config)
    return folder


def cells(table, name):
    (column,) = [column for column in table.columns if column.name == name]
    methods = [cell.text for cell in table.columns[0].cells]
    return dict(zip(methods, column.cells, strict=True))


def test_methods_are_rows_over_all_settings(runs):
    table = robust_table(group_runs(read_runs([runs])), "random")
    for matchmaker in ("linucb", "random"):
        scores = 100 * np.concatenate([PASSED[matchmaker, alpha] for alpha in (0.1, 10.0)])
        interval = cells(table, "iqm")[f"{matchmaker}/akd"].interval
        assert interval.mean == pytest.approx(scipy.stats.trim_mean(scores, 0.25))
        assert interval.low < interval.mean < interval.high
    wins = [
        scipy.stats.mannwhitneyu(PASSED["linucb", a], PASSED["random", a]).statistic / 16
        for a in (0.1, 10.0)
    ]
    improvement = cells(table, "improvement")
    assert improvement["linucb/akd"].interval.mean == pytest.approx(np.mean(wins))
    assert improvement["random/akd"].text == "-"
    assert {cell.text for cell in cells(table, "settings").values()} == {"2"}


def test_a_setting_without_the_reference_is_left_out_and_counted(runs, tmp_path):
    config = {"partition.alpha": 1.0}
    write_run(tmp_path, "linucb", 0, passed=0.5, config=config)
    table = robust_table(group_runs(read_runs([runs, tmp_path])), "random")
    assert cells(table, "improvement")["linucb/akd"].text.endswith("(2 settings)")
    assert cells(table, "settings")["linucb/akd"].text == "3"


def test_it_is_written_where_asked_for_and_does_not_stay(runs, tmp_path, capsys):
    command = ["report", str(runs), "--to", str(tmp_path)]
    assert run_command_line([*command, "--robust"]) == 0
    assert "## Robust comparison" in capsys.readouterr().out
    with (tmp_path / "tables" / "robust.csv").open() as file:
        assert {(row["alpha"], row["name"]) for row in csv.DictReader(file)} == {("all", "iqm")}
    assert run_command_line(command) == 0
    assert not list((tmp_path / "tables").glob("robust.*"))
    assert "Robust" not in (tmp_path / "index.html").read_text(encoding="utf-8")
