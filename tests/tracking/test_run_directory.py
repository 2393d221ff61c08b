import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from knexa.errors import UserError
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, TimingRow
from knexa.tracking.run_directory import ROW_FILES, RunDirectory
from knexa.tracking.schema import ShapeError
from tests.row_examples import costs, exchange_row, regret_row, round_row, sample_row, summary
from tests.tracking.tracking_examples import append_rounds


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


def rows(*rounds):
    return [round_row(round=round, clock_s=round / 3) for round in rounds]


def test_constructing_touches_nothing(tmp_path):
    RunDirectory(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_rows_keep_key_order_and_every_bit_of_a_float(run_dir):
    value = 0.1 + 0.2
    run_dir.append([exchange_row(kilobytes=value, score=np.float32(0.1), items_sent=np.int64(3))])
    text = run_dir.rows_path("exchanges").read_text()
    assert '"protocol": "akd", "score": 0.10000000149011612, "reward_raw"' in text
    assert '"kilobytes": 0.30000000000000004, "items_sent": 3, "items_kept"' in text
    assert run_dir.read_rows(ExchangeRow)[0].kilobytes == value


def test_nan_and_infinity_become_null(run_dir):
    written = run_dir.append([regret_row(rewards=((np.nan, 1.0), (np.inf, -np.inf)))])
    assert run_dir.read_rows(RegretRow) == written
    assert written[0].rewards == ((None, 1.0), (None, None))


@pytest.mark.parametrize(("value", "error"), [(object(), TypeError), ("one", ShapeError)])
def test_what_is_no_value_of_its_column_is_refused_and_nothing_is_written(run_dir, value, error):
    with pytest.raises(error):
        run_dir.append([round_row(round=1), round_row(round=value)])
    assert run_dir.read_rows(RoundRow) == []


def test_reading_leaves_out_a_torn_last_line(run_dir):
    run_dir.append(rows(1))
    with run_dir.rows_path("rounds").open("ab") as file:
        file.write(b'{"round": 2, "val')
    assert run_dir.read_rows(RoundRow) == rows(1)


@pytest.mark.parametrize("torn", [b"", b'{"round": 2, "val', b'{"round"\n', b"\x00\x00\n"])
@pytest.mark.parametrize("name", ROW_FILES)
def test_truncating_drops_later_rounds_and_torn_ends(run_dir, name, torn):
    append_rounds(run_dir, name, 0, 1, 1)
    expected = run_dir.rows_path(name).read_bytes()
    append_rounds(run_dir, name, 2, 3)
    with run_dir.rows_path(name).open("ab") as file:
        file.write(torn)
    run_dir.truncate_after(1)
    assert run_dir.rows_path(name).read_bytes() == expected


def test_truncating_to_before_the_start_drops_all_rows(run_dir):
    append_rounds(run_dir, "timings", 0, 1, None)
    run_dir.truncate_after(-1)
    assert run_dir.read_rows(TimingRow) == []


def test_damage_in_the_middle_is_an_error_not_a_gap(run_dir):
    run_dir.rows_path("rounds").write_bytes(b'{"round": 1}\n{"rou\n{"round": 2}\n')
    with pytest.raises(UserError, match=r"rounds\.jsonl: line 2 is damaged.*rerun=true"):
        run_dir.truncate_after(2)


def test_a_second_use_in_this_process_is_refused(run_dir):
    with pytest.raises(UserError, match="in use by process"):
        RunDirectory(run_dir.path).acquire()


def test_a_second_process_is_refused_with_the_holders_id(run_dir):
    code = (
        "import sys; from knexa.errors import UserError\n"
        "from knexa.tracking.run_directory import RunDirectory\n"
        "try: RunDirectory(sys.argv[1]).acquire()\n"
        "except UserError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run_dir.path)], capture_output=True, text=True, check=True
    )
    holder = run_dir.path.joinpath(".lock").read_text().strip()
    assert f"in use by process {holder};" in done.stdout


def test_a_killed_holder_gives_the_run_back(tmp_path):
    code = (
        "import os, signal, sys; from knexa.tracking.run_directory import RunDirectory\n"
        "RunDirectory(sys.argv[1]).acquire(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert (tmp_path / "run" / ".lock").exists()
    with RunDirectory(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_config_is_written_in_the_given_order(run_dir):
    run_dir.write_config({"seed": 1, "matchmaker": {"b": [1, 2], "a": "${not_resolved}"}})
    assert run_dir.config.read_text() == (
        "seed: 1\nmatchmaker:\n  b:\n  - 1\n  - 2\n  a: ${not_resolved}\n"
    )


def test_environment_tells_versions_status_and_resumes(run_dir):
    run_dir.start_environment({"engine": {"num_workers": 2}})
    first = run_dir.read_environment()
    assert first["status"] == "running"
    assert first["end"] is None
    assert first["packages"]["numpy"] == np.__version__
    assert first["engine"] == {"num_workers": 2}
    run_dir.end_environment("interrupted")
    assert run_dir.read_environment()["status"] == "interrupted"
    run_dir.start_environment()
    again = run_dir.read_environment()
    assert again["start"] == first["start"]
    assert [session["status"] for session in again["sessions"]] == ["interrupted", "running"]


def test_environment_keeps_how_every_session_ended(run_dir):
    run_dir.start_environment()
    run_dir.end_environment("interrupted", "SIGTERM")
    run_dir.start_environment()  # and is killed: nothing is written
    run_dir.start_environment()
    run_dir.end_environment("failed", "RuntimeError: no luck")
    run_dir.start_environment()
    run_dir.end_environment("finished")
    sessions = run_dir.read_environment()["sessions"]
    assert [(session["status"], session["because"]) for session in sessions] == [
        ("interrupted", "SIGTERM"),
        ("killed", None),
        ("failed", "RuntimeError: no luck"),
        ("finished", None),
    ]
    assert [session["end"] is None for session in sessions] == [False, True, False, False]


def test_summary_is_sorted_and_a_missing_one_is_explained(run_dir):
    with pytest.raises(UserError, match=r"no summary\.json: the run did not finish"):
        run_dir.read_summary()
    run_dir.write_summary(summary())
    keys = list(json.loads(run_dir.summary.read_text()))
    assert keys == sorted(keys)
    assert run_dir.read_summary() == summary()


def test_a_damaged_summary_is_one_line_with_the_fix(run_dir):
    run_dir.summary.write_bytes(b'{"a": 1,')
    with pytest.raises(UserError, match=r"summary\.json is damaged.*rerun=true"):
        run_dir.read_summary()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(UserError, match=r"cannot make .*outputs"):
        RunDirectory(tmp_path / "outputs" / "run").acquire()


def test_samples_come_back_and_equal_ones_have_equal_bytes(run_dir):
    samples = [sample_row(task_id=f"t/{i}", completion="\ud800 odd\n") for i in range(50)]
    run_dir.write_samples(samples)
    first = run_dir.samples.read_bytes()
    run_dir.write_samples(samples)
    assert run_dir.samples.read_bytes() == first
    assert run_dir.read_samples() == samples


def test_a_summary_that_could_not_be_read_back_is_not_written(run_dir):
    with pytest.raises(ShapeError, match=r"costs|kilobytes"):
        run_dir.write_summary(summary(costs=costs(kilobytes=float("nan"))))
    assert not run_dir.summary.exists()


def test_clearing_leaves_nothing_but_the_lock(run_dir):
    run_dir.write_summary(summary())
    run_dir.mark_done()
    run_dir.write_checkpoint(1, lambda folder: (folder / "state").write_text("x"))
    run_dir.clear()
    assert [path.name for path in run_dir.path.iterdir()] == [".lock"]


def remove_last_row(path):
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def replace_by_a_copy(path):
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


MEDDLING = {
    "a row removed": (remove_last_row, r"has \d+ bytes and should have \d+"),
    "a row added": (lambda path: path.write_bytes(path.read_bytes() + b"{}\n"), "should have"),
    "emptied": (lambda path: path.write_bytes(b""), "has 0 bytes"),
    "deleted": (lambda path: path.unlink(), "has been removed"),
    "replaced by its copy": (replace_by_a_copy, "has been replaced"),
}


@pytest.mark.parametrize("meddling", MEDDLING)
def test_rows_that_something_else_changes_stop_the_run_at_the_next_row(run_dir, meddling):
    run_dir.append(rows(1, 2))
    path = run_dir.rows_path("rounds")
    change, told = MEDDLING[meddling]
    change(path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(UserError, match=rf"rounds\.jsonl .*{told}.*type the same command again"):
        run_dir.append(rows(3))
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize("resumed", [False, True])
def test_rows_that_change_before_a_sessions_first_row_stop_the_run(run_dir, resumed):
    path = run_dir.rows_path("rounds")
    if resumed:
        run_dir.append(rows(1))
        run_dir.write_checkpoint(1, lambda folder: (folder / "cpm").write_text("A"))
    run_dir.rewind()
    if resumed:
        path.unlink()
    else:
        path.write_bytes(b"{}\n")
    with pytest.raises(UserError, match=r"rounds\.jsonl has"):
        run_dir.append(rows(2))


@pytest.mark.parametrize("name", ["rounds", "timings"])
def test_rows_edited_in_place_are_noticed_before_the_run_counts_as_finished(run_dir, name):
    append_rounds(run_dir, name, 1, 2)
    path = run_dir.rows_path(name)
    content = path.read_bytes()
    with path.open("rb+") as file:
        file.write(content.replace(b'"round": 1', b'"round": 3'))
    run_dir.append(rows(5))
    with pytest.raises(UserError, match=rf"{name}\.jsonl has been replaced or changed"):
        run_dir.mark_done()
    assert not run_dir.done.exists()


def test_a_checkpoint_seals_what_was_written_and_not_what_became_of_it(run_dir):
    run_dir.append(rows(1))
    run_dir.write_checkpoint(1, lambda folder: (folder / "cpm").write_text("A"))
    run_dir.append(rows(2))
    with run_dir.rows_path("rounds").open("rb+") as file:
        file.write(b'{"round": 7')
    run_dir.write_checkpoint(2, lambda folder: (folder / "cpm").write_text("B"))
    with pytest.raises(UserError, match=r"rounds\.jsonl is damaged.*rerun=true"):
        run_dir.rewind()


WRITES = {
    "rows": lambda run_dir: run_dir.append(rows(2)),
    "a first row": lambda run_dir: run_dir.append([exchange_row()]),
    "a checkpoint": lambda run_dir: run_dir.write_checkpoint(2, lambda folder: None),
    "samples": lambda run_dir: run_dir.write_samples([sample_row()]),
    "the summary": lambda run_dir: run_dir.write_summary(summary()),
    "the config": lambda run_dir: run_dir.write_config({"seed": 1}),
    "the environment": lambda run_dir: run_dir.end_environment("finished"),
    "the end": lambda run_dir: run_dir.mark_done(),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("gone", ["removed", "moved", "its lock removed", "made anew"])
def test_a_run_that_vanishes_is_one_line_and_is_not_made_again(run_dir, tmp_path, write, gone):
    run_dir.append(rows(1))
    run_dir.start_environment()
    if gone == "removed":
        shutil.rmtree(run_dir.path)
    elif gone == "its lock removed":
        (run_dir.path / ".lock").unlink()
    else:
        run_dir.path.rename(tmp_path / "elsewhere")
    if gone == "made anew":
        run_dir.path.mkdir()
    left = sorted(tmp_path.rglob("*"))
    told = "vanished" if gone in ("removed", "moved") else "lock has been removed"
    with pytest.raises(UserError, match=rf"{told}.*type the same command again"):
        WRITES[write](run_dir)
    assert sorted(tmp_path.rglob("*")) == left
