import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knexa.agents.training import (
    Example,
    SoftTargets,
    collate,
    objective,
    weighted_loss,
)
from knexa.protocols.similarity import cosines, pooled_states, similarity_loss

LENGTHS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=4)


def _examples(shapes):
    return [Example(list(range(1, prompt + answer + 1)), prompt) for prompt, answer in shapes]


@given(LENGTHS, LENGTHS, st.floats(0.01, 0.99))
def test_each_group_shares_its_weight_over_its_answer_tokens_alone(own, taught, alpha):
    batch = collate([(1 - alpha, _examples(own)), (alpha, _examples(taught))], pad=0)
    weight = batch["weight_BT"].double()
    assert float(weight[: len(own)].sum()) == pytest.approx(1 - alpha, abs=1e-5)
    assert float(weight[len(own) :].sum()) == pytest.approx(alpha, abs=1e-5)
    for row, (prompt, answer) in enumerate([*own, *taught]):
        assert not weight[row, :prompt].any()
        assert (weight[row, prompt : prompt + answer] > 0).all()
        assert not weight[row, prompt + answer :].any()


def test_the_loss_is_equation_2(model):
    own, taught = [Example([5, 6, 7, 8, 9], 2)], [Example([9, 8, 7], 1), Example([1, 2, 3, 4], 3)]
    alpha = 0.3

    def cross_entropy(examples):
        losses = []
        for example in examples:
            logits = model(torch.tensor([example.ids])).logits[0]
            losses += [
                -logits[t - 1].log_softmax(-1)[example.ids[t]]
                for t in range(example.num_prompt, len(example.ids))
            ]
        return torch.stack(losses).mean()

    with torch.no_grad():
        expected = (1 - alpha) * cross_entropy(own) + alpha * cross_entropy(taught)
        loss = weighted_loss(model, collate([(1 - alpha, own), (alpha, taught)], pad=0))
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_an_examples_own_weight_scales_its_tokens_alone():
    light, heavy = Example([1, 2, 3], 1, weight=0.5), Example([4, 5, 6], 1, weight=1.5)
    weight = collate([(0.8, [light, heavy])], pad=0)["weight_BT"]
    assert weight.sum(1).tolist() == pytest.approx([0.2, 0.6])


def test_a_negative_weight_rewards_a_higher_loss(model):
    example = Example([5, 6, 7, 8], 2)
    with torch.no_grad():
        plain = weighted_loss(model, collate([(1.0, [example])], pad=0))
        against = weighted_loss(model, collate([(1.0, [example]), (-0.4, [example])], pad=0))
    assert float(against) == pytest.approx(0.6 * float(plain), rel=1e-4)


def test_soft_targets_are_learnt_in_place_of_their_tokens(model):
    ids, temperature = [5, 6, 7, 8], 2.0
    targets = SoftTargets(
        np.array([[7, 1, 2], [8, 3, 4]], np.int32),
        np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]], np.float32),
        temperature,
    )
    own = Example([1, 2, 3], 1)
    batch = collate([(0.6, [own]), (0.4, [Example(ids, 2, soft=targets)])], pad=0)
    with torch.no_grad():
        log_probs = (model(torch.tensor([ids])).logits[0, 1:3] / temperature).log_softmax(-1)
        divergence = sum(
            float(q) * (float(np.log(q)) - float(log_probs[t, token]))
            for t in range(2)
            for token, q in zip(targets.ids_AS[t], targets.probabilities_AS[t], strict=True)
            if q > 0
        )
        private = weighted_loss(model, collate([(0.6, [own])], pad=0))
        loss = weighted_loss(model, batch)
    assert float(loss - private) == pytest.approx(0.4 * temperature**2 * divergence / 2, rel=1e-3)


def test_the_similarity_term_is_the_mean_squared_difference(model):
    prompts, mask = torch.tensor([[5, 6, 7], [8, 9, 0], [3, 3, 3]]), torch.ones(3, 3).long()
    mask[1, 2] = 0
    with torch.no_grad():
        states = pooled_states(model, prompts, mask)
        alone = pooled_states(model, prompts[1:2, :2], mask[1:2, :2])
        own = cosines(states)
        batch = collate([(0.5, [Example([1, 2, 3], 1)])], pad=0)
        expected = float(weighted_loss(model, batch)) + 0.5 * float(((own - 0.2) ** 2).mean())
        batch |= {
            "prompt_PT": prompts,
            "prompt_mask_PT": mask,
            "cosines_PP": torch.full((3, 3), 0.2),
            "similarity_weight": torch.tensor(0.5),
        }
        loss = objective(model, batch, similarity_loss)
    assert torch.allclose(states[1], alone[0], atol=1e-5)  # padding is no part of the mean
    assert torch.allclose(own.diagonal(), torch.ones(3), atol=1e-6)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_logits_of_prompts_are_never_computed(model):
    shapes = []
    handle = model.register_forward_hook(lambda *called: shapes.append(called[-1].logits.shape))
    examples = [Example([5, 6, 7, 8, 9, 1], 4), Example([1, 2, 3, 4], 3)]
    with torch.no_grad():
        weighted_loss(model, collate([(1.0, examples)], pad=0))
    handle.remove()
    assert [tuple(shape[:2]) for shape in shapes] == [(2, 4)]  # the last is nobody's prediction


def test_training_keeps_no_keys_and_values(model):
    outputs = []
    handle = model.register_forward_hook(lambda *called: outputs.append(called[-1]))
    weighted_loss(model, collate([(1.0, [Example([5, 6, 7, 8], 2)])], pad=0)).backward()
    pooled_states(model, torch.tensor([[5, 6, 7]]), torch.ones(1, 3).long())
    handle.remove()
    model.zero_grad()
    assert [output.past_key_values for output in outputs] == [None, None]


def test_similarities_are_exact_in_mixed_precision():
    states = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines(states)
    assert torch.equal(found, cosines(states))
