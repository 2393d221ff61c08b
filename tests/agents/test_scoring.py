"""Losses and scores of text: how many sequences are measured at once, and what that leaves."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from knexa.agents import scoring
from knexa.agents.exchange_protocol import ExchangeContext
from knexa.agents.scoring import mean_log_probs, mean_loss, text_loss
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example
from knexa.backbones.load import load_backbone
from knexa.config.components import instantiate
from knexa.exchange.package import KnowledgePackage, TextItem
from knexa.protocols.logits import Logits

CONF = Path(__file__).parents[2] / "conf"
ROSTER = instantiate(yaml.safe_load((CONF / "roster" / "tiny6.yaml").read_text()), key="roster")
STATE = AgentState(index=0, adapter={})
TEXTS = [KeptText(task_id=str(number), completion="") for number in range(7)]

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=ROSTER.backbones)
def loaded(request):
    return load_backbone(ROSTER.backbones[request.param], name=request.param)


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return [Example(rng.integers(5, 400, 12 + 3 * i).tolist(), 4 + i) for i in range(len(TEXTS))]


@pytest.fixture
def runtime(loaded, examples):
    return SimpleNamespace(
        backbone=lambda state: loaded,
        evaluation=SimpleNamespace(batch_size=5),
        kept_example=lambda tokenizer, text: examples[int(text.task_id)],
    )


@pytest.fixture
def outputs(loaded):
    """What the model gives, call by call."""
    found = []
    handle = loaded.model.register_forward_hook(lambda *called: found.append(called[-1]))
    yield found
    handle.remove()


@pytest.mark.parametrize("rows", [1, 2])
def test_logits_stay_within_the_limit(loaded, runtime, examples, outputs, monkeypatch, rows):
    whole = mean_loss(runtime, STATE, examples), mean_log_probs(runtime, STATE, TEXTS)
    assert [len(output.logits) for output in outputs] == [5, 2, 5, 2]
    outputs.clear()
    longest = max(len(example.ids) for example in examples)
    row_bytes = 4 * longest * loaded.model.config.vocab_size
    monkeypatch.setattr(scoring, "MOST_LOGIT_BYTES", rows * row_bytes if rows > 1 else 1)
    parts = mean_loss(runtime, STATE, examples), mean_log_probs(runtime, STATE, TEXTS)
    assert max(output.logits.nbytes for output in outputs) <= rows * row_bytes
    assert len(outputs) == (14 if rows == 1 else 8)
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert parts[1] == pytest.approx(whole[1], rel=1e-4)


def test_measuring_keeps_no_keys_and_values(runtime, examples, outputs):
    mean_loss(runtime, STATE, examples)
    mean_log_probs(runtime, STATE, TEXTS)
    items = tuple(TextItem(task_id=t.task_id, completion=t.completion) for t in TEXTS)
    package = KnowledgePackage(sender="a", round=1, items=items)
    Logits(top_k=2).attachment(ExchangeContext(runtime, 1), STATE, package)
    assert outputs
    assert all(output.past_key_values is None for output in outputs)


def test_the_loss_on_text_is_a_mean_over_tokens_however_sure_its_teacher_was(model):
    answers = {"a": [5, 6, 7], "b": [5, 6, 7, 8, 9, 10, 11, 12]}
    runtime = SimpleNamespace(
        backbone=lambda _: SimpleNamespace(model=model, tokenizer=SimpleNamespace(pad_token_id=0)),
        kept_example=lambda _, text: Example(answers[text.task_id], 1, weight=text.weight),
        evaluation=SimpleNamespace(batch_size=4),
    )
    state = AgentState(index=0, adapter={})
    plain, weighed = (
        [KeptText(task_id=i, completion="", weight=w) for i, w in zip("ab", weights, strict=True)]
        for weights in ((1.0, 1.0), (0.2, 1.8))
    )
    assert text_loss(runtime, state, weighed) == pytest.approx(text_loss(runtime, state, plain))
    assert text_loss(runtime, state, []) == float("inf")
