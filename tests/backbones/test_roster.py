from pathlib import Path

import pytest
from omegaconf import OmegaConf

from knexa.backbones.roster import Agent, Backbone, Lora, Roster
from knexa.backbones.wheels import WHEELS
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


def test_smollm6_is_one_backbone_of_the_pinned_wheel_however_many_agents_there_are() -> None:
    for size, last in ((None, "smollm2-6"), (12, "smollm2-12")):
        roster = sized("smollm6", size)
        assert roster.num_agents == (size or 6)
        assert roster.agents[-1].name == last
        assert roster.used_backbones == ("smollm2",)
        backbone = roster.backbone_of(0)
        assert (backbone.source, backbone.revision) == ("cache:smollm2", WHEELS["smollm2"].sha256)


def test_alpha_is_twice_the_rank_everywhere() -> None:
    for option in ("tiny6", "paper6", "smollm6"):
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


def sized(option: str, size: int | None) -> Roster:
    values = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"), resolve=True)
    assert isinstance(values, dict)
    roster = instantiate(values | {"size": size}, key="roster")
    assert isinstance(roster, Roster)
    return roster


@pytest.mark.parametrize("option", ["tiny6", "paper6"])
def test_a_roster_of_its_own_size_is_the_list(option: str) -> None:
    assert sized(option, 6).agents == sized(option, None).agents == load(option).agents


@pytest.mark.parametrize("option", ["tiny6", "paper6"])
@pytest.mark.parametrize("size", [2, 4, 12, 24, 70])
def test_a_roster_of_any_size_repeats_the_backbones_in_its_own_order(
    option: str, size: int
) -> None:
    roster, six = sized(option, size), load(option)
    assert roster.num_agents == size
    assert roster.agents[:6] == six.agents[:size]
    order = [agent.backbone for agent in six.agents[:4]]
    assert [agent.backbone for agent in roster.agents] == [order[i % 4] for i in range(size)]
    assert len({agent.name for agent in roster.agents}) == size


def test_names_of_further_agents_avoid_those_that_are_taken() -> None:
    agents = (Agent(name="x-2", backbone="x"), Agent(name="b", backbone="y"))
    roster = Roster(
        agents=agents, backbones={"x": BACKBONE, "y": BACKBONE}, recommended=RECOMMENDED, size=4
    )
    assert [agent.name for agent in roster.agents] == ["x-2", "b", "x-3", "y-2"]


def test_byzantine_agents_may_be_any_of_the_enlarged_roster() -> None:
    values = OmegaConf.to_container(OmegaConf.load(CONF / "tiny6.yaml"), resolve=True)
    assert isinstance(values, dict)
    values["byzantine"]["num"] = 8
    with pytest.raises(UserError, match="of 6 agents"):
        instantiate(values, key="roster")
    roster = instantiate(values | {"size": 24}, key="roster")
    assert len(set(roster.byzantine.draw(0, roster.num_agents))) == 8


@pytest.mark.parametrize("size", [0, 1, -1, "12", 2.0, True])
def test_a_size_that_is_no_number_of_agents_is_refused(size: object) -> None:
    values = OmegaConf.to_container(OmegaConf.load(CONF / "tiny6.yaml"), resolve=True)
    assert isinstance(values, dict)
    with pytest.raises(UserError, match=r"roster\.size"):
        instantiate(values | {"size": size}, key="roster")
