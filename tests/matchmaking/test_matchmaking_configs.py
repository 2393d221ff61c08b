import ast
import inspect
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from knexa.config.components import instantiate
from knexa.errors import UserError
from tests.matchmaking.matchmaking_worlds import CONF, node_of

GROUPS = ("matchmaker", "context", "matching", "reward", "regret", "profile")
FILES = [
    f"{group}/{path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))
]
SOURCE = Path(__file__).parents[2] / "src"
MODULES = sorted((SOURCE / "knexa" / "matchmaking").rglob("[!_]*.py"))


@pytest.mark.parametrize("name", FILES)
def test_option_says_its_command_and_names_every_parameter(name):
    text = (CONF / f"{name}.yaml").read_text()
    command = text.splitlines()[0].split()
    assert command[:4] == ["#", "python", "-m", "knexa"]
    assert name.replace("/", "=") in command
    node = node_of(name)
    component = instantiate(node, key=name.split("/")[0])
    assert set(node) == {"_target_", *inspect.signature(type(component)).parameters}


def test_every_option_is_found():
    assert {"matchmaker/c2ucb", "context/complementarity", "profile/skills"} <= set(FILES)
    assert len(MODULES) > 10


@pytest.mark.parametrize(
    "change", [{"hidden": []}, {"hidden": [8, 0]}, {"num_steps": 0}, {"max_observations": 0}]
)
def test_wrong_networks_are_one_line(change):
    with pytest.raises(UserError, match=next(iter(change))) as caught:
        instantiate(node_of("matchmaker/neural_linear") | change, key="matchmaker")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("matchmaker/linucb", {"regularization": 0}),
        ("matchmaker/linucb", {"exploration": -1}),
        ("matchmaker/linucb", {"schedule": "sqrt"}),
        ("matchmaker/linucb", {"schedule": "oful"}),
        ("matchmaker/linucb", {"ridge": 1.0}),
        ("matchmaker/c2ucb", {"failure_probability": 1.0}),
        ("matchmaker/c2ucb", {"noise": -1.0}),
        ("matchmaker/c2ucb", {"schedule": "constant"}),
        ("matchmaker/thompson", {"exploration": -1}),
        ("matchmaker/heuristic", {"num_histogram": 0}),
        ("matchmaker/pens", {"num_top": 0}),
        ("matchmaker/linucb", {"_ridge": None}),
        ("matchmaker/random", {"seed": 1}),
        ("matchmaker/round_robin", {"seed": 1}),
        ("context/interaction", {"num_histogram": 0}),
        ("context/topic", {"recommended": {"regularization": 0.0, "exploration": 0.3}}),
        ("matching/one_to_many", {"capacity": 0}),
        ("matching/routed", {"budget": 0}),
        ("reward/local_loss", {"normalization": "z"}),
        ("reward/new_answers", {"gamma": 1.0}),
        ("regret/probes", {"every": -1}),
    ],
)
def test_wrong_values_and_unknown_keys_are_one_line(name, change):
    node = node_of(name) | change
    with pytest.raises(UserError, match=next(iter(change))) as caught:
        instantiate(node, key=name.split("/")[0])
    assert "\n" not in str(caught.value)


def test_the_room_imports_no_heavy_library_until_it_matches():
    names = (path.relative_to(SOURCE).with_suffix("").parts for path in MODULES)
    imports = ", ".join(".".join(parts) for parts in names)
    heavy = ["torch", "transformers", "scipy", "rustworkx", "matplotlib", "lightning"]
    code = f"import sys, {imports}; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_room_s_files_import_each_other_without_a_circle():
    names = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in MODULES}
    imports = {
        name: {
            node.module
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module in names
        }
        for name, path in names.items()
    }
    assert len(tuple(TopologicalSorter(imports).static_order())) == len(MODULES)
