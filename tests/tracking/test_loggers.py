import csv
import importlib.util
import inspect
from pathlib import Path

import pytest
import yaml

from knexa.config.components import instantiate
from knexa.errors import UserError
from knexa.tracking.console import Console
from knexa.tracking.loggers import Csv, Logger, NoLogger, TensorBoard
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker
from tests.tracking.tracking_examples import (
    NUM_ROUNDS,
    SUMMARY,
    log_round,
    run_info,
    sample_rows,
    start_info,
)

CONF = Path(__file__).parents[2] / "conf" / "logger"


def record(run_dir, logger, rounds, *, resumed=False, finish=False):
    tracker = Tracker(run_dir, [logger], Console(quiet=True))
    tracker.start(run_info(run_dir.path, resumed=resumed), start_info(run_dir.path))
    for round in rounds:
        log_round(tracker, round)
    if finish:
        tracker.finish(SUMMARY, sample_rows())
    return tracker


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_names_all_parameters_and_says_how_to_run_it(path):
    node = yaml.safe_load(path.read_text())
    logger = instantiate(node, key="logger")
    assert isinstance(logger, Logger)
    assert set(node) - {"_target_"} == set(inspect.signature(type(logger)).parameters)
    assert path.read_text().startswith(f"# python -m knexa logger={path.stem}")


def test_csv_has_a_row_per_round_and_a_column_per_metric(run_dir):
    record(run_dir, Csv(), range(NUM_ROUNDS + 1))
    with (run_dir.path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["round"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[1]["pass@1_greedy"]) == pytest.approx(0.215)
    assert rows[0]["exchange/reward"] == ""  # nothing was exchanged before round 1


@pytest.mark.parametrize(
    ("logger", "name"),
    [(Csv, "metrics.csv"), (TensorBoard, "tensorboard/events.out.tfevents.knexa")],
)
def test_a_resumed_runs_file_equals_an_uninterrupted_ones(tmp_path, run_dir, logger, name):
    with RunDirectory(tmp_path / "straight") as straight:
        record(straight, logger(), range(4))
    record(run_dir, logger(), range(3)).fail("interrupted")
    run_dir.truncate_after(1)
    record(run_dir, logger(), [2, 3], resumed=True)
    assert (run_dir.path / name).read_bytes() == (straight.path / name).read_bytes()


def test_tensorboard_reads_back_what_was_logged(run_dir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record(run_dir, TensorBoard(), range(3))
    events = EventAccumulator(str(run_dir.path / "tensorboard")).Reload()
    curve = events.Scalars("pass_at_1_greedy")
    assert [point.step for point in curve] == [0, 1, 2]
    assert curve[1].value == pytest.approx(0.215)


def test_a_missing_tensorboard_is_said_before_anything_is_written(run_dir, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'knexa\[tensorboard\]'"):
        record(run_dir, TensorBoard(), [])
    assert [path.name for path in run_dir.path.iterdir()] == [".lock"]


class Breaks(Logger):
    def __init__(self, where):
        self.where, self.calls = where, []

    def _called(self, name):
        self.calls.append(name)
        if name == self.where:
            raise RuntimeError("broken")

    def start(self, run):
        self._called("start")

    def log_round(self, round, metrics):
        self._called("log_round")

    def finish(self, run_dir):
        self._called("finish")
        return None


@pytest.mark.parametrize("where", ["start", "log_round", "finish"])
def test_a_failing_logger_is_left_out_with_one_warning_and_the_run_ends_well(
    run_dir, caplog, where
):
    logger = Breaks(where)
    record(run_dir, logger, range(3), finish=True)
    assert run_dir.is_finished()
    assert logger.calls.count(where) == 1
    assert [entry.levelname for entry in caplog.records if "Breaks" in entry.message] == ["WARNING"]


def test_no_logger_writes_nothing_more(run_dir):
    record(run_dir, NoLogger(), [0])
    assert sorted(path.name for path in run_dir.path.iterdir() if path.name != ".lock") == [
        "config.yaml",
        "environment.json",
        "rounds.jsonl",
        "timings.jsonl",
    ]
