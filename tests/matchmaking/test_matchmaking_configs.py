import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from knexa.components import instantiate
from knexa.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = {
    "matchmaker": ["linucb", "random", "local_only", "oracle"],
    "context": ["interaction", "concat"],
    "matching": ["exact", "greedy"],
    "reward": ["local_loss", "local_loss_raw"],
    "regret": ["probes", "none"],
}
FILES = [f"{group}/{option}" for group, options in OPTIONS.items() for option in options]


@pytest.mark.parametrize("name", FILES)
def test_option_says_its_command_and_names_every_parameter(name):
    text = (CONF / f"{name}.yaml").read_text()
    assert text.startswith(f"# python -m knexa {name.replace('/', '=')}\n")
    recommended = yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text())["recommended"]
    node = {
        key: recommended[value[:-1].rpartition(".")[2]] if str(value).startswith("${") else value
        for key, value in yaml.safe_load(text).items()
    }
    component = instantiate(node, key=name.split("/")[0])
    assert set(node) == {"_target_", *inspect.signature(type(component)).parameters}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("matchmaker/linucb", {"regularization": 0}),
        ("matchmaker/linucb", {"exploration": -1}),
        ("matchmaker/linucb", {"schedule": "sqrt"}),
        ("matchmaker/linucb", {"ridge": 1.0}),
        ("matchmaker/linucb", {"_ridge": None}),
        ("matchmaker/random", {"seed": 1}),
        ("context/interaction", {"num_histogram": 0}),
        ("reward/local_loss", {"normalization": "z"}),
        ("regret/probes", {"every": -1}),
    ],
)
def test_wrong_values_and_unknown_keys_are_one_line(name, change):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text()) | change
    with pytest.raises(UserError, match=next(iter(change))) as caught:
        instantiate(node, key=name.split("/")[0])
    assert "\n" not in str(caught.value)


def test_the_room_imports_no_heavy_library_until_it_matches():
    rooms = [
        "linucb",
        "random",
        "local_only",
        "oracle",
        "contexts",
        "matchings",
        "rewards",
        "cpm",
        "regret",
    ]
    imports = ", ".join(f"knexa.matchmaking.{room}" for room in rooms)
    heavy = ["torch", "transformers", "scipy", "rustworkx", "matplotlib", "lightning"]
    code = f"import sys, {imports}; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
