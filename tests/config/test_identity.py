"""What identifies a run: names of components and their values, never where Python keeps them."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from knexa.cli.organisation import organisation_settings
from knexa.config import compose
from knexa.config.build import COMPONENT_GROUPS, build_settings
from knexa.config.components import TARGET, component_name, load_class
from knexa.config.folders import config_folder
from knexa.errors import UserError
from knexa.federation.settings import Settings
from knexa.recipe import RECIPE
from knexa.tracking.run_directory import RunDirectory

# Moving code and renaming classes change neither. Whoever has to change one must bump RECIPE: every
# finished run of that config is then computed anew.
GOLDEN = {
    "": "d5e8be63262f3c8f3df813419e6ed082687f42eeb75a4284fdf112f69f2efd71",
    "experiment=paired": "ca061f4771774a2386697027832ba3877e295bc8a92dd6e03590f7d7b12c7424",
    "federation=synthetic": "48b2282c0c7e1a4876e7d47be1a13b95d4b9469b40e442adcbe0b134b5968045",
    "experiment=paper roster=tiny6 data=codelets": (
        "468f60cbd7083fee25ce2146808e93f9579c9421feb98d73a389957b6728c291"
    ),
}

FAULTS = config_folder() / "federation" / "faults"
"""One class, which the place itself names."""


def settings_of(*overrides: str) -> Settings:
    return organisation_settings(overrides)


def shipped_classes(group: str) -> dict[str, type]:
    """Return the class of every option of a group that ships with the package."""
    files = [file for file in (config_folder() / group).rglob("*.yaml") if file.parent != FAULTS]
    nodes = {str(file): yaml.safe_load(file.read_text()) for file in files}
    return {
        name: load_class(node[TARGET], key=name) for name, node in nodes.items() if TARGET in node
    }


@pytest.mark.parametrize("overrides", GOLDEN)
def test_the_hash_of_a_config_stays_what_it_was(overrides: str) -> None:
    assert settings_of(*overrides.split()).config_hash == GOLDEN[overrides]


def test_no_python_path_is_in_what_is_hashed_and_stored() -> None:
    for overrides in GOLDEN:
        text = yaml.safe_dump(settings_of(*overrides.split()).config)
        assert "knexa." not in text
        assert TARGET not in text


@pytest.mark.parametrize("group", [g for g in COMPONENT_GROUPS if g not in ("engine", "logger")])
def test_two_classes_of_a_group_never_share_a_name(group: str) -> None:
    classes = set(shipped_classes(group).values())
    assert classes
    names = [component_name(cls) for cls in classes]
    assert len(set(names)) == len(names)


def test_another_class_typed_over_an_option_is_another_run() -> None:
    greedy = settings_of("matching=exact", "matching._target_=knexa.matchmaking.matchings.Greedy")
    assert greedy.config_hash == settings_of("matching=greedy").config_hash
    assert greedy.config_hash != settings_of("matching=exact").config_hash


def test_an_option_of_the_users_own_is_identified_by_its_class_and_values(tmp_path: Path) -> None:
    (tmp_path / "matchmaker").mkdir()
    target = f"{TARGET}: knexa.matchmaking.round_robin.RoundRobin"
    (tmp_path / "matchmaker" / "mine.yaml").write_text(target)
    arguments = ["-cd", str(tmp_path), "matchmaker=mine"]
    (job,) = compose.compose(compose.parse_arguments(arguments)).jobs
    mine = build_settings(job)
    assert mine.config_hash == settings_of("matchmaker=round_robin").config_hash
    assert mine.run_path.name.startswith("mine-s0-")


def test_a_class_from_outside_is_identified_by_its_dotted_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taught_elsewhere.py").write_text(
        "from knexa.matchmaking.random import Random\nclass Mine(Random):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    target = "matchmaker._target_=taught_elsewhere.Mine"
    mine = settings_of("matchmaker=random", target, "trusted_modules=[taught_elsewhere]")
    assert mine.config["matchmaker"] == {"_name_": "taught_elsewhere.Mine"}
    assert mine.config_hash != settings_of("matchmaker=random").config_hash


def test_faults_are_identified_by_their_rates_however_they_were_chosen() -> None:
    chosen = settings_of("federation/faults=lossy")
    typed = [
        f"federation.faults.{key}={value}"
        for key, value in {
            "lost": 0.1,
            "duplicated": 0.1,
            "reordered": 0.2,
            "truncated": 0.05,
            "corrupted": 0.05,
        }.items()
    ]
    assert settings_of(*typed).config_hash == chosen.config_hash
    hashes = [settings_of(*some).config_hash for some in ([], typed[:1], typed)]
    assert all(a != b for a, b in itertools.combinations(hashes, 2))


def as_of_recipe_5(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config as recipe 5 wrote it: with paths in place of names, and no recipe."""
    older = {
        key: {TARGET: f"knexa.somewhere.{value['_name_']}"}
        | {name: item for name, item in value.items() if name != "_name_"}
        if isinstance(value, dict)
        else value
        for key, value in config.items()
    }
    del older["recipe"]
    return older


@pytest.mark.parametrize("summary", [{"recipe": 5}, None])
def test_the_same_run_by_an_older_recipe_is_told_of_in_one_line(
    run_app: Callable[..., int],
    experiments: list[Any],
    capfd: pytest.CaptureFixture[str],
    summary: dict[str, Any] | None,
) -> None:
    assert run_app("seed=3", "dry_run=true") == 0
    older = as_of_recipe_5(experiments[0].config)
    same, other = (Path("outputs/default") / f"linucb-s3-{name}" for name in ("same", "other"))
    for folder, change in ((same, {}), (other, {"seed": 4})):
        with RunDirectory(folder) as run:
            run.write_config(older | change)
            if summary is not None:
                run.summary.write_text(json.dumps(summary))
    capfd.readouterr()
    assert run_app("seed=3") == 0
    assert experiments[-1].run_path.exists()
    (told,) = [line for line in capfd.readouterr().out.splitlines() if "recipe" in line]
    recipe = "5" if summary else "5 or older"
    assert told.startswith(f"{same} is this run by recipe {recipe}; recipe {RECIPE} makes it")


def test_topics_identify_a_run_only_where_they_are_no_categories() -> None:
    plain, clusters = settings_of("topics=categories"), settings_of("topics=clusters")
    assert plain.config == settings_of().config
    assert "topics" not in plain.config
    assert clusters.config["topics"] == {"_name_": "clusters", "num_clusters": 12}
    hashes = {plain.config_hash, clusters.config_hash}
    hashes.add(settings_of("topics=clusters", "topics.num_clusters=6").config_hash)
    assert len(hashes) == 3


def test_topics_of_prompts_are_refused_where_there_are_none() -> None:
    with pytest.raises(UserError, match="federation=synthetic has none: set topics=categories"):
        settings_of("federation=synthetic", "topics=clusters")
