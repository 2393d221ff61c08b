"""The published models, built from their configurations without weights, give the paper's table."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM

from knexa.backbones.lora import attach
from knexa.backbones.roster import Roster
from knexa.config.components import instantiate

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "data" / "backbones"


@pytest.fixture(scope="module")
def roster() -> Roster:
    values = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "roster" / "paper6.yaml"))
    return instantiate(values, key="roster")


# Embeddings are tied in all but Pythia, and counted once.
@pytest.mark.parametrize(
    ("name", "millions", "percent", "num_base"),
    [
        ("qwen1_5-0_5b", 475, 2.39, 463_987_712),
        ("cerebras-gpt-590m", 604, 2.34, 590_310_912),
        ("bloom-560m", 572, 2.20, 559_214_592),
        ("pythia-410m", 418, 3.01, 405_334_016),
    ],
)
def test_totals_and_trainable_share_are_the_papers(
    roster: Roster, name: str, millions: int, percent: float, num_base: int
) -> None:
    backbone = roster.backbones[name]
    config = AutoConfig.from_pretrained(CONFIGS / name, local_files_only=True)
    assert config.model_type == backbone.family
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        assert sum(p.numel() for p in base.parameters()) == num_base
        model = attach(base, backbone.lora, backbone.family)
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round(total / 1e6) == millions
    assert round(100 * trainable / total, 2) == percent


def test_adapters_are_float32_on_a_bfloat16_base(roster: Roster) -> None:
    backbone = roster.backbones["pythia-410m"]
    config = AutoConfig.from_pretrained(CONFIGS / "pythia-410m", local_files_only=True)
    with torch.device("meta"):
        base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model = attach(base, backbone.lora, backbone.family)
    types = {p.requires_grad: p.dtype for p in model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
