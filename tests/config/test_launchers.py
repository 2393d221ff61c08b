"""Sweeps whose runs are processes of their own: submitit here, and SLURM as configured."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate

from knexa.config import compose
from knexa.config.folders import config_folder
from knexa.errors import UserError

SWEEP = (
    "-m",
    "hydra/launcher=submitit_local",
    "federation=synthetic",
    "federation.num_agents=4",
    "federation.num_rounds=60",
    "name=sweep",
    "seed=1,2",
    "trusted_modules=[killer]",
    "logger=none",
    "logger._target_=killer.Killer",
)
KILLER = """
import os, pathlib, signal
from dataclasses import dataclass
from knexa.tracking.loggers import Logger


@dataclass(kw_only=True)
class Killer(Logger):
    def start(self, run):
        self.run = run.name

    def log_round(self, round, metrics):
        if "-s1-" not in self.run:
            return
        if pathlib.Path("killed").exists():
            with open("again.txt", "a") as lines:
                lines.write(f"{round} ")
        elif round == 55:
            pathlib.Path("killed").touch()
            os.killpg(0, signal.SIGKILL)
"""


def sweep(folder: Path) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-m", "knexa", *SWEEP],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        output = process.communicate(timeout=200)[0]
    return process.returncode, output


@pytest.mark.slow
def test_a_killed_sweep_of_processes_goes_on_by_the_same_command(tmp_path: Path) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    code, output = sweep(tmp_path)
    assert code == -signal.SIGKILL, output
    (first,) = tmp_path.glob("outputs/sweep/linucb-s1-*")
    assert not (first / "DONE").exists()
    code, output = sweep(tmp_path)
    assert code == 0, output
    assert "Traceback" not in output
    assert len(list(tmp_path.glob("outputs/sweep/linucb-s*/DONE"))) == 2
    # From the last checkpoint on, which a federation of formulas writes every 50 rounds.
    assert (tmp_path / "again.txt").read_text().split() == [str(n) for n in range(51, 61)]


def test_slurm_queues_a_run_again_that_ran_out_of_time() -> None:
    with initialize_config_dir(version_base="1.3", config_dir=str(config_folder())):
        config = hydra.compose(
            "config",
            overrides=["hydra/launcher=slurm", "hydra.launcher.partition=gpu", "name=study"],
            return_hydra_config=True,
        )
    launcher = instantiate(config.hydra.launcher)
    assert type(launcher).__name__ == "SlurmLauncher"
    wanted = {
        "partition": "gpu",
        "timeout_min": 240,
        "max_num_timeout": 20,
        "cpus_per_task": 2,
        "submitit_folder": "outputs/study/.submitit/%j",
    }
    assert launcher.params | wanted == launcher.params


def test_a_plugin_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = compose.parse_arguments(["-m", "hydra/launcher=submitit_local", "seed=1,2"])
    compose.compose(plan)  # lets Hydra register its plugins
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(launchers, "submitit_local.yaml")
    with pytest.raises(UserError, match=r"pip install 'knexa\[cluster\]'"):
        compose.compose(plan)
