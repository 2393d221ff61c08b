"""Experiments: one line for each mistake, nothing written, finished runs answered."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knexa.tracking.run_directory import RunDirectory

RunApp = Callable[..., int]

WRONG_COMMANDS = [
    # (command line, what the one line must name)
    (["seed=abc"], ["seed=abc", "an integer >= 0"]),
    (["seed=-1"], ["seed=-1", "an integer >= 0"]),
    (["seed=1.5"], ["seed=1.5", "an integer"]),
    (["seed=null"], ["seed=null", "an integer"]),
    (["seed="], ["seed=''", "an integer"]),
    (["seed=true"], ["seed=true", "an integer"]),
    (["seed=1,2"], ["seed=1,2", "-m"]),
    (["rerun=maybe"], ["rerun=maybe", "true or false"]),
    (["name=../up"], ["name=../up", "folder name"]),
    (["name="], ["name=''", "folder name"]),
    (["seeds=1"], ["unknown key seeds", "did you mean seed?"]),
    (["+sede=1"], ["unknown key sede", "did you mean seed?"]),
    (["++dryrun=true"], ["unknown key dryrun", "did you mean dry_run?"]),
    (["matchmaker=linucbb"], ["matchmaker=linucbb", "did you mean linucb?", "random"]),
    (["matchmaker="], ["matchmaker=", "linucb"]),
    (["matchmakr=linucb"], ["unknown key matchmakr", "did you mean matchmaker?"]),
    (["+matchmakr=linucb"], ["matchmakr", "did you mean matchmaker?"]),
    (["matchmaker=null"], ["matchmaker=null", "no such option", "linucb"]),
    (["~matchmaker"], ["every run needs a matchmaker", "linucb"]),
    (["~seed"], ["seed is missing"]),
    (["~partition.alpha"], ["partition.alpha is missing", "a number > 0"]),
    (["~partition.alhpa"], ["partition.alhpa", "partition.alpha"]),
    (["matchmaker.alhpa=2"], ["unknown key matchmaker.alhpa", "did you mean matchmaker.alpha?"]),
    (["+matchmaker.alhpa=2"], ["unknown key matchmaker.alhpa", "did you mean matchmaker.alpha?"]),
    (["++matchmaker.alhpa=2"], ["unknown key matchmaker.alhpa", "did you mean matchmaker.alpha?"]),
    (["+matchmaker.alpha=2"], ["matchmaker.alpha"]),
    (["+matchmaker._partial_=true"], ["unknown key matchmaker._partial_"]),
    (["matchmaker.alpha=0"], ["matchmaker.alpha=0", "a number > 0"]),
    (["matchmaker.alpha=inf"], ["matchmaker.alpha=inf", "a number > 0"]),
    (["matchmaker.alpha=nan"], ["matchmaker.alpha=nan", "a number > 0"]),
    (["matchmaker.alpha=[1]"], ["matchmaker.alpha=[1]", "a number > 0"]),
    (["matchmaker.alpha={a: 1}"], ["matchmaker.alpha", "a number > 0"]),
    (["matchmaker.steps=101"], ["matchmaker.steps=101", ">= 1 and <= 100"]),
    (["matchmaker.norm=zscor"], ["matchmaker.norm=zscor", "did you mean zscore?", "raw"]),
    (["partition.alpha=-1"], ["partition.alpha=-1", "a number > 0"]),
    (["partition.alpha=${nowhere}"], ["partition.alpha", "nowhere"]),
    (["partition.sizes=[3,0]"], ["partition.sizes", ">= 1"]),
    (["partition.sizes=7"], ["partition.sizes=7", "a list", "null"]),
    (["partition.low=2"], ["partition: low=2.0 is above high=1.0"]),
    (["roster.backbones.small.lora.rank=0"], ["roster.backbones.small.lora.rank=0", ">= 1"]),
    (["+roster.backbones.small.lora.rnak=1"], ["lora.rnak", "did you mean", "lora.rank"]),
    (["+roster.backbones.big={source: x}"], ["roster.backbones.big.family is missing"]),
    (["roster.agents=a"], ["roster.agents=a", "a list"]),
    (["roster.agents=[{name: a, backbone: small}]"], ["roster.agents", "one agent", "two"]),
    (["evaluation.inner.alpha=-2"], ["evaluation.inner.alpha=-2", "a number > 0"]),
    (["evaluation.verbose=1"], ["evaluation.verbose=1", "true or false"]),
    (["evaluation.inner._target_=toy_components.Split"], ["evaluation.inner"]),
    (["matchmaker=foreign"], ["subprocess.Popen", "knexa", "trusted_modules"]),
    (["matchmaker._target_=toy_components.Linea"], ["toy_components", "did you mean Linear?"]),
    (["matchmaker._target_=knexa.errors"], ["matchmaker._target_=knexa.errors"]),
    (["matchmaker._target_=knexa.nothing.There"], ["cannot import knexa.nothing"]),
    (["matchmaker._target_=knexa.seeding.np"], ["no class np"]),
    (["matchmaker._target_=42"], ["matchmaker._target_=42", "dotted name"]),
    (["trusted_modules=[]"], ["toy_components", "trusted_modules"]),
    (["trusted_modules=toy_components"], ["trusted_modules=toy_components", "[my_module]"]),
    (["matchmaker=central_kd", "exchange=akd_verified"], ["exchange=akd_verified", "ensemble"]),
    (["data=needs_path"], ["data.path", "set data.path="]),
    (["seed"], ["'seed'", "key=value"]),
    (["=3"], ["'=3'", "key=value"]),
    (["seed=[1,"], ["'seed=[1,'", "key=value"]),
    (["--bogus"], ["--bogus"]),
    (["-m", "--cfg", "job"], ["Only one of", "--multirun"]),
    (["-m", "seed=1,2,abc"], ["seed=abc", "an integer"]),
    (["-m", "matchmaker=linucb,randm"], ["matchmaker=randm", "did you mean random?"]),
    (["-m", "seed=range(0,3)", "+matchmaker.alhpa=1,2"], ["unknown key matchmaker.alhpa"]),
    (["hydra.mode=SIDEWAYS"], ["SIDEWAYS", "RUN, MULTIRUN"]),
    (["sweep=smoek"], ["sweep=smoek", "did you mean smoke?"]),
    (["-m", "sweep=nothing", "seed=1,2"], ["sweep=nothing", "no such option"]),
    (["-m", "sweep=smoke,table4"], ["sweep=smoke,table4", "one sweep a command"]),
    (["seed=1", "-m", "name=a,b"], ["-m", "before all settings", "name=a,b"]),
    (["-m", "hydra.launcher=joblib", "seed=1,2"], ["hydra/launcher=joblib"]),
    (["-m", "hydra.sweeper=optuna", "seed=1,2"], ["hydra/sweeper=optuna"]),
    (["-m", "hydra.sweeper.max_batch_size=0", "seed=1,2"], ["max_batch_size=0", ">= 1"]),
    (["-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], ["n_jobs=0", ">= 1"]),
    (["-m", "hydra/sweeper=optuna", "matchmaker.alpha=1,2", "dry_run=true"], ["dry_run=true"]),
    (["-m", "hydra/sweeper=optuna", "seed=1,2"], ["seed=1,2", "a search", "luckiest"]),
    (["-m", "hydra.sweep.dir=/proc/none", "seed=1,2"], ["/proc/none", "No such file"]),
    (["hydra.run.dir="], ["hydra.run.dir", "set name="]),
    (["hydra.job.chdir=true"], ["hydra.job.chdir=true", "relative paths"]),
    (["matchmaker=[linucb,random]"], ["a run has one matchmaker", "-m matchmaker=linucb,random"]),
    (["-m", "seed=1,2", "matchmaker=[linucb]"], ["a run has one matchmaker"]),
    (["matchmaker=linucb,random"], ["several values need -m (multirun)\n"]),
    (["partition.sizes=1,2"], ["several values need -m (multirun), or brackets"]),
    (["+matchmaker=random", "dry_run=true"], ["+matchmaker=random", "write matchmaker=random"]),
    (["--config-dir", "nowhere"], ["nowhere"]),
    (["-sc", "query=bash"], ["-sc query", "-sc install=bash"]),
    (["matchmaker=LINUCB"], ["did you mean linucb?"]),
    (["matchmaker=random", "matchmaker._target_=toy_components.Empty"], ["Empty is no matchmaker"]),
    (["--cfg", "job", "matchmaker=linucbb"], ["matchmaker=linucbb", "did you mean linucb?"]),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG_COMMANDS, ids=lambda v: " ".join(v[:2]))
def test_mistake_costs_one_line_and_writes_nothing(
    run_app: RunApp,
    experiments: list[Any],
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    named: list[str],
) -> None:
    assert run_app(*arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert len(captured.err) < 500
    for part in named:
        assert part in captured.err
    assert list(Path.cwd().iterdir()) == []
    assert experiments == []


def test_run_directory_is_named_by_matchmaker_seed_and_hash(
    run_app: RunApp, experiments: list[Any]
) -> None:
    assert run_app("matchmaker=random", "seed=42", "name=study") == 0
    (folder,) = Path("outputs/study").iterdir()
    assert folder.name == f"random-s42-{experiments[0].config_hash[:8]}"
    assert [path.name for path in Path.cwd().iterdir()] == ["outputs"]
    assert [path.name for path in Path("outputs").iterdir()] == ["study"]
    assert experiments[0].choices["matchmaker"] == "random"


def test_finished_run_is_answered_from_its_directory(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("seed=1") == 0
    capfd.readouterr()
    assert run_app("seed=1") == 0
    assert len(experiments) == 1
    output = capfd.readouterr().out
    assert "is finished" in output
    assert "Pass@1" in output


def test_rerun_replaces_a_finished_run(run_app: RunApp, experiments: list[Any]) -> None:
    assert run_app("seed=1") == 0
    (folder,) = Path("outputs/default").iterdir()
    (folder / "stale").touch()
    assert run_app("seed=1", "rerun=true") == 0
    assert len(experiments) == 2
    assert not (folder / "stale").exists()
    assert (folder / "DONE").exists()
    assert len(list(Path("outputs/default").iterdir())) == 1


def test_dry_run_leaves_no_directory(run_app: RunApp, experiments: list[Any]) -> None:
    assert run_app("dry_run=true") == 0
    assert experiments[0].dry_run
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    "override",
    ["rerun=true", "logger.alpha=2", "engine.alpha=2", "trusted_modules=[toy_components,knexa]"],
)
def test_what_does_not_move_results_does_not_move_the_hash(
    run_app: RunApp, experiments: list[Any], override: str
) -> None:
    run_app("seed=3")
    run_app("seed=3", "name=elsewhere", override)
    assert experiments[0].config_hash == experiments[1].config_hash
    assert experiments[0].config == experiments[1].config


def test_hash_follows_the_data_not_its_path(run_app: RunApp, experiments: list[Any]) -> None:
    run_app("data.path=a")
    run_app("data.path=b", "name=moved")
    run_app("data.path=a", "data.content=edited")
    hashes = [settings.config_hash for settings in experiments]
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_every_setting_moves_the_hash(run_app: RunApp, experiments: list[Any]) -> None:
    for override in ("seed=0", "seed=1", "matchmaker.alpha=2", "partition.low=0.5"):
        run_app(override)
    assert len({settings.config_hash for settings in experiments}) == 4


def test_a_whole_number_and_its_float_are_one_setting(
    run_app: RunApp, experiments: list[Any]
) -> None:
    run_app("matchmaker.alpha=2")
    run_app("matchmaker.alpha=2.0", "name=elsewhere")
    assert experiments[0].config_hash == experiments[1].config_hash
    assert repr(experiments[0].config) == repr(experiments[1].config)


def test_multirun_runs_the_product(run_app: RunApp, experiments: list[Any]) -> None:
    assert run_app("-m", "matchmaker=linucb,random", "seed=1,2,3") == 0
    assert {(s.matchmaker_name, s.seed) for s in experiments} == {
        (matchmaker, seed) for matchmaker in ("linucb", "random") for seed in (1, 2, 3)
    }
    written = {path.name for path in Path("outputs/default").iterdir()}
    assert len(written) == 7
    assert "multirun.yaml" in written


def test_failing_job_does_not_stop_the_others(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("-m", "seed=12,13,14,17") == 1
    assert [settings.seed for settings in experiments] == [12, 13, 14, 17]
    captured = capfd.readouterr().err
    assert "seed 13 always fails" in captured
    assert "models are missing" in captured
    assert captured.splitlines()[-3:] == [
        "error: 2 runs of this command failed:",
        "  seed=13",
        "  seed=14",
    ]


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("matchmaker=fragile",), "Fragile.__post_init__"),
        (("matchmaker=fragile", "matchmaker.late=true", "seed=18"), "Fragile.propose"),
    ],
)
def test_an_exception_of_the_users_own_code_ends_in_whose_it_was(
    run_app: RunApp,
    experiments: list[Any],
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    where: str,
) -> None:
    assert run_app(*arguments) == 1
    *traceback, last = capfd.readouterr().err.splitlines()
    assert traceback[0].startswith("Traceback")
    assert "toy_components.py" in "".join(traceback)
    assert last.startswith(f"error: ZeroDivisionError in {where} (")
    assert "code of toy_components" in last


def test_an_exception_of_knexas_own_is_not_blamed_on_the_user(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("seed=13") == 1
    assert capfd.readouterr().err.splitlines()[-1] == "RuntimeError: seed 13 always fails"


def test_a_launcher_of_sweeps_changes_nothing_for_one_run(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("seed=14", "hydra/launcher=joblib") == 2
    assert capfd.readouterr().err == "error: models are missing: set roster.path=...\n"
    assert run_app("seed=1", "hydra/launcher=joblib") == 0
    assert not experiments[-1].beside_others


def test_interrupt_says_how_to_resume(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("-m", "seed=15,16") == 130
    captured = capfd.readouterr()
    assert captured.err.splitlines()[-1] == "interrupted: type the same command again to resume"
    assert "Traceback" not in captured.err
    assert [settings.seed for settings in experiments] == [15]


def test_mistake_found_by_the_run_costs_one_line_too(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("seed=14") == 2
    captured = capfd.readouterr()
    assert captured.err == "error: models are missing: set roster.path=...\n"
    assert captured.out == ""
    assert list(Path.cwd().iterdir()) == []


def test_run_in_use_is_refused(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("seed=1") == 0
    (folder,) = Path("outputs/default").iterdir()
    with RunDirectory(folder):
        assert run_app("seed=1", "rerun=true") == 2
    assert "in use" in capfd.readouterr().err
    assert (folder / "DONE").exists()


def test_name_may_look_like_a_number(run_app: RunApp, experiments: list[Any]) -> None:
    assert run_app("name=2024") == 0
    assert Path("outputs/2024").is_dir()


def test_matchmaker_dictates_its_protocol_quietly(run_app: RunApp, experiments: list[Any]) -> None:
    assert run_app("matchmaker=central_kd") == 0
    assert run_app("matchmaker=central_kd", "exchange=ensemble") == 0


def test_show_config_runs_nothing(
    run_app: RunApp, experiments: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_app("--cfg", "job", "seed=5") == 0
    assert "seed: 5" in capfd.readouterr().out
    assert experiments == []


def run_process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "knexa", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["seed=abc"], ["matchmaker=linucbb"], ["-m", "seed=1,x"]])
def test_real_process_refuses_a_mistake(tmp_path: Path, arguments: list[str]) -> None:
    result = run_process(*arguments, folder=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_failing_job_of_another_process_is_told_without_a_traceback(tmp_path: Path) -> None:
    arguments = ("-m", "hydra/launcher=joblib", "seed=1,2", "data=jsonl", "data.path=none.jsonl")
    result = run_process(*arguments, folder=tmp_path)
    assert result.returncode == 1
    assert "error: a job failed: data.path=none.jsonl: no such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_lists_groups_and_loads_neither_torch_nor_hydra(tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from knexa.cli.commands import run_command_line as run; run(['--help'])\n"
        "print(json.dumps([name for name in ('torch', 'hydra') if name in sys.modules]))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(output.splitlines()[-1]) == []
    assert "matchmaker" in output
    assert "*linucb" in output
    assert "seed=0" in output


def test_checking_a_config_loads_no_torch(
    run_app: RunApp, experiments: list[Any], tmp_path: Path
) -> None:
    code = (
        "import sys; from knexa.config import compose as c; from knexa.config.build import *\n"
        "plan = c.compose(c.parse_arguments([]))\n"
        "build_components(plan.jobs[0])\n"
        "print([name for name in ('torch', 'transformers', 'lightning', 'wandb', 'matplotlib')"
        " if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_the_command_line_tells_its_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "knexa", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("knexa ")
    assert "(Hydra " in done.stdout
