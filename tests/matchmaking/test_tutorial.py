import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from knexa.config.components import instantiate
from knexa.errors import UserError
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.rewards import LocalLoss
from knexa.profiles.layout import PASS_AT_1
from tests.matchmaking.matchmaking_worlds import random_profiles

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial_matchmaker.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), flags=re.DOTALL)


@pytest.fixture
def components(tmp_path, monkeypatch):
    """The tutorial's classes built from the tutorial's YAML, exactly as printed."""
    names = []
    for code in blocks("python"):
        name = re.match(r"# (\w+)\.py\n", code).group(1)
        (tmp_path / f"{name}.py").write_text(code)
        names.append(name)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    nodes = [yaml.safe_load(text) for text in blocks("yaml")]
    yield [
        (node, lambda node=node: instantiate(node, key="matchmaker", trusted_modules=names))
        for node in nodes
    ]
    for name in names:
        sys.modules.pop(name, None)


def cpm_of(matchmaker) -> CPM:
    return CPM(
        matchmaker=matchmaker,
        context=Interaction(),
        matching=Exact(),
        reward=LocalLoss(),
        protocol="akd",
        num_profile_features=32,
    )


def test_the_tutorial_matchmaker_takes_under_thirty_lines():
    lines = (blocks("python")[0] + blocks("yaml")[0]).splitlines()
    assert len(lines) < 30


def test_the_tutorial_matchmaker_runs_and_does_what_it_says(components):
    _, build = components[0]
    profiles_NF = random_profiles(np.random.default_rng(0))
    profiles_NF[:, PASS_AT_1] = [0.9, 0.1, 0.8, 0.0, 0.2, 0.7]
    cpm = cpm_of(build())
    plan = cpm.propose(1, profiles_NF, np.random.default_rng(1))
    assert {directive.pair[0] for directive in plan} == {0, 2, 5}
    rewards = cpm.receive([Feedback(directive_id=directive.id, reward=0.1) for directive in plan])
    assert len(rewards) == 3


def test_the_tutorial_matchmaker_is_checked_before_it_runs(components):
    node, _ = components[0]
    with pytest.raises(UserError, match=r"matchmaker\.noise"):
        instantiate(node | {"noise": -1.0}, key="matchmaker", trusted_modules=["best_first"])
    with pytest.raises(UserError, match="trusted_modules"):
        instantiate(node, key="matchmaker")


def test_the_learning_matchmaker_learns_and_resumes(components):
    _, build = components[1]
    cpm, restored = cpm_of(build()), cpm_of(build())
    rng = np.random.default_rng(2)
    for round in range(1, 20):
        plan = cpm.propose(round, random_profiles(rng), np.random.default_rng(round))
        cpm.receive([Feedback(directive_id=d.id, reward=rng.normal()) for d in plan])
    assert np.abs(cpm.matchmaker.theta_d).max() > 0
    restored.load_state_dict(cpm.state_dict())
    profiles_NF = random_profiles(rng)
    again = [
        policy.propose(20, profiles_NF, np.random.default_rng(3)) for policy in (cpm, restored)
    ]
    assert again[0] == again[1]
