import errno
import io
import shutil

import pytest

from knexa.errors import UserError
from knexa.tracking.console import Console
from knexa.tracking.loggers import Csv, Logger
from knexa.tracking.rows import TimingRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker
from tests.tracking.tracking_examples import (
    NUM_ROUNDS,
    SUMMARY,
    log_round,
    round_rows,
    run_info,
    sample_rows,
    start_info,
)

NOT_COMPARED = {"timings.jsonl", "environment.json"}


def begin(run_dir, *, file=None, loggers=(), resumed=False):
    tracker = Tracker(run_dir, loggers, Console(file=file or io.StringIO()))
    tracker.start(run_info(run_dir.path, resumed=resumed), start_info(run_dir.path))
    return tracker


def whole_run(path, *, file=None):
    with RunDirectory(path) as run_dir:
        tracker = begin(run_dir, file=file, loggers=[Csv()])
        for round in range(NUM_ROUNDS + 1):
            log_round(tracker, round)
            run_dir.write_checkpoint(round, lambda folder: (folder / "cpm").write_text("A"))
        tracker.finish(SUMMARY, sample_rows())
    return run_dir


def content(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name not in NOT_COMPARED
    }


def test_a_finished_run_has_the_contracts_files(tmp_path):
    run_dir = whole_run(tmp_path / "run")
    assert run_dir.is_finished()
    assert run_dir.read_environment()["status"] == "finished"
    names = {path.relative_to(run_dir.path).as_posix() for path in run_dir.path.rglob("*.*")}
    assert names >= {
        "config.yaml",
        "environment.json",
        "rounds.jsonl",
        "exchanges.jsonl",
        "regret.jsonl",
        "samples.jsonl.zst",
        "summary.json",
        "timings.jsonl",
        "plots/learning_curve.png",
        "plots/regret.png",
        "plots/pairing_matrix.png",
        "plots/skills.png",
        "checkpoint/manifest.json",
    }


def test_equal_runs_write_equal_bytes(tmp_path):
    first, second = whole_run(tmp_path / "a"), whole_run(tmp_path / "b")
    assert content(first.path) == content(second.path)


def test_an_interrupted_and_resumed_run_writes_the_same_bytes(tmp_path):
    straight = whole_run(tmp_path / "straight")
    with RunDirectory(tmp_path / "resumed") as run_dir:
        tracker = begin(run_dir, loggers=[Csv()])
        for round in (0, 1):
            log_round(tracker, round)
            run_dir.write_checkpoint(round, lambda folder: (folder / "cpm").write_text("A"))
        tracker.log_rounds(round_rows(2)[:2])
        with run_dir.rows_path("exchanges").open("ab") as file:
            file.write(b'{"id": "r2-')
        tracker.fail("interrupted")
        assert run_dir.read_environment()["status"] == "interrupted"

        run_dir.truncate_after(run_dir.latest_checkpoint()[0])
        tracker = begin(run_dir, loggers=[Csv()], resumed=True)
        for round in (2, 3):
            log_round(tracker, round)
            run_dir.write_checkpoint(round, lambda folder: (folder / "cpm").write_text("A"))
        tracker.finish(SUMMARY, sample_rows())
    assert content(run_dir.path) == content(straight.path)


def test_done_comes_after_everything_else(tmp_path):
    class Looks(Logger):
        def finish(self, run_dir):
            seen.append(
                (
                    run_dir.done.exists(),
                    run_dir.summary.exists(),
                    len(list(run_dir.plots.iterdir())),
                )
            )

    seen = []
    with RunDirectory(tmp_path / "run") as run_dir:
        tracker = begin(run_dir, loggers=[Looks()])
        log_round(tracker, 0)
        log_round(tracker, 1)
        tracker.finish(SUMMARY, sample_rows())
        assert run_dir.done.exists()
    assert seen == [(False, True, 4)]


def test_failing_never_raises_over_the_first_error(tmp_path):
    run_dir = RunDirectory(tmp_path / "never" / "made")
    Tracker(run_dir, [], Console(file=io.StringIO())).fail("failed")


def test_plain_output_is_a_tree_a_line_per_round_and_a_table(tmp_path):
    file = io.StringIO()
    whole_run(tmp_path / "run", file=file)
    text = file.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("round ")]
    assert len(lines) == NUM_ROUNDS + 1
    assert lines[1].startswith("round 1/3  Pass@1 21.5%")
    assert "\x1b" not in text
    for expected in (
        "sees beyond profiles and rewards: probes",
        "2 workers: 2 cores, no GPU",
        "mean Jensen-Shannon 0.61",
        "landlock",
        "40.0%  (95 % CI 35.0% to 45.0%)",
        "0.3000  (random 0.9000; 3 probed rounds)",
        "10.0% -> 40.0%",
        "plots/: learning_curve, regret, pairing_matrix, skills",
    ):
        assert expected in text


def test_timings_without_a_round_are_of_the_round_under_way(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        tracker = begin(run_dir)
        for round in (0, 1):
            tracker.log_timing("teach", 0, 0.1)
            tracker.log_rounds(round_rows(round))
            tracker.end_round(round)
        tracker.fail("interrupted")
        tracker = begin(run_dir, resumed=True)
        tracker.log_timing("final", 0, 0.1)
        assert [row.round for row in run_dir.read_rows(TimingRow)] == [0, 1, 2]


def test_a_figure_that_cannot_be_drawn_does_not_lose_the_run(tmp_path, monkeypatch, caplog):
    def broken(run_dir):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("knexa.tracking.tracker.draw_plots", broken)
    assert whole_run(tmp_path / "run").is_finished()
    assert "the plots could not be drawn: RuntimeError: no fonts" in caplog.text


@pytest.mark.parametrize("where", ["plots", "logger"])
def test_a_full_disk_leaves_the_run_to_be_resumed(tmp_path, monkeypatch, where):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "plots":
        monkeypatch.setattr("knexa.tracking.tracker.draw_plots", full)
    else:
        monkeypatch.setattr(Csv, "log_round", full)
    with pytest.raises(OSError, match="No space left"):
        whole_run(tmp_path / "run")
    assert not RunDirectory(tmp_path / "run").is_finished()


def test_metrics_of_a_round_come_back(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        metrics = log_round(begin(run_dir), 1)
    assert metrics["cumulative_regret"] == pytest.approx(0.15)


@pytest.mark.parametrize("where", ["plots", "start", "log_round", "finish"])
def test_a_run_that_vanishes_is_no_mere_warning(tmp_path, monkeypatch, where):
    def vanish(*arguments):
        shutil.rmtree(tmp_path / "run")
        raise FileNotFoundError("gone")

    if where == "plots":
        monkeypatch.setattr("knexa.tracking.tracker.draw_plots", vanish)
    else:
        monkeypatch.setattr(Csv, where, vanish)
    with pytest.raises(UserError, match="has vanished while the run was going on"):
        whole_run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
