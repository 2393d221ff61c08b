import itertools

import numpy as np
import pytest
import torch

from knexa.agents.generate import generate

EOS, PAD = 63, 0
PROMPTS = [[5, 9, 11], [7], [20, 21, 22, 23, 24, 25], [40, 41], [3, 1, 4, 1, 5, 9, 2, 6]]


def _generations(model, prompts, **options):
    found = dict(itertools.chain.from_iterable(generate(model, prompts, **options)))
    assert sorted(found) == list(range(len(prompts)))
    return [found[index] for index in range(len(prompts))]


def _ids(model, prompts=PROMPTS, **options):
    options = {"max_new_tokens": 12, "eos": EOS, "pad": PAD} | options
    return [generation.ids for generation in _generations(model, prompts, **options)]


def test_greedy_equals_the_library(model):
    for prompt, ids in zip(PROMPTS, _ids(model), strict=True):
        expected = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )[0, len(prompt) :]
        assert ids == expected.tolist()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batching_does_not_change_what_a_prompt_gets(model, temperature):
    together = _ids(model, temperature=temperature, seed=3)
    apart = _ids(model, temperature=temperature, seed=3, batch_size=2)
    assert together == apart


def test_a_part_with_its_rows_gets_what_it_gets_among_all(model):
    whole = _ids(model, temperature=1.0, seed=3)
    part = [PROMPTS[place] for place in (4, 1)]
    assert _ids(model, part, temperature=1.0, seed=3, rows=[4, 1]) == [whole[4], whole[1]]
    assert _ids(model, part, temperature=1.0, seed=3) != [whole[4], whole[1]]


def test_equal_prompts_are_read_once_and_answered_apart(model):
    prompts = [PROMPTS[0]] * 3 + [PROMPTS[1]] + [PROMPTS[0]]
    alone = _ids(model, prompts, temperature=1.0, seed=3, batch_size=1)
    shapes = []
    handle = model.register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    assert _ids(model, prompts, temperature=1.0, seed=3) == alone
    handle.remove()
    assert shapes[:2] == [(2, 3), (5, 1)]
    assert len({tuple(ids) for ids in alone}) > 2


def test_what_ends_is_told_at_its_step(model):
    greedy = _ids(model)
    eos = greedy[0][2]
    options = {"eos": eos, "pad": PAD, "max_new_tokens": 12}
    steps = [[index for index, _ in ended] for ended in generate(model, PROMPTS, **options)]
    ends = [ids.index(eos) if eos in ids else 11 for ids in greedy]
    assert len(steps) == max(ends) + 1
    assert [step for i in range(5) for step, ended in enumerate(steps) if i in ended] == ends


def test_a_seed_fixes_the_draws_and_another_changes_them(model):
    assert _ids(model, temperature=1.0, seed=1) == _ids(model, temperature=1.0, seed=1)
    assert _ids(model, temperature=1.0, seed=1) != _ids(model, temperature=1.0, seed=2)


def test_sampling_follows_the_softmax_at_the_temperature(model):
    prompt, draws, temperature = [5, 9, 11], 4000, 1.5
    firsts = np.array(
        [ids[0] for ids in _ids(model, [prompt] * draws, temperature=temperature, max_new_tokens=1)]
    )
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    expected = (logits / temperature).softmax(-1).numpy()
    observed = np.bincount(firsts, minlength=len(expected)) / draws
    assert 0.5 * np.abs(observed - expected).sum() < 0.06  # total variation


def test_generation_stops_at_eos_and_counts_it(model):
    first = _ids(model)[0]
    ended = _ids(model, [PROMPTS[0]], eos=first[2])[0]
    assert ended == first[: first.index(first[2]) + 1]


def test_mean_log_prob_is_that_of_a_plain_forward_pass(model):
    (generation,) = _generations(model, [PROMPTS[2]], eos=EOS, pad=PAD, max_new_tokens=6)
    with torch.no_grad():
        logits = model(torch.tensor([PROMPTS[2] + generation.ids])).logits[0].double()
    start = len(PROMPTS[2]) - 1
    log_probs = logits[start:-1].log_softmax(-1)
    expected = log_probs[range(len(generation.ids)), generation.ids].mean()
    assert generation.mean_log_prob == pytest.approx(float(expected), abs=1e-4)
