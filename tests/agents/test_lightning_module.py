"""A phase of training under Lightning's Trainer."""

from pathlib import Path

import pytest
import torch
import yaml

from knexa.agents.lightning_module import AdapterModule, fit
from knexa.agents.state import AgentState
from knexa.agents.training import Example, Training, collate
from knexa.backbones.load import initial_adapter, load_adapter, load_backbone
from knexa.components import instantiate

CONF = Path(__file__).parents[2] / "conf"
ROSTER = instantiate(yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text()), key="roster")

torch.set_num_threads(1)


def test_training_leaves_the_backbone_on_its_device(monkeypatch):
    """Lightning moves a model to the host when it is done: phases after it would run there."""
    moved = []
    monkeypatch.setattr(AdapterModule, "cpu", moved.append)
    loaded = load_backbone(ROSTER.backbones["tiny-gpt2"])
    state = AgentState(index=0, adapter=initial_adapter(loaded, 1))
    load_adapter(loaded, state.adapter)
    trained, report = fit(
        loaded,
        state,
        [collate([(1.0, [Example([5, 6, 7, 8], 1)])], 0)] * 2,
        training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3),
        learning_rate=3e-3,
        accelerator="cpu",
        seed=1,
    )
    assert report.optimizer_steps == 2
    assert any(
        not torch.equal(trained.adapter[name], state.adapter[name]) for name in state.adapter
    )
    assert moved == []


@pytest.mark.parametrize("name", ROSTER.backbones)
def test_mixed_precision_goes_the_same_way_and_leaves_32_bits(name):
    loaded = load_backbone(ROSTER.backbones[name])
    state = AgentState(index=0, adapter=initial_adapter(loaded, 1))
    examples = [Example([5, 6, 7, 8, 9, 10, 11], 2), Example([20, 21, 22, 23], 1)]
    moved = {}
    for precision in ("32-true", "bf16-mixed"):
        load_adapter(loaded, state.adapter)
        trained, _ = fit(
            loaded,
            state,
            [collate([(1.0, examples)], 0)] * 4,
            training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3, precision=precision),
            learning_rate=3e-3,
            accelerator="cpu",
            seed=1,
        )
        assert {tensor.dtype for tensor in trained.adapter.values()} == {torch.float32}
        moved[precision] = torch.cat(
            [(trained.adapter[key] - tensor).flatten() for key, tensor in state.adapter.items()]
        )
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    whole, mixed = moved.values()
    assert not torch.equal(whole, mixed)
    assert float(torch.cosine_similarity(whole, mixed, dim=0)) > 0.9


def test_no_batches_are_no_training():
    state = AgentState(index=0, adapter={})
    options = {"training": Training(local_learning_rate=1.0, kd_learning_rate=1.0), "seed": 1}
    same, report = fit(None, state, [], learning_rate=1.0, accelerator="cpu", **options)
    assert same is state
    assert report.loss is None
