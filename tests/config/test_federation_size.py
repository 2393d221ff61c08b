"""One key sets the number of agents; the training pool follows, or the command is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from knexa.cli.organisation import organisation_settings
from knexa.config import compose
from knexa.config.build import build_components
from knexa.data.codelets import Codelets
from knexa.errors import UserError
from knexa.federation.settings import LLMSettings


def data_of(*overrides: str) -> Codelets:
    settings = organisation_settings(overrides)
    assert isinstance(settings, LLMSettings)
    assert isinstance(settings.data, Codelets)
    return settings.data


@pytest.mark.parametrize(
    ("overrides", "num_train"),
    [
        ([], 348),
        (["roster.size=6"], 348),
        (["roster.size=12"], 696),
        (["roster.size=24"], 1392),
        (["roster.size=2"], 116),
        (["roster.size=12", "data.num_train=348"], 348),
    ],
)
def test_the_training_pool_follows_the_roster_unless_it_is_set(
    overrides: list[str], num_train: int
) -> None:
    assert data_of(*overrides).num_train == num_train


def test_a_roster_without_the_key_has_the_default_pool(tmp_path: Path) -> None:
    (tmp_path / "roster").mkdir()
    text = (Path(__file__).parents[2] / "conf" / "roster" / "tiny6.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("size:")]
    assert len(lines) == len(text.splitlines()) - 1
    (tmp_path / "roster" / "mine.yaml").write_text("\n".join(lines))
    arguments = compose.parse_arguments(["-cd", str(tmp_path), "roster=mine"])
    (job,) = compose.compose(arguments).jobs
    assert build_components(job)[1].data == Codelets()


@pytest.mark.parametrize("size", ["0", "-3", "many", "1.5", "true"])
def test_a_wrong_size_is_told_of_as_the_rosters(size: str) -> None:
    with pytest.raises(UserError, match=rf"^roster\.size={size}: must be"):
        organisation_settings([f"roster.size={size}"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["roster.size=40", "data.num_train=348"], "at most 17 agents; lower partition.min_train"),
        (["roster.size=12", "partition=sizes"], "sizes for 6 agents but the roster has 12"),
        (["partition=sizes", "data.num_train=350"], "sum to 348 but the pool has 350"),
        (["partition=iid", "roster.size=9", "data.num_train=16"], "at most 8 agents"),
        (["roster.size=60"], "the generator has 3072 distinct problems"),
        (["data=humaneval_mbpp", "roster.size=18"], "at most 17 agents"),
    ],
)
def test_agents_that_cannot_all_have_enough_are_refused_by_the_check(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(UserError) as error:
        organisation_settings(overrides)
    assert words in str(error.value)


def test_no_job_of_a_multirun_starts_where_one_cannot_be_dealt(tmp_path: Path) -> None:
    command = ["-m", "dry_run=true", "roster.size=6,40", "data.num_train=348", "logger=none"]
    run = subprocess.run(
        [sys.executable, "-m", "knexa", *command],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    (line,) = (run.stdout + run.stderr).strip().splitlines()
    assert run.returncode == 2
    assert "at most 17 agents" in line
    assert list(tmp_path.iterdir()) == []
