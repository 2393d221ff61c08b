"""What docs/deploy.md tells a newcomer to type is what the commands take."""

import re
import shlex
from pathlib import Path

import pytest

from knexa import agent, certs, cpm
from knexa.network.compatibility import check_servable
from knexa.party import party_settings

GUIDE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = [
    line.removesuffix("&").strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("python -m knexa.")
]
PARSERS = {"knexa.agent": agent._parser, "knexa.certs": certs._parser, "knexa.cpm": cpm._parser}


def overrides() -> list[str]:
    (block,) = [b for b in BLOCKS if b.startswith("# federation.sh")]
    return [
        word for line in block.splitlines() if line.startswith("  ") for word in shlex.split(line)
    ]


def test_the_federation_of_the_guide_can_be_served() -> None:
    settings = party_settings(overrides())
    check_servable(settings)
    assert [a.name for a in settings.roster.agents] == ["alice", "bob", "carol"]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_are_understood(command: str) -> None:
    _, _, module, *arguments = shlex.split(command)
    arguments = [a for a in arguments if a != "${FEDERATION[@]}"]
    given = PARSERS[module]().parse_args(arguments)
    if module == "knexa.agent":
        assert given.name in ("alice", "bob", "carol")
