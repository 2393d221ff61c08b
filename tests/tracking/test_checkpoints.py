import json
import logging
import os

import pytest

from knexa.errors import UserError
from knexa.tracking.run_directory import SEALED_ROWS, RunDirectory
from tests.tracking.tracking_examples import append_rounds


@pytest.fixture
def run_dir(tmp_path):
    with RunDirectory(tmp_path / "run") as run_dir:
        yield run_dir


def save(run_dir, round, text=None):
    def write(folder):
        (folder / "agents").mkdir()
        (folder / "agents" / "0").write_text(text or f"state of round {round}")
        (folder / "cpm").write_text("A, b")

    return run_dir.write_checkpoint(round, write)


def state(run_dir):
    round, folder = run_dir.latest_checkpoint()
    return round, (folder / "agents" / "0").read_text()


def test_no_checkpoint_is_none(run_dir):
    assert run_dir.latest_checkpoint() is None


def test_the_latest_is_found_in_the_contracts_place(run_dir):
    for round in (1, 2, 3):
        save(run_dir, round)
    assert state(run_dir) == (3, "state of round 3")
    assert run_dir.latest_checkpoint()[1] == run_dir.path / "checkpoint"


def test_equal_states_have_equal_bytes(run_dir, tmp_path):
    save(run_dir, 1)
    other = RunDirectory(tmp_path / "other")
    save(other, 1)
    manifest = "checkpoint/manifest.json"
    assert (run_dir.path / manifest).read_bytes() == (other.path / manifest).read_bytes()


def test_a_crash_while_writing_leaves_the_last_one(run_dir):
    save(run_dir, 1)

    def crash(folder):
        (folder / "agents").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dir.write_checkpoint(2, crash)
    assert state(run_dir) == (1, "state of round 1")
    save(run_dir, 2)
    assert state(run_dir) == (2, "state of round 2")


@pytest.mark.parametrize("damage", ["content", "missing", "manifest", "cut"])
def test_a_damaged_one_is_reported_and_the_one_before_is_used(run_dir, caplog, damage):
    save(run_dir, 1)
    current = save(run_dir, 2)
    if damage == "content":
        (current / "agents" / "0").write_text("state of round X")
    elif damage == "missing":
        (current / "cpm").unlink()
    elif damage == "manifest":
        (current / "manifest.json").unlink()
    else:
        (current / "cpm").write_text("A")
    with caplog.at_level(logging.WARNING):
        assert state(run_dir) == (1, "state of round 1")
    assert "is damaged" in caplog.text
    save(run_dir, 2, "again")
    assert state(run_dir) == (2, "again")
    (current / "cpm").unlink()
    assert state(run_dir)[0] == 1  # the damaged one has not taken the good one's place


def test_a_crash_between_the_two_renames_loses_only_that_round(run_dir):
    save(run_dir, 1)
    (run_dir.path / "checkpoint").rename(run_dir.path / "checkpoint.previous")
    assert state(run_dir) == (1, "state of round 1")
    save(run_dir, 2)
    assert state(run_dir) == (2, "state of round 2")


def test_a_finished_run_keeps_one_checkpoint(run_dir):
    save(run_dir, 1)
    save(run_dir, 2)
    run_dir.mark_done()
    assert [path.name for path in run_dir.path.glob("checkpoint*")] == ["checkpoint"]


def live(run_dir, *rounds):
    """Write rows and a checkpoint of each round; return the bytes of the rows after each."""
    after = {}
    for round in rounds:
        for name in (*SEALED_ROWS, "timings"):
            append_rounds(run_dir, name, round, round, round)
        run_dir.sync()
        save(run_dir, round)
        after[round] = {name: run_dir.rows_path(name).read_bytes() for name in SEALED_ROWS}
    return after


def rounds(run_dir, name):
    return [json.loads(line)["round"] for line in run_dir.rows_path(name).read_bytes().splitlines()]


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_a_manifest_seals_the_rows_but_not_the_timings(run_dir):
    after = live(run_dir, 0, 1)
    manifest = json.loads((run_dir.path / "checkpoint" / "manifest.json").read_text())
    sizes = {name: entry["bytes"] for name, entry in manifest["rows"].items()}
    assert sizes == {f"{name}.jsonl": len(after[1][name]) for name in SEALED_ROWS}


@pytest.mark.parametrize("name", SEALED_ROWS)
@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_damaged_rows_take_the_run_back_to_the_round_before(run_dir, caplog, name, damage):
    after = live(run_dir, 0, 1, 2)
    path, length = run_dir.rows_path(name), len(after[1][name])
    append_rounds(run_dir, name, 3)
    if damage == "flipped":
        flip(path, length + 12)  # a digit of round 2: still a valid row
    elif damage == "cut":
        os.truncate(path, length + 5)
    else:
        path.unlink()
        path.write_bytes(after[1][name])
    with caplog.at_level(logging.WARNING):
        assert run_dir.rewind()[0] == 1
    assert f"{name}.jsonl is damaged" in caplog.text
    assert "going on from the checkpoint before the last one" in caplog.text
    assert {name: run_dir.rows_path(name).read_bytes() for name in SEALED_ROWS} == after[1]
    assert live(run_dir, 2)[2] == after[2]
    assert run_dir.rewind()[0] == 2


def test_rows_damaged_before_both_checkpoints_are_one_line_with_the_fix(run_dir):
    live(run_dir, 0, 1, 2)
    flip(run_dir.rows_path("rounds"), 12)
    before = run_dir.rows_path("rounds").read_bytes()
    with pytest.raises(UserError, match=r"rounds\.jsonl is damaged.*rerun=true"):
        run_dir.rewind()
    assert run_dir.rows_path("rounds").read_bytes() == before


def test_rewinding_cuts_later_rows_whatever_round_they_name(run_dir):
    after = live(run_dir, 0, 1)
    append_rounds(run_dir, "exchanges", 0)
    append_rounds(run_dir, "timings", 2)
    with run_dir.rows_path("rounds").open("ab") as file:
        file.write(b'{"round": 2, "val')
    assert run_dir.rewind()[0] == 1
    assert {name: run_dir.rows_path(name).read_bytes() for name in SEALED_ROWS} == after[1]
    assert set(rounds(run_dir, "timings")) == {0, 1}


def test_damaged_timings_cost_a_line_and_not_the_run(run_dir, caplog):
    live(run_dir, 0, 1)
    flip(run_dir.rows_path("timings"), 0)
    assert run_dir.rewind()[0] == 1
    assert "timings.jsonl: line 1 is damaged" in caplog.text
    assert len(rounds(run_dir, "timings")) == 5


@pytest.mark.parametrize("old", ['"round": 2', '"bytes": 4', "cpm"])
def test_a_changed_manifest_is_noticed(run_dir, old):
    live(run_dir, 1, 2)
    manifest = run_dir.path / "checkpoint" / "manifest.json"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, f"{old[:-1]}{chr(ord(old[-1]) ^ 1)}", 1))
    assert run_dir.rewind()[0] == 1


def test_a_manifest_from_before_rows_were_sealed_still_serves(run_dir):
    live(run_dir, 1)
    manifest = run_dir.path / "checkpoint" / "manifest.json"
    document = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({key: document[key] for key in ("round", "files")}))
    append_rounds(run_dir, "rounds", 2)
    assert run_dir.rewind()[0] == 1
    assert set(rounds(run_dir, "rounds")) == {1}


def test_without_an_intact_checkpoint_the_run_starts_over_and_says_so(run_dir, caplog):
    live(run_dir, 1, 2)
    for name in ("checkpoint", "checkpoint.previous"):
        flip(run_dir.path / name / "cpm", 0)
    flip(run_dir.rows_path("rounds"), 0)
    assert run_dir.rewind() is None
    assert "starts from the beginning" in caplog.text
    assert rounds(run_dir, "rounds") == []


def test_what_a_kill_left_of_a_file_is_swept_away(run_dir):
    live(run_dir, 1)
    (run_dir.path / ".summary.json.tmp").write_bytes(b"{")
    run_dir.rewind()
    assert not list(run_dir.path.glob(".*.tmp"))
    assert (run_dir.path / ".lock").exists()
