import json

import pytest
import yaml

from knexa.errors import UserError
from knexa.report.__main__ import main
from knexa.report.table import method_table, read_runs


def _write(folder, matchmaker, seed, passed, *, exchange="akd", rounds=8, done=True):
    path = folder / f"{matchmaker}-{exchange}-s{seed}"
    path.mkdir(parents=True)
    config = {"seed": seed, "matchmaker": {"x": matchmaker}, "rounds": rounds, "exchange": exchange}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    summary = {
        "matchmaker": matchmaker,
        "exchange": exchange,
        "seed": seed,
        "pass@1": {"mean": passed},
        "pass@10": {"mean": min(1.0, 2 * passed)},
        "codebleu_fixed": {"mean": 0.5},
        "kilobytes": 1234.5,
        "steps": 70,
    }
    (path / "summary.json").write_text(json.dumps(summary))
    if done:
        (path / "DONE").touch()


def _rows(text):
    return {line.split("|")[1].strip(): line for line in text.splitlines()[2:]}


def test_means_intervals_and_paired_differences_are_over_seeds(tmp_path):
    for seed, base in enumerate((0.10, 0.30, 0.50)):
        _write(tmp_path, "random", seed, base)
        _write(tmp_path, "linucb", seed, base + 0.02)
    rows = _rows(method_table(read_runs([tmp_path]), against="random/akd"))
    assert "30.0 [10.0, 50.0]" in rows["random/akd"]
    # The seeds differ by 20 points, the methods by exactly 2 on each: pairing shows it.
    assert "+2.0 [+2.0, +2.0]" in rows["linucb/akd"]


def test_unfinished_runs_are_left_out(tmp_path):
    _write(tmp_path, "random", 0, 0.1)
    _write(tmp_path, "random", 1, 0.9, done=False)
    assert [run.seed for run in read_runs([tmp_path])] == [0]


def test_local_only_is_one_method_whatever_exchange_it_did_not_use(tmp_path):
    _write(tmp_path, "local_only", 0, 0.1, exchange="akd")
    _write(tmp_path, "local_only", 1, 0.1, exchange="akd_verified")
    assert list(_rows(method_table(read_runs([tmp_path])))) == ["local_only"]


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    _write(tmp_path, "random", 0, 0.1)
    _write(tmp_path, "random", 1, 0.1, rounds=9)
    with pytest.raises(UserError, match="more than their seed"):
        method_table(read_runs([tmp_path]))


@pytest.mark.parametrize("arguments", [["nowhere"], ["."]])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
