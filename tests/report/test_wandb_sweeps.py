"""``sweeps/wandb_*.yaml``: what a W&B agent would type composes and passes its own checks."""

import itertools
from pathlib import Path

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from knexa.config import compose
from knexa.config.build import build_components
from knexa.config.folders import options_of, sweep_folder

SWEEPS = sorted(sweep_folder().glob("wandb_*.yaml"))
METRICS = {"final/pass@1": "maximize", "validation_loss": "minimize"}  # what the mirror logs


def points(parameters):
    """Return the parameters' values: every choice, and both ends of an interval."""
    choices = [
        setting.get("values") or [setting["min"], setting["max"]] for setting in parameters.values()
    ]
    for values in itertools.product(*choices):
        yield dict(zip(parameters, values, strict=True))


def command_of(sweep, point):
    """Return what an agent runs, its macros filled in by W&B's own code as the agent does."""
    filled = create_sweep_command_args({"args": {k: {"value": v} for k, v in point.items()}})
    filled |= {"env": ["/usr/bin/env"], "program": [sweep["program"]]}
    words = []
    for word in sweep["command"]:
        is_macro = word.startswith("${") and word.endswith("}")
        words += filled[word[2:-1]] if is_macro else [word]
    return words


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_point_is_a_command_that_composes(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    commands = [command_of(sweep, point) for point in points(sweep["parameters"])]
    assert len(commands) > 1
    assert len({tuple(command) for command in commands}) == len(commands)
    # Every value of every key, beside the others' first: the product would take minutes to compose.
    chosen = {tuple(commands[0])}
    for key, setting in sweep["parameters"].items():
        for value in setting.get("values") or [setting["min"], setting["max"]]:
            word = f"{key}={value}"
            chosen.add(tuple(next(command for command in commands if word in command)))
    for command in sorted(chosen):
        assert command[:4] == ("/usr/bin/env", "python", "-m", "knexa")
        (job,) = compose.compose(compose.parse_arguments(command[4:])).jobs
        build_components(job)
        assert job.config["logger"]["mode"] == "online"
        assert job.config["name"] == path.stem.replace("_", "-")
        assert f"seed={job.config['seed']}" in command


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_its_metric_is_logged_and_tuning_does_not_read_the_test_set(path: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    assert METRICS[sweep["metric"]["name"]] == sweep["metric"]["goal"]
    assert sweep["method"] == "grid" or sweep["metric"]["name"] == "validation_loss"


def test_they_are_no_options_of_the_group_sweep() -> None:
    assert SWEEPS
    assert not [name for name in options_of("sweep") if name.startswith("wandb_")]
