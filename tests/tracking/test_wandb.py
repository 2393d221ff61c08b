import json
import subprocess
import sys
import time

import pytest

from knexa.tracking.console import Console
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker
from knexa.tracking.wandb_logger import Wandb
from tests.tracking.tracking_examples import (
    NUM_ROUNDS,
    SUMMARY,
    log_round,
    run_info,
    sample_rows,
    start_info,
)

FAKES = {
    "failing import": "raise ImportError('no such luck')",
    "failing init": "Settings = dict\ndef init(**options): raise RuntimeError('no such luck')",
    "hanging import": "import time\nwhile True: time.sleep(3600)",
    "hanging init": "import time\nSettings = dict\n"
    "def init(**options):\n    while True: time.sleep(3600)",
}


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


def begin(run_dir, logger, *, resumed=False):
    tracker = Tracker(run_dir, [logger], Console(quiet=True))
    tracker.start(run_info(run_dir.path, resumed=resumed), start_info(run_dir.path))
    return tracker


def offline_runs(run_dir):
    return list((run_dir.path / "wandb").glob("offline-run-*"))


def inspect(run_dir, kind):
    """Return the records of one kind in the run's one offline W&B run, read by W&B's own reader."""
    (folder,) = offline_runs(run_dir)
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return [record[kind] for record in records if record.get("type") == kind]


def history(run_dir):
    return [record["item"] for record in inspect(run_dir, "history")]


@pytest.mark.slow
def test_an_offline_run_has_rounds_tables_plots_and_settings(run_dir, capsys):
    tracker = begin(run_dir, Wandb(tags=("mine",), finish_timeout_s=120))
    for round in range(NUM_ROUNDS + 1):
        log_round(tracker, round)
    tracker.finish(SUMMARY, sample_rows())
    assert f"W&B: wandb sync {offline_runs(run_dir)[0]}" in capsys.readouterr().out

    (run,) = inspect(run_dir, "run")
    assert (run["run_id"], run["display_name"]) == ("0123abcd", "linucb-s7-0123abcd")
    assert (run["project"], run["run_group"], run["job_type"]) == ("knexa", "default", "linucb")
    assert sorted(run["tags"]) == ["mine", "tiny"]
    assert run["config"]["update"]["matchmaker"] == {"lambda_": 1.0}
    rows = history(run_dir)
    curve = [(row["round"], row["pass@1_greedy"]) for row in rows if "pass@1_greedy" in row]
    assert [round for round, _ in curve] == [0, 1, 2, 3]
    assert curve[1][1] == pytest.approx(0.215)
    logged = set().union(*rows)
    assert {"cumulative_regret", "codebleu_fixed", "agents/2/pass@1_greedy"} <= logged
    for name in ("tables/final", "tables/pairing_matrix", "plots/regret", "plots/pairing_matrix"):
        assert any(key.startswith(name) for key in logged), name
    metrics = {metric.get("name"): metric for metric in inspect(run_dir, "metric")}
    assert "round" in metrics
    assert metrics[None]["glob_name"] == "*"
    assert metrics[None]["step_metric"] == "round"
    assert metrics["pass@1_greedy"]["summary"] == {"max": True, "last": True}
    final = next(
        row["update"] for row in inspect(run_dir, "summary") if "final/pass@1" in row["update"]
    )
    assert final["final/pass@1"] == 0.4


@pytest.mark.slow
def test_a_resumed_run_rewrites_its_offline_run_from_the_files(run_dir):
    first = Wandb(finish_timeout_s=120)
    tracker = begin(run_dir, first)
    for round in range(3):
        log_round(tracker, round)
    tracker.fail("interrupted")
    assert first._process.wait(timeout=120) == 0
    (old,) = offline_runs(run_dir)
    assert [row["round"] for row in history(run_dir)] == [0, 1, 2]
    (old / "marker").touch()

    run_dir.truncate_after(1)
    tracker = begin(run_dir, Wandb(finish_timeout_s=120), resumed=True)
    for round in (2, 3):
        log_round(tracker, round)
    tracker.finish(SUMMARY, sample_rows())
    (new,) = offline_runs(run_dir)
    assert not (new / "marker").exists()
    rounds = [row["round"] for row in history(run_dir) if "pass@1_greedy" in row]
    assert rounds == [0, 1, 2, 3]


FAKE_ONLINE = (
    "Settings = dict\n"
    "class Run:\n"
    "    def __init__(self, resume): self.summary = {'round': 1} if resume else {}\n"
    "    def define_metric(self, *a, **k): pass\n"
    "    def log(self, row): print('logged', row['round'], flush=True)\n"
    "    def finish(self, exit_code): print('exit', exit_code, flush=True)\n"
    "def init(**options):\n"
    "    print(options['mode'], options['resume'], options['id'], flush=True)\n"
    "    return Run(options['resume'])\n"
)
"""W&B's server has rounds 0 and 1 of a run of this id, which a run that does not resume drops."""


@pytest.mark.parametrize("fake", FAKES)
def test_a_failing_or_hanging_wandb_neither_slows_nor_fails_the_run(
    run_dir, tmp_path, monkeypatch, capsys, fake
):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(FAKES[fake])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    hanging = fake.startswith("hanging")
    logger = Wandb(finish_timeout_s=0.3 if hanging else 60, linger_s=1)

    calls = {}

    def timed(name, call, *arguments):
        begun = time.perf_counter()
        result = call(*arguments)
        calls[name] = max(calls.get(name, 0.0), time.perf_counter() - begun)
        return result

    timed("start", logger.start, run_info(run_dir.path))
    for round in range(2000):
        timed("log", logger.log_round, round, {})
    note = timed("finish", logger.finish, run_dir)

    # generous for a busy machine: a call that waited for the mirror would take an hour
    assert calls["start"] < 20
    assert calls["log"] < 20
    assert str((run_dir.path / "wandb") / "mirror.log") in note
    assert "\n" not in note
    if hanging:
        assert calls["finish"] < 20
        assert "goes on by itself" in note
    else:
        assert "the run is complete without it" in note
        assert "no such luck" in ((run_dir.path / "wandb") / "mirror.log").read_text()
    # and a mirror that hangs ends itself
    assert logger._process.wait(timeout=60) == (3 if hanging else 1)


def test_a_new_mirror_ends_one_that_still_hangs(run_dir, tmp_path, monkeypatch):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(
        "import pathlib, time\npathlib.Path(__file__).with_name('there').touch()\n"
        "while True: time.sleep(3600)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    first = Wandb(linger_s=3600)
    first.start(run_info(run_dir.path))
    while not (tmp_path / "fake" / "there").exists():
        assert first._process.poll() is None
    first.abort()
    (tmp_path / "fake" / "wandb.py").write_text("raise ImportError('no such luck')")
    second = Wandb(finish_timeout_s=60)
    second.start(run_info(run_dir.path))
    assert "W&B failed" in second.finish(run_dir)
    assert first._process.wait(timeout=60) != 0


@pytest.mark.parametrize(
    ("resumed", "logged"),
    [
        (True, ["online allow 0123abcd", "logged 2", "logged 3"]),
        (False, ["online None 0123abcd", "logged 0", "logged 1", "logged 2", "logged 3"]),
    ],
    ids=["a resumed run is not told its rounds twice", "rerun=true replaces the old rounds"],
)
def test_an_online_run_has_every_round_once(run_dir, tmp_path, monkeypatch, resumed, logged):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "wandb.py").write_text(FAKE_ONLINE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    logger = Wandb(mode="online", linger_s=60)
    tracker = begin(run_dir, logger, resumed=resumed)
    for round in range(4):
        log_round(tracker, round)
    tracker.fail("failed")
    assert logger._process.wait(timeout=60) == 0
    printed = ((run_dir.path / "wandb") / "mirror.log").read_text().splitlines()
    assert printed == [*logged, "exit 1"]


def test_the_mirror_of_a_damaged_run_says_so_in_one_line_and_pushes_nothing(run_dir):
    tracker = begin(run_dir, Wandb(mode="disabled"))
    log_round(tracker, 0)
    log_round(tracker, 1)
    tracker.finish(SUMMARY, sample_rows())
    run_dir.summary.write_text(run_dir.summary.read_text().replace("0.4", "0.5"))
    command = [sys.executable, "-m", "knexa.tracking.wandb_mirror", str(run_dir.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {run_dir.summary} is not what the run wrote")
    assert done.stderr.count("\n") == 1
    assert not (run_dir.path / "wandb").exists()


def test_disabled_starts_nothing(run_dir):
    logger = Wandb(mode="disabled")
    logger.start(run_info(run_dir.path))
    logger.log_round(1, {})
    assert logger.finish(run_dir) is None
    assert not (run_dir.path / "wandb").exists()


def test_a_run_that_failed_before_its_start_can_be_aborted():
    Wandb().abort()


def test_components_load_nothing_heavy():
    code = (
        "import sys, knexa.tracking.wandb_logger, knexa.tracking.loggers, knexa.tracking.tracker\n"
        "heavy = {'wandb', 'matplotlib', 'torch', 'tensorboard', 'omegaconf', 'zstandard'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
