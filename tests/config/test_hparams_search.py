"""A search: what it goes by, what is checked before it begins, and that it resumes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from knexa.cli.experiments import objective
from knexa.config import compose
from knexa.config.build import build_components
from knexa.errors import UserError
from tests.row_examples import costs, score, scores, summary

SEARCH = (
    "hparams_search=linucb",
    "hydra.sweeper.n_trials=3",
    "federation.num_agents=4",
    "federation.num_rounds=3",
    "name=search",
)


def search(folder: Path) -> str:
    process = subprocess.run(
        [sys.executable, "-m", "knexa", *SEARCH],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr
    return process.stdout


def best(folder: Path) -> tuple[float, float]:
    """Return the exploration and the mean reward of the best run."""
    runs = list(folder.glob("outputs/search/linucb-s9000-*"))
    assert len(runs) == 3
    rewards: dict[float, float] = {}
    for run in runs:
        config: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text())
        summary = json.loads((run / "summary.json").read_text())
        rewards[config["matchmaker"]["exploration"]] = summary["mean_reward"]
    return max(rewards.items(), key=lambda item: item[1])


@pytest.mark.slow
def test_a_search_finds_the_best_of_its_trials_and_resumes(tmp_path: Path) -> None:
    search(tmp_path)
    record = tmp_path / "outputs/search/optimization_results.yaml"
    found = yaml.safe_load(record.read_text())
    exploration, reward = best(tmp_path)
    assert found["best_params"]["matchmaker.exploration"] == pytest.approx(exploration)
    assert found["best_value"] == reward
    lost = max(tmp_path.glob("outputs/search/linucb-*"))
    shutil.rmtree(lost)
    record.unlink()
    assert search(tmp_path).count("is finished") == 2
    assert lost.is_dir()
    assert yaml.safe_load(record.read_text()) == found


def test_a_search_goes_by_rewards_and_never_by_the_test_set() -> None:
    scored = scores(pass_at={1: score(0.5)})
    assert objective(summary(scores=scored, costs=costs(mean_reward=0.25))) == 0.25
    assert objective(summary(scores=scored, costs=costs(mean_reward=None))) is None


def test_both_ends_of_what_a_search_may_try_are_checked_first() -> None:
    wrong = "hydra.sweeper.params={matchmaker.exploration: 'interval(-1.0,1.0)'}"
    plan = compose.compose(compose.parse_arguments(["hparams_search=linucb", wrong]))
    with pytest.raises(UserError, match=r"matchmaker.exploration=-1.0"):
        build_components(plan.jobs[0])


def test_no_study_reports_on_the_seed_of_a_search() -> None:
    (first, *_) = compose.compose(compose.parse_arguments(["hparams_search=linucb"])).jobs
    assert first.config["seed"] == 9000
    assert first.choices["federation"] == "synthetic"
