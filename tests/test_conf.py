"""The shipped configs: every option, experiment and sweep composes and passes its own checks."""

from pathlib import Path
from typing import Any

import pytest

from knexa import composition
from knexa.config_folders import config_folder, options_of, sweep_folder
from knexa.settings_builder import COMPONENT_GROUPS, build_components

WHOLE_RUNS = [
    (group, option)
    for group in ("experiment", "debug", "hparams_search", "sweep")
    for option in options_of(group)
]
WHOLE_RUNS += [("experiment", f"ablation/{name}") for name in options_of("experiment/ablation")]
OPTIONS = [("federation", "synthetic/linear")]
OPTIONS += [(group, option) for group in COMPONENT_GROUPS for option in options_of(group)]


def jobs(*arguments: str) -> tuple[composition.Job, ...]:
    composition.register_sweeps()
    return composition.compose(composition.parse_arguments(arguments)).jobs


@pytest.mark.parametrize(("group", "option"), WHOLE_RUNS)
def test_every_named_run_composes_and_validates(group: str, option: str) -> None:
    composed = jobs(f"{group}={option}")
    assert composed
    for job in composed:
        build_components(job)


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_validates(group: str, option: str) -> None:
    besides = {
        ("data", "jsonl"): "data.path=folder",
        ("exchange", "ensemble"): "matchmaker=central_kd",
        ("exchange", "fedavg"): "matchmaker=fedavg",
        ("exchange", "fedid"): "matchmaker=fedid",
    }
    extra = besides.get((group, option))
    (job,) = jobs(f"{group}={option}", *([extra] if extra else []))
    build_components(job)


def test_every_group_has_its_default() -> None:
    (job,) = jobs()
    for group in COMPONENT_GROUPS:
        assert job.choices[group] in options_of(group)


def test_paper_experiment_is_the_published_one() -> None:
    (job,) = jobs("experiment=paper")
    chosen = {group: job.choices[group] for group in COMPONENT_GROUPS}
    assert (
        chosen
        | {
            "matchmaker": "linucb",
            "roster": "paper6",
            "data": "humaneval_mbpp",
            "partition": "sizes",
            "context": "concat",
            "matching": "greedy",
            "exchange": "akd",
            "reward": "local_loss",
        }
        == chosen
    )
    assert job.config["matchmaker"]["regularization"] == 0.01
    assert job.config["matchmaker"]["exploration"] == 1.0
    assert job.config["reward"]["normalization"] == "zscore"
    assert job.config["federation"]["num_rounds"] == 20
    assert job.config["partition"]["train"] == [45, 43, 44, 46, 54, 44]


@pytest.mark.parametrize("matchmaker", options_of("matchmaker"))
def test_experiment_takes_every_matchmaker(matchmaker: str) -> None:
    (job,) = jobs("experiment=paper", f"matchmaker={matchmaker}")
    build_components(job)


def test_sweep_needs_no_flag_and_can_be_overridden() -> None:
    composed = jobs("sweep=smoke", "seed=5,6,7")
    points = {(job.choices["matchmaker"], job.config["seed"]) for job in composed}
    assert points == {(name, seed) for name in ("linucb", "random") for seed in (5, 6, 7)}
    assert {job.config["name"] for job in composed} == {"sweep-smoke"}


def all_files() -> list[Path]:
    chosen_by_config = config_folder() / "hydra"  # never by a user's command
    files = [*config_folder().rglob("*.yaml"), *sweep_folder().rglob("*.yaml")]
    return sorted(path for path in files if not path.is_relative_to(chosen_by_config))


@pytest.mark.parametrize("path", all_files(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_file_opens_with_the_command_that_runs_it(path: Path) -> None:
    comments = [
        line
        for line in path.read_text(encoding="utf-8").splitlines()[:2]
        if line.startswith("# python -m knexa")
    ]
    assert comments, path
    if path.parent.name in COMPONENT_GROUPS:
        (command,) = comments
        assert path.parent.name in command


def test_search_checks_both_ends_of_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    points: list[Any] = []
    monkeypatch.setattr(composition, "_BASIC_SWEEPER", "some.other.Sweeper")
    points += jobs("-m", "partition.alpha=interval(0.1,0.9)", "seed=1,2")
    found = {(job.config["partition"]["alpha"], job.config["seed"]) for job in points}
    assert found == {(0.1, 1), (0.9, 1), (0.1, 2)}
