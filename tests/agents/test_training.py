import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knexa.agents.training import Example, collate, weighted_loss

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
