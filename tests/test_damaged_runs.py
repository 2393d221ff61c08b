"""A finished run is checked by whoever reads it: every damage is one line, and nothing is read.

One real run, small; each damage is done to a copy of it.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from knexa.cli.commands import run_command_line
from knexa.tracking import done
from tests.torture import OVERRIDES
from tests.whole_runs import run as run_to_its_end

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FILES = (
    *done.FILES,
    done.ENVIRONMENT,
    done.TIMINGS,
    "checkpoint/agents/1.safetensors",
    "checkpoint/cpm.safetensors",
    "checkpoint/manifest.json",
    "DONE",
)
COMMAND = (*OVERRIDES, "logger=none", "engine.num_workers=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a run was typed that ended well."""
    folder = tmp_path_factory.mktemp("finished")
    run_to_its_end(folder, *COMMAND)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where this process is."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def run_in(folder: Path) -> Path:
    (run,) = folder.glob("outputs/smoke/*")
    return run


def commands(run: Path, to: Path) -> dict[str, list[str]]:
    return {
        "knexa": [*COMMAND],
        "report": ["report", str(run)],
        "export": ["export", str(run), "--agent", "1", "--to", str(to)],
    }


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(1, path.stat().st_size))


def make_longer(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content + content[-rng.randrange(1, len(content)) :])


def flip_a_bit(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def swap(path: Path, rng: random.Random) -> None:
    run = path.parents[len(path.relative_to(Path.cwd()).parts) - 4]
    other = run / rng.choice([name for name in FILES if not path.match(name)])
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def replace_by_folder(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    (path / path.name).write_bytes(content)


def replace_by_pipe(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_link(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(["nowhere", "/dev/null", "/dev/zero", "/etc/passwd"]))


KINDS: dict[str, Callable[[Path, random.Random], object]] = {
    "deleted": lambda path, rng: path.unlink(),
    "emptied": lambda path, rng: path.write_bytes(b""),
    "cut": cut,
    "longer": make_longer,
    "a bit flipped": flip_a_bit,
    "swapped with another": swap,
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
    "a link": replace_by_link,
}


def damages() -> Iterator[tuple[str, str]]:
    """Yield kind and file: all of them, but the removal of DONE, which makes a run unfinished."""
    for kind in KINDS:
        yield from ((kind, name) for name in FILES if (kind, name) != ("deleted", "DONE"))


def check_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], whose: list[str] | None = None
) -> list[str]:
    """Check that each command says one line and reads nothing; return the lines."""
    run, lines = run_in(folder), []
    for name, command in commands(run, folder / "adapter").items():
        if whose is not None and name not in whose:
            continue
        assert run_command_line(command) == 2, name
        told = capfd.readouterr()
        assert told.out == "", name
        assert told.err.startswith("error: "), told.err
        assert told.err.count("\n") == 1, told.err
        assert any(mend in told.err for mend in ("restore it from a copy", "remove it")), told.err
        lines.append(told.err)
    assert not (folder / "adapter").exists()
    return lines


@pytest.mark.parametrize("kind", KINDS)
def test_every_damage_to_every_file_is_one_line(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, kind: str
) -> None:
    rng = random.Random(f"damages {kind}")
    for number, (_, name) in enumerate(item for item in damages() if item[0] == kind):
        folder = tmp_path / str(number)
        shutil.copytree(finished, folder)
        monkeypatch.chdir(folder)
        run = run_in(folder)
        KINDS[kind](run / name, rng)
        left = sorted(run.rglob("*"))
        # Composing the whole command line takes its time: every other damage gets it.
        whose = ["report", "export"] if number % 2 else None
        for line in check_refused(folder, capfd, whose):
            assert kind == "swapped with another" or str(run / name) in line, line
        assert sorted(run.rglob("*")) == left
        shutil.rmtree(folder)


def test_an_undamaged_copy_is_read_by_all(folder: Path, capfd) -> None:
    for name, command in commands(run_in(folder), folder / "adapter").items():
        assert run_command_line(command) == 0, name
    told = capfd.readouterr()
    assert "is finished" in told.out
    assert told.err == ""


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("summary.json", b'"seed": 7', b'"seed": 8'),
        ("summary.json", b"\n", b"\r\n"),
        ("config.yaml", b"seed: 7", b"seed: 9"),
        ("environment.json", b'"finished"', b'"killed"'),
        ("rounds.jsonl", b'"round": 1', b'"round": 2'),
        ("DONE", b'"bytes": ', b'"bytes":  '),
        ("DONE", b"{", b"[{"),
    ],
)
def test_a_change_by_hand_is_one_line(folder: Path, capfd, name, old, new) -> None:
    path = run_in(folder) / name
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    assert all(str(path) in line for line in check_refused(folder, capfd))


def test_a_row_removed_and_two_rows_exchanged_are_one_line(folder: Path, capfd) -> None:
    path = run_in(folder) / "rounds.jsonl"
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:-1]))
    assert all("bytes when" in line or "and" in line for line in check_refused(folder, capfd))
    path.write_bytes(b"".join([rows[1], rows[0], *rows[2:]]))
    assert all("checksum differs" in line for line in check_refused(folder, capfd))


def test_what_was_added_to_the_contract_is_one_line(folder: Path, capfd) -> None:
    run = run_in(folder)
    (run / "checkpoint" / "agents" / "9.safetensors").write_bytes(b"")
    assert all("was not there" in line for line in check_refused(folder, capfd))


def test_a_checkpoint_that_is_gone_is_one_line(folder: Path, capfd) -> None:
    shutil.rmtree(run_in(folder) / "checkpoint")
    assert all("checkpoint/" in line for line in check_refused(folder, capfd))


def test_links_to_equal_files_and_files_of_ones_own_are_no_damage(folder: Path) -> None:
    run = run_in(folder)
    (run / "checkpoint").rename(folder / "elsewhere")
    (run / "checkpoint").symlink_to(folder / "elsewhere")
    (run / "notes.txt").write_text("mine")
    shutil.rmtree(run / "plots")
    for name, command in commands(run, folder / "adapter").items():
        assert run_command_line(command) == 0, name


def test_without_its_marker_a_run_makes_its_end_anew_and_equals_the_whole_one(
    folder: Path, finished: Path
) -> None:
    run, whole = run_in(folder), run_in(finished)
    for name in ("DONE", "summary.json", "samples.jsonl.zst"):
        (run / name).unlink()
    assert run_command_line([*COMMAND]) == 0
    for name in (*done.FILES, "DONE"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_rerun_replaces_whatever_a_run_has_become(folder: Path, finished: Path) -> None:
    run, whole, rng = run_in(folder), run_in(finished), random.Random(1)
    for name, damage in (
        ("DONE", replace_by_folder),
        ("summary.json", replace_by_pipe),
        ("config.yaml", replace_by_link),
        ("checkpoint/manifest.json", replace_by_folder),
    ):
        damage(run / name, rng)
    assert run_command_line([*COMMAND, "rerun=true"]) == 0
    for name in (*done.FILES, "DONE"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
