from pathlib import Path

import pytest
from omegaconf import OmegaConf

from knexa.backbones.roster import Agent, Backbone, Lora, Roster
from knexa.config.components import construct, instantiate
from knexa.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "roster"
BACKBONE = Backbone(source="embedded:x", family="gpt2", lora=Lora(rank=1, alpha=2.0, dropout=0.0))


def load(option: str) -> Roster:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"), resolve=True)
    roster = instantiate(values, key="roster")
    assert isinstance(roster, Roster)
    return roster


RECOMMENDED = load("tiny6").recommended


@pytest.mark.parametrize("option", ["tiny6", "paper6"])
def test_six_agents_on_four_families_in_the_order_of_the_paper(option: str) -> None:
    roster = load(option)
    families = [roster.backbone_of(agent).family for agent in range(roster.num_agents)]
    assert families == ["qwen2", "gpt2", "bloom", "gpt_neox", "qwen2", "gpt2"]
    assert len(roster.used_backbones) == 4


def test_published_models_are_pinned_to_full_commits() -> None:
    for backbone in load("paper6").backbones.values():
        assert backbone.revision is not None
        assert len(backbone.revision) == 40
        int(backbone.revision, 16)


def test_alpha_is_twice_the_rank_everywhere() -> None:
    for option in ("tiny6", "paper6"):
        for backbone in load(option).backbones.values():
            assert backbone.lora.alpha == 2 * backbone.lora.rank


def test_unknown_backbone_of_an_agent_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'b'.*'nope'.*known are one"):
        Roster(
            agents=(Agent(name="a", backbone="one"), Agent(name="b", backbone="nope")),
            backbones={"one": BACKBONE},
            recommended=RECOMMENDED,
        )


def test_a_server_stands_on_the_first_agents_backbone_unless_it_has_its_own() -> None:
    agents, other = (Agent(name="a", backbone="one"),), {"one": BACKBONE, "two": BACKBONE}
    plain = Roster(agents=agents, backbones=other, recommended=RECOMMENDED)
    assert [server.backbone for server in plain.servers(1)] == ["one"]
    assert plain.servers(0) == ()
    own = Roster(agents=agents, backbones=other, recommended=RECOMMENDED, server="two")
    assert [server.backbone for server in own.servers(1)] == ["two"]
    assert own.used_backbones == ("one", "two")
    with pytest.raises(ValueError, match=r"server='three'.*known are one, two"):
        Roster(agents=agents, backbones=other, recommended=RECOMMENDED, server="three")


def test_agent_names_are_unique() -> None:
    with pytest.raises(ValueError, match="'a' more than once"):
        Roster(
            agents=(Agent(name="a", backbone="one"), Agent(name="a", backbone="one")),
            backbones={"one": BACKBONE},
            recommended=RECOMMENDED,
        )


def test_an_empty_roster_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Roster(agents=(), backbones={"one": BACKBONE}, recommended=RECOMMENDED)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rank", 0), ("dropout", 1.0), ("alpha", -1.0), ("ranks", 8)],
)
def test_lora_refuses_values_out_of_range_and_misspelt_keys(key: str, value: float) -> None:
    values = {"rank": 8, "alpha": 16.0, "dropout": 0.05, key: value}
    with pytest.raises(UserError, match=rf"lora\.{key}\b"):
        construct(Lora, values, key="lora")
