import logging

import pytest

from knexa.tracking.run_directory import RunDirectory


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
