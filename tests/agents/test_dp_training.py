"""DP-SGD on adapters: it trains, it clips, it is plain training where nothing is hidden."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from knexa.agents.lightning_module import fit
from knexa.agents.private_training import (
    PrivateStep,
    _gradients_per_example,
    _mechanism,
    _noisy_gradient,
    fit_privately,
    poisson_draw,
)
from knexa.agents.state import AgentState
from knexa.agents.training import DPTraining, Example, collate
from knexa.backbones.load import adapter_state, initial_adapter, load_adapter, load_backbone
from knexa.config.components import instantiate
from knexa.errors import UserError

CONF = Path(__file__).parents[2] / "conf"
ROSTER = instantiate(yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text()), key="roster")
HUGE = 1e9
TRAINING = DPTraining(local_learning_rate=3e-3, kd_learning_rate=3e-3, gradient_clip=HUGE)
OPEN = replace(TRAINING, example_clip=HUGE, eps=1e-3)
"""A large epsilon keeps AdamW from making steps of rounding where gradients are almost 0."""

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=ROSTER.backbones)
def loaded(request):
    """The embedded backbones: Qwen2, GPT-2 with its Conv1D, BLOOM and GPT-NeoX."""
    return load_backbone(ROSTER.backbones[request.param], name=request.param)


@pytest.fixture
def state(loaded):
    """An agent whose adapter is in the slot, with no zeros in it that would hide half of it."""
    adapter = initial_adapter(loaded, 1)
    noise = initial_adapter(loaded, 2)
    for name in adapter:
        if ".lora_B." in name:
            like = noise[name.replace(".lora_B.", ".lora_A.")]
            adapter[name] = torch.full_like(adapter[name], float(like.abs().mean()) / 4)
    load_adapter(loaded, adapter)
    return AgentState(index=0, adapter=adapter)


def examples(number: int = 5) -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example([int(token) for token in rng.integers(5, 400, 12 + i)], 4 + i % 3)
        for i in range(number)
    ]


def batches(of: list[Example], size: int = 3):
    return tuple(
        collate([(1.0, [example]) for example in of[begin : begin + size]], 0)
        for begin in range(0, len(of), size)
    )


def train(loaded, state, steps, training=OPEN, noise=0.0, weight=1.0, seed=1, expected_size=5):
    load_adapter(loaded, state.adapter)
    return fit_privately(
        loaded,
        state,
        steps,
        training=training,
        private_weight=weight,
        expected_size=expected_size,
        noise_multiplier=noise,
        learning_rate=3e-3,
        seed=seed,
    )


def distance(a, b) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def relative(a, b, start) -> float:
    """How far apart two adapters are, as a share of how far they have come."""
    apart = sum(float((a[name] - b[name]).square().sum()) for name in a)
    come = sum(float((b[name] - start[name]).square().sum()) for name in a)
    return (apart / come) ** 0.5


def test_without_noise_or_clip_it_is_plain_training(loaded, state):
    own, public = examples(5), collate([(0.25, examples(2))], 0)
    together = collate([*((0.75 / 5, [example]) for example in own), (0.25, examples(2))], 0)
    private = [PrivateStep(private=batches(own), public=(public,))] * 3
    dp, dp_report = train(loaded, state, private, weight=0.75)
    load_adapter(loaded, state.adapter)
    plain, report = fit(
        loaded,
        state,
        [together] * 3,
        training=OPEN,
        learning_rate=3e-3,
        accelerator="cpu",
        seed=1,
    )
    assert relative(dp.adapter, plain.adapter, state.adapter) < 1e-3
    assert distance(plain.adapter, state.adapter) > 1e-3
    assert dp_report.loss == pytest.approx(report.loss, rel=1e-5)
    assert (dp_report.optimizer_steps, dp.optimizer_steps) == (3, 3)
    assert dp.optimizer.keys() == plain.optimizer.keys()
    # And goes on from its moments as plain training does.
    again, _ = train(loaded, dp, private, weight=0.75)
    load_adapter(loaded, plain.adapter)
    plain_again, _ = fit(
        loaded,
        plain,
        [together] * 3,
        training=OPEN,
        learning_rate=3e-3,
        accelerator="cpu",
        seed=1,
    )
    assert relative(again.adapter, plain_again.adapter, state.adapter) < 1e-3
    assert again.optimizer_steps == 6


def test_every_adapter_weight_moves_and_nothing_else_does(loaded, state):
    frozen = {
        name: parameter.clone()
        for name, parameter in loaded.model.named_parameters()
        if not parameter.requires_grad
    }
    trained, _ = train(loaded, state, [PrivateStep(private=batches(examples()), public=())] * 2)
    for name, before in state.adapter.items():
        # A vocabulary's or activation's dead units have no gradient; most of a tensor has.
        assert (trained.adapter[name] != before).float().mean() > 0.5, name
    assert distance(trained.adapter, adapter_state(loaded)) == 0.0
    for name, parameter in loaded.model.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, frozen[name]), name


def test_training_learns_with_noise_too(loaded, state):
    training = replace(TRAINING, example_clip=1.0)
    steps = [PrivateStep(private=batches(examples()), public=())] * 10
    _, report = train(loaded, state, steps, training=training, noise=0.02)
    _, first = train(loaded, state, steps[:1], training=training, noise=0.02)
    assert report.loss < 0.95 * first.loss


def test_no_hook_or_gradient_outlives_the_training(loaded, state):
    load_adapter(loaded, state.adapter)
    loaded.model.eval()
    ids = torch.tensor([examples()[0].ids])
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
    train(loaded, state, [PrivateStep(private=batches(examples()), public=())])
    assert not any(m._forward_hooks or m._backward_hooks for m in loaded.model.modules())
    for parameter in loaded.model.parameters():
        assert parameter.grad is None
        assert not hasattr(parameter, "grad_sample")
        assert not hasattr(parameter, "summed_grad")
    load_adapter(loaded, state.adapter)
    loaded.model.eval()
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, before)


def gradient(loaded, of, clip, noise=0.0, seed=0) -> torch.Tensor:
    """The noisy sum of clipped gradients, as one vector."""
    loaded.model.train()
    parameters = loaded.adapter_parameters
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    with _gradients_per_example(loaded.model) as hooked:
        mechanism = _mechanism(optimizer, noise, clip, torch.Generator().manual_seed(seed))
        _noisy_gradient(hooked, mechanism, batches(of))
        return torch.cat([p.grad.reshape(-1).clone() for p in parameters.values()])


def test_each_problems_gradient_is_clipped_on_its_own(loaded, state):
    own = examples(3)
    whole = [gradient(loaded, [example], HUGE) for example in own]
    norms = sorted(float(g.norm()) for g in whole)
    clip = (norms[0] + norms[1]) / 2  # one is short enough already
    clipped = [gradient(loaded, [example], clip) for example in own]
    for before, after in zip(whole, clipped, strict=True):
        assert float(after.norm()) == pytest.approx(min(float(before.norm()), clip), rel=1e-4)
        cosine = torch.nn.functional.cosine_similarity(before, after, dim=0)
        assert float(cosine) == pytest.approx(1.0, abs=1e-4)
    # Together, and in batches of another size, it is the sum of what each gives alone.
    assert torch.allclose(gradient(loaded, own, clip), sum(clipped), atol=1e-4 * clip)


def test_a_problem_moves_the_sum_by_the_clip_at_most_whoever_is_beside_it(loaded, state):
    own, clip = examples(4), 0.1
    difference = gradient(loaded, own, clip) - gradient(loaded, own[:3], clip)
    assert float(difference.norm()) <= clip * 1.001


def test_noise_has_the_promised_size_and_comes_from_the_seed_alone(loaded, state):
    silent = gradient(loaded, examples(2), clip=0.5)
    noise = gradient(loaded, examples(2), clip=0.5, noise=3.0) - silent
    assert float(noise.std()) == pytest.approx(3.0 * 0.5, rel=5 / (2 * noise.numel()) ** 0.5)
    torch.manual_seed(123)  # nobody's business
    again = gradient(loaded, examples(2), clip=0.5, noise=3.0) - silent
    assert torch.equal(noise, again)
    assert not torch.equal(noise, gradient(loaded, examples(2), 0.5, noise=3.0, seed=1) - silent)


def test_a_draw_of_nobody_is_noise_and_public_text(loaded, state):
    public = collate([(0.5, examples(2))], 0)
    quiet, report = train(loaded, state, [PrivateStep(private=(), public=(public,))])
    assert report.loss > 0
    noisy, _ = train(loaded, state, [PrivateStep(private=(), public=(public,))], noise=1.0)
    assert distance(quiet.adapter, noisy.adapter) > 1e-3


def test_public_text_is_neither_clipped_nor_noised(loaded, state):
    training = replace(TRAINING, example_clip=1e-9)
    public = collate([(0.5, examples(2))], 0)
    step = [PrivateStep(private=batches(examples()), public=(public,))]
    with_private, _ = train(loaded, state, step, training=training)
    alone, _ = train(loaded, state, [PrivateStep(private=(), public=(public,))], training=training)
    assert distance(with_private.adapter, alone.adapter) < 1e-4
    assert distance(alone.adapter, state.adapter) > 1e-3


def test_the_same_seed_trains_to_the_same_bits(loaded, state):
    steps = [PrivateStep(private=batches(examples()), public=())] * 2
    first, _ = train(loaded, state, steps, noise=1.0)
    second, _ = train(loaded, state, steps, noise=1.0)
    other, _ = train(loaded, state, steps, noise=1.0, seed=2)
    assert distance(first.adapter, second.adapter) == 0.0
    assert distance(first.adapter, other.adapter) > 0.0


def test_private_training_on_the_cpu_asks_no_gpu(loaded, state, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delattr(torch.cuda, "get_rng_state")
    trained, report = train(loaded, state, [PrivateStep(private=batches(examples()), public=())])
    assert report.optimizer_steps == trained.optimizer_steps == 1


def test_problems_are_drawn_one_by_one_at_the_promised_rate():
    own, rng = examples(40), np.random.default_rng(3)
    sizes = []
    for _ in range(400):
        drawn = poisson_draw(own, 0.2, 8, 0, rng)
        assert all(len(batch["input_BT"]) <= 8 for batch in drawn)
        sizes.append(sum(len(batch["input_BT"]) for batch in drawn))
    assert np.mean(sizes) == pytest.approx(8.0, abs=5 * (40 * 0.2 * 0.8 / 400) ** 0.5)
    assert np.var(sizes) == pytest.approx(40 * 0.2 * 0.8, rel=0.4)  # a fixed size would have 0
    (batch,) = poisson_draw(own[:1], 1.0, 8, 0, rng)
    assert float(batch["weight_BT"].sum()) == pytest.approx(1.0)


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="32-true"):
        replace(TRAINING, precision="bf16-mixed")


def test_a_negative_budget_is_one_line():
    node = yaml.safe_load((CONF / "training" / "dp.yaml").read_text())
    known = {f"${{roster.recommended.{k}}}": v for k, v in vars(ROSTER.recommended).items()}
    node = {
        key: known.get(value, value) if isinstance(value, str) else value
        for key, value in node.items()
    }
    assert isinstance(instantiate(node, key="training"), DPTraining)
    with pytest.raises(UserError, match=r"training\.epsilon"):
        instantiate(node | {"epsilon": -1.0}, key="training")
