"""Runs and their rows from Python: every frame, what it holds, and what is refused."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

import knexa
import knexa.matchmaking
from knexa.api.frames import frame
from knexa.config.folders import config_folder
from knexa.tracking.rows import SampleRow
from tests.report.report_examples import write_run, write_study

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "concepts.md"
FEW = ("federation=synthetic/answers", "federation.num_rounds=2", "logger=csv", "name=study")
SWEEP = ["-m", *FEW, "matchmaker=random,linucb", "seed=2,1"]
TOLD = ["run", "matchmaker", "exchange", "seed"]
FRAMES = {
    "summary": "summary.json",
    "rounds": "rounds.jsonl",
    "exchanges": "exchanges.jsonl",
    "regret": "regret.jsonl",
    "samples": "samples.jsonl.zst",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A current folder for the tests of this file, where a sweep of four runs has been made."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def study(home: Path) -> knexa.Results:
    return knexa.run(SWEEP)


def documented(title: str) -> tuple[list[str], list[str]]:
    """Return the columns that docs/concepts.md lists for a file: those of values, and objects."""
    table = PAGE.read_text(encoding="utf-8").partition(f"### {title}\n")[2].partition("###")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (\w+)", table, flags=re.MULTILINE)
    values = [name for name, kind in rows if kind != "object"]
    return values, [name for name, kind in rows if kind == "object"]


def test_a_sweep_comes_back_in_the_order_of_the_command_line(study: knexa.Results) -> None:
    summary = study.summary()
    assert summary[["matchmaker", "seed"]].values.tolist() == [
        ["random", 2],
        ["random", 1],
        ["linucb", 2],
        ["linucb", 1],
    ]
    assert summary["run"].tolist() == [path.name for path in study.paths]
    assert repr(study) == "Results(4 runs of random, linucb)"


def test_loaded_runs_come_by_method_and_seed(study: knexa.Results, home: Path) -> None:
    loaded = knexa.load("outputs/study")
    assert loaded.paths == tuple(study.paths[place] for place in (3, 2, 1, 0))
    again = knexa.load(*loaded.paths[:3], home)  # a run that is named twice counts once
    assert again.paths == loaded.paths


def test_finished_runs_answer_from_their_files(
    study: knexa.Results, capfd: pytest.CaptureFixture[str]
) -> None:
    written = [path.stat().st_mtime_ns for path in study.paths]
    one = knexa.run([*FEW, "matchmaker=linucb", "seed=1"])
    assert one.paths == study.paths[3:]
    assert "is finished" in capfd.readouterr().out
    assert [path.stat().st_mtime_ns for path in study.paths] == written


@pytest.mark.parametrize(("name", "file"), FRAMES.items())
def test_columns_are_those_of_the_documents(study: knexa.Results, name: str, file: str) -> None:
    """In their order; of an object each of its own, of objects in a list none."""
    found = getattr(knexa.load(study.paths[0]), name)()
    values, objects = documented(file)
    wanted = [
        column.replace("@K", "@1")
        for column in values
        if column not in TOLD and "[]" not in column and "honest_" not in column
    ]
    assert [*TOLD, *wanted] == [column for column in found if column in [*TOLD, *wanted]]
    counts = {column for column in found if column not in [*TOLD, *wanted]}
    kinds = {name.replace("@K", "@1") for name in objects}
    assert {column.rpartition(".")[0] for column in counts} <= kinds


def test_rows_are_those_of_the_files(study: knexa.Results) -> None:
    rounds, exchanges = study.rounds(), study.exchanges()
    for path in study.paths:
        for found, file in ((rounds, "rounds.jsonl"), (exchanges, "exchanges.jsonl")):
            rows = [json.loads(line) for line in (path / file).read_text().splitlines()]
            mine = found[found["run"] == path.name]
            key = "pass@1_greedy" if file == "rounds.jsonl" else "reward_raw"
            assert mine[key].tolist() == [row[key] for row in rows]
            assert mine["round"].tolist() == [row["round"] for row in rows]
    by_round = rounds.groupby(["matchmaker", "round"])["pass@1_greedy"].mean()
    assert by_round["random"].index.tolist() == [0, 1, 2]
    assert by_round["linucb", 2] > by_round["linucb", 0]
    assert exchanges.groupby("teachers").size().index.isin([(i,) for i in range(6)]).all()


def test_regret_sums_to_what_the_summary_says(study: knexa.Results) -> None:
    regret = study.regret()
    total = (regret["best"] - regret["chosen"]).groupby(regret["run"]).sum()
    wanted = study.summary().set_index("run")["cumulative_regret"]
    pandas.testing.assert_series_equal(total, wanted.sort_index(), check_names=False, rtol=1e-4)


def test_numbers_are_numbers_and_what_was_not_measured_is_nan(study: knexa.Results) -> None:
    rounds = study.rounds()
    assert rounds["round"].dtype == "int64"
    assert rounds["present"].dtype == "bool"
    assert rounds["train_loss"].dtype == "float64"  # formulas have no loss
    assert rounds["train_loss"].isna().all()
    assert study.summary()["pass@1.mean"].between(0, 1).all()


def test_config_keys_that_differ_become_columns(study: knexa.Results) -> None:
    more = knexa.run([*FEW, "matchmaker=linucb", "seed=1", "federation.num_agents=4"])
    both = knexa.load(*more.paths, study.paths[3])
    for name in FRAMES:
        found = getattr(both, name)()
        assert list(found.columns[:5]) == [*TOLD, "federation.num_agents"]
    agents = both.rounds().groupby("federation.num_agents")["agent"].nunique()
    assert agents.to_dict() == {4: 4, 6: 6}


def test_of_two_columns_of_one_name_the_configs_is_told_as_such(tmp_path: Path) -> None:
    for seed, topics in enumerate(("categories", "clusters")):
        write_run(tmp_path, seed=seed, config={"topics._name_": topics})
    found = knexa.load(tmp_path).exchanges()
    assert found.groupby("seed")["config.topics"].unique().map(list).tolist() == [
        ["categories"],
        ["clusters"],
    ]
    assert found["topics"].isna().all()


def test_samples_may_hold_text_that_is_no_unicode() -> None:
    row = SampleRow(
        task_id="t",
        agent=0,
        sample=0,
        category=3,
        outcome="passed",
        codebleu_compat=0.5,
        codebleu_fixed=0.5,
        completion="x = '\ud800'",
    )
    found = frame(SampleRow, [{"run": "a"}, {"run": "b"}], [[row], [row]])
    assert found["completion"].tolist() == [row.completion] * 2
    assert found["run"].tolist() == ["a", "b"]


def test_the_comparison_is_paired_by_seed(study: knexa.Results) -> None:
    table = study.compare(against="random").set_index(["method", "measure"])
    scores = study.summary().pivot(index="seed", columns="matchmaker", values="pass@1.mean")
    wanted = 100 * (scores["linucb"] - scores["random"]).mean()
    found = table.loc["linucb", "against random"]
    assert found["mean"] == pytest.approx(wanted)
    assert found["low"] < wanted < found["high"]
    assert found["seeds"] == 2
    assert ("random", "against random") not in table.index
    assert any("equal seeds" in note for note in table.attrs["notes"])
    assert not study.compare()["measure"].str.contains("against").any()


def test_each_setting_is_compared_within_itself(tmp_path: Path) -> None:
    write_study(tmp_path)
    table = knexa.load(tmp_path).compare(against="random")
    found = table[table["measure"] == "against random/akd"]
    assert found[["method", "num_agents"]].values.tolist() == [
        ["oracle/akd", "4"],
        ["linucb/akd", "4"],
        ["oracle/akd", "6"],
        ["linucb/akd", "6"],
    ]
    assert found["mean"].tolist() == pytest.approx([20, 10, 20, 10])


def test_a_method_that_is_not_there_is_refused(study: knexa.Results) -> None:
    with pytest.raises(knexa.UserError, match=r"against oracle: the methods are linucb, random"):
        study.compare(against="oracle")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("seed=1", r"takes a list of texts: knexa.run\(\['seed=1'\]\)"),
        (["matchmaker=linucbb"], "did you mean linucb"),
        (["-m", "seed=1,x"], "seed=x: must be an integer"),
        (["--bogus"], "unrecognized arguments: --bogus"),
        (["--version"], "--version runs nothing"),
        (["--help"], "--help runs nothing"),
        (["--cfg", "job"], "--cfg job runs nothing"),
        (["dry_run=true"], "leaves no results"),
        (["hparams_search=linucb"], "a search chooses its runs while it goes on"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(knexa.UserError, match=told) as caught:
        knexa.run(arguments)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_without_finished_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(knexa.UserError, match="nowhere is no folder"):
        knexa.load(tmp_path / "nowhere")
    with pytest.raises(knexa.UserError, match="no finished run there"):
        knexa.load(tmp_path)
    with pytest.raises(knexa.UserError, match="at least one folder"):
        knexa.load()


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path, seed=0)
    rows = write_run(tmp_path, seed=1) / "rounds.jsonl"
    rows.write_bytes(rows.read_bytes()[:-20])
    with pytest.raises(knexa.UserError, match=re.escape(str(rows))):
        knexa.load(tmp_path)


def test_a_file_that_is_damaged_after_loading_is_refused(tmp_path: Path) -> None:
    rows = write_run(tmp_path) / "rounds.jsonl"
    loaded = knexa.load(tmp_path)
    rows.write_bytes(rows.read_bytes().replace(b'"agent"', b'"agnet"'))
    with pytest.raises(knexa.UserError, match=re.escape(str(rows))):
        loaded.rounds()


def test_runs_that_are_not_finished_are_left_out_with_a_warning(tmp_path: Path) -> None:
    done = write_run(tmp_path, seed=0)
    begun = write_run(tmp_path, seed=1, finished=False)
    for path in (done, begun):
        (path / "environment.json").write_text("{}")
    with pytest.warns(UserWarning, match=rf"left out: {begun.name} \(not finished\)"):
        loaded = knexa.load(tmp_path)
    assert loaded.paths == (done,)


BROKEN = """
from knexa.matchmaking import Matchmaker, Plan, RoundView

class Broken(Matchmaker):
    by_topic = True

    def propose(self, view: RoundView) -> Plan:
        raise ZeroDivisionError("as it must")
"""


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Arguments that make a matchmaker available that fails."""
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "matchmaker").mkdir()
    (tmp_path / "matchmaker" / "broken.yaml").write_text("_target_: broken.Broken\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ["-cd", ".", *FEW, "trusted_modules=[broken]"]
    del sys.modules["broken"]


def test_what_a_run_raises_is_passed_on(broken: list[str]) -> None:
    with pytest.raises(ZeroDivisionError, match="as it must"):
        knexa.run([*broken, "matchmaker=broken"])


def test_a_job_that_fails_is_named_and_the_others_are_run(broken: list[str]) -> None:
    with pytest.raises(knexa.UserError, match=r"1 of 2 runs failed.*: broken-s0-\w+; ") as caught:
        knexa.run(["-m", *broken, "matchmaker=broken,random"])
    assert "knexa.load('outputs/study') has the others" in str(caught.value)
    with pytest.warns(UserWarning, match="broken-s0"):
        assert knexa.load("outputs/study").summary()["matchmaker"].tolist() == ["random"]


def in_python(code: str, folder: Path) -> str:
    """Return what a new process prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_importing_knexa_imports_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import knexa\n"
        "print([name for name in set(sys.modules) - before if name.partition('.')[0] not in"
        " sys.stdlib_module_names and name != 'knexa'])"
    )
    assert in_python(code, tmp_path) == "[]"


def test_the_package_tells_its_names_and_its_version(tmp_path: Path) -> None:
    code = "import knexa; print(set(knexa.__all__) - set(dir(knexa)), knexa.__version__)"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert in_python(code, tmp_path) == f"set() {project['version']}"
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = knexa.lod  # type: ignore[attr-defined]


def test_names_for_ones_own_matchmaker_are_there() -> None:
    for name in knexa.matchmaking.__all__:
        assert name in dir(knexa.matchmaking)
        getattr(knexa.matchmaking, name)
    assert knexa.matchmaking.CPM.__module__ == "knexa.matchmaking.cpm"
    with pytest.raises(AttributeError, match="no attribute 'Matchmakr'"):
        _ = knexa.matchmaking.Matchmakr  # type: ignore[attr-defined]


def test_hydra_composes_the_configs_from_their_package(tmp_path: Path) -> None:
    code = (
        "import hydra, json; from omegaconf import OmegaConf\n"
        "with hydra.initialize_config_module('knexa.conf', version_base='1.3'):\n"
        "    config = hydra.compose('config', ['sweep=smoke', 'roster.size=3'])\n"
        "print(json.dumps(OmegaConf.to_container(config, resolve=True)))"
    )
    config = json.loads(in_python(code, tmp_path))
    assert config["name"] == "sweep-smoke"  # as sweeps/smoke.yaml says
    assert config["data"]["num_train"] == 3 * 58  # ${train_problems:...}
    assert not list(config_folder().rglob("*.pyc"))
