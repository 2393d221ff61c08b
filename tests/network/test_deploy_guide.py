"""What docs/deploy.md tells a newcomer to type is what the commands take."""

import re
import shlex
from pathlib import Path

import pytest

from knexa.cli import certs, join, serve
from knexa.cli.organisation import organisation_settings
from knexa.network.compatibility import check_servable

GUIDE = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = [block.replace("\\\n", "") for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)]
COMMANDS = [
    line.removesuffix("&").strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("knexa ")
]
PARSERS = {"certs": certs._parser, "join": join._parser, "serve": serve._parser}


def overrides() -> list[str]:
    (block,) = [b for b in BLOCKS if b.startswith("# federation.sh")]
    return [
        word for line in block.splitlines() if line.startswith("  ") for word in shlex.split(line)
    ]


def test_the_federation_of_the_guide_can_be_served() -> None:
    settings = organisation_settings(overrides())
    check_servable(settings)
    assert [a.name for a in settings.roster.agents] == ["alice", "bob", "carol"]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_guide_are_understood(command: str) -> None:
    _, name, *arguments = shlex.split(command)
    arguments = [a for a in arguments if a != "${FEDERATION[@]}"]
    given = PARSERS[name]().parse_args(arguments)
    if name == "join":
        assert given.name in ("alice", "bob", "carol")
