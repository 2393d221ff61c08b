"""A phase of training under Lightning's Trainer."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from knexa.agents import lightning_module
from knexa.agents.lightning_module import AdapterModule, fit
from knexa.agents.state import AgentState
from knexa.agents.training import Example, Training, collate
from knexa.backbones.load import initial_adapter, load_adapter, load_backbone
from knexa.config.components import instantiate

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
    for precision in ("32-true", "bf16-mixed", "16-mixed"):
        load_adapter(loaded, state.adapter)
        trained, report = fit(
            loaded,
            state,
            [collate([(1.0, examples)], 0)] * 4,
            training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3, precision=precision),
            learning_rate=3e-3,
            accelerator="cpu",
            seed=1,
        )
        assert report.optimizer_steps == trained.optimizer_steps == 4
        assert {tensor.dtype for tensor in trained.adapter.values()} == {torch.float32}
        moved[precision] = torch.cat(
            [(trained.adapter[key] - tensor).flatten() for key, tensor in state.adapter.items()]
        )
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    whole, *mixed = moved.values()
    for half in mixed:
        assert not torch.equal(whole, half)
        assert float(torch.cosine_similarity(whole, half, dim=0)) > 0.9


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(monkeypatch):
    """Without the kernels, which are torch's: what is traced of the model is what is trained."""
    plain_compile = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **options: plain_compile(*args, backend="eager", **options)
    )
    training = Training(local_learning_rate=3e-3, kd_learning_rate=3e-3)
    examples = [Example([5, 6, 7, 8, 9, 10, 11], 2), Example([20, 21, 22, 23], 1)]
    batches = [collate([(1.0, examples)], 0), collate([(1.0, examples[1:])], 0)]
    loaded = load_backbone(ROSTER.backbones["tiny-neox"])
    state = AgentState(index=0, adapter=initial_adapter(loaded, 1))
    found = []
    for is_compiled in (False, True):
        load_adapter(loaded, state.adapter)
        torch._dynamo.utils.counters.clear()
        trained, report = fit(
            loaded,
            state,
            batches,
            training=replace(training, compile=is_compiled),
            learning_rate=3e-3,
            accelerator="cpu",
            seed=1,
        )
        assert report.optimizer_steps == 2
        assert bool(torch._dynamo.utils.counters["stats"]["unique_graphs"]) == is_compiled
        found.append(trained.adapter)
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor)


def test_steps_that_overflow_are_not_counted_and_leave_the_agent_as_it_was(monkeypatch):
    loaded = load_backbone(ROSTER.backbones["tiny-qwen2"])
    state = AgentState(index=0, adapter=initial_adapter(loaded, 1))
    options = {"learning_rate": 3e-3, "accelerator": "cpu", "seed": 1}
    half = Training(local_learning_rate=3e-3, kd_learning_rate=3e-3, precision="16-mixed")
    batches = [collate([(1.0, [Example([5, 6, 7, 8], 1)])], 0)] * 2
    load_adapter(loaded, state.adapter)
    once, _ = fit(loaded, state, batches, training=replace(half, precision="32-true"), **options)
    monkeypatch.setattr(lightning_module, "FIRST_LOSS_SCALE", 2.0**100)
    for before in (state, once):
        load_adapter(loaded, before.adapter)
        after, report = fit(loaded, before, batches, training=half, **options)
        assert report.optimizer_steps == 0
        assert after.optimizer_steps == before.optimizer_steps
        assert after.optimizer.keys() == before.optimizer.keys()
        for name, tensor in (before.adapter | before.optimizer).items():
            assert torch.equal((after.adapter | after.optimizer)[name], tensor)


def test_training_on_the_cpu_asks_no_gpu(monkeypatch):
    """A worker forked from a process that knows of a GPU cannot."""
    loaded = load_backbone(ROSTER.backbones["tiny-gpt2"])
    state = AgentState(index=0, adapter=initial_adapter(loaded, 1))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delattr(torch.cuda, "get_rng_state")
    generator = torch.get_rng_state()
    _, report = fit(
        loaded,
        state,
        [collate([(1.0, [Example([5, 6, 7, 8], 1)])], 0)],
        training=Training(local_learning_rate=3e-3, kd_learning_rate=3e-3),
        learning_rate=3e-3,
        accelerator="cpu",
        seed=1,
    )
    assert report.optimizer_steps == 1
    assert torch.equal(torch.get_rng_state(), generator)


def test_no_batches_are_no_training():
    state = AgentState(index=0, adapter={})
    options = {"training": Training(local_learning_rate=1.0, kd_learning_rate=1.0), "seed": 1}
    same, report = fit(None, state, [], learning_rate=1.0, accelerator="cpu", **options)
    assert same is state
    assert report.loss is None
