"""Membership inference: the attacks find what is there to be found, and nothing else."""

import json
from functools import cache

import numpy as np
import pytest

from knexa.cli.commands import run_command_line
from knexa.data.codelets import Codelets
from knexa.data.partition import Dirichlet
from knexa.membership_inference.attacks import (
    ATTACKS,
    Evidence,
    NgramModel,
    longest_run,
    ngram_overlap,
    ngrams,
    tokens,
)
from knexa.membership_inference.experiment import attack_all, scores
from knexa.membership_inference.measures import auc, power
from knexa.seeding import derive_rng

SEEDS = range(4)


@cache
def benchmark():
    return Codelets().load()


def splits(seed: int):
    problems = benchmark().train
    return Dirichlet(alpha=1.0).split(problems, 6, derive_rng(seed, "partition"))


def public_text(seed: int):
    """Clients that send right answers to public problems, and nothing of their own."""
    transfer = benchmark().transfer
    rng = derive_rng(seed, "sent")
    return [
        tuple(
            tokens(transfer[i].canonical_solution)
            for i in rng.choice(len(transfer), len(transfer) // 2, replace=False)
        )
        for _ in range(6)
    ]


def aucs(evidence: str, attack: str) -> list[float]:
    return [powers(seed)[evidence][attack]["auc"] for seed in SEEDS]


@cache
def powers(seed: int):
    return attack_all(splits(seed), public_text(seed), seed)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_client_that_regurgitates_is_found(attack):
    measured = [powers(seed)["regurgitated"][attack] for seed in SEEDS]
    assert min(power["auc"] for power in measured) > 0.7
    assert min(power["advantage"] for power in measured) > 0.25


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("evidence", ["packages", "another's"])
def test_text_of_other_data_tells_nothing(attack, evidence):
    num_members = sum(len(data.train) for data in splits(0))
    num_others = sum(len(data.validation) for data in splits(0))
    # The standard deviation of Mann-Whitney's U without a difference, for a mean over seeds.
    error = ((num_members + num_others + 1) / (12 * num_members * num_others * len(SEEDS))) ** 0.5
    assert np.mean(aucs(evidence, attack)) == pytest.approx(0.5, abs=3.5 * error)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_client_that_regurgitates_a_tenth_is_found_as_far_as_it_does(attack):
    data = splits(0)
    held = []
    for client in data:
        told = client.train[::10]
        own = tuple(tokens(problem.canonical_solution) for problem in told)
        others = tuple(text for texts in public_text(0) for text in texts)
        held.append(Evidence((*own, *others), others))
    ins, outs = scores(ATTACKS[attack], data, held)
    assert auc(np.array(ins), np.array(outs)) > 0.5


def test_one_client_s_leak_is_not_found_at_another():
    sent = public_text(0)
    data = splits(0)
    leak = tuple(tokens(problem.canonical_solution) for problem in data[0].train)
    leaking = attack_all(data, [(*leak, *sent[0]), *sent[1:]], 0)
    for attack in ATTACKS:
        assert leaking["packages"][attack]["auc"] > powers(0)["packages"][attack]["auc"]
        assert abs(leaking["another's"][attack]["auc"] - 0.5) < 0.1


def test_the_longest_run_is_the_longest_and_lies_in_one_text():
    (problem,) = benchmark().train[:1]
    solution = tokens(problem.canonical_solution)
    assert longest_run(Evidence((), ()), [problem]) == [0.0]
    whole = (solution, tokens(problem.prompt))
    assert longest_run(Evidence(whole, ()), [problem]) == [1.0]
    halves = (solution[: len(solution) // 2], solution[len(solution) // 2 :])
    found = longest_run(Evidence(halves, ()), [problem])[0]
    expected = max(
        n
        for n in range(len(solution) + 1)
        if n == 0 or any(set(ngrams(solution, n)) & set(ngrams(half, n)) for half in halves)
    )
    assert expected < len(solution)
    assert found == pytest.approx((expected / len(solution) + prompt_share(problem, halves)) / 2)
    assert ngram_overlap(Evidence(whole, ()), [problem]) == [1.0]


def prompt_share(problem, texts) -> float:
    prompt = tokens(problem.prompt)
    runs = [
        n
        for n in range(len(prompt) + 1)
        if n == 0 or any(set(ngrams(prompt, n)) & set(ngrams(text, n)) for text in texts)
    ]
    return max(runs) / len(prompt)


def test_an_ngram_model_is_a_distribution_and_prefers_what_it_saw():
    model = NgramModel([tokens("return x + 1"), tokens("return y + 1")])
    vocabulary = ["return", "x", "y", "+", "1", "never"]
    for history in [(), ("return",), ("x", "+"), ("never", "seen", "this")]:
        total = sum(model._probability(token, history) for token in vocabulary)
        assert total == pytest.approx(1.0)
    assert model.mean_log_prob(tokens("return x + 1")) > model.mean_log_prob(tokens("1 + x return"))


@pytest.mark.parametrize(
    ("ins", "outs", "expected"),
    [([2.0, 3.0], [0.0, 1.0], 1.0), ([1.0, 1.0], [1.0, 1.0], 0.5), ([0.0, 2.0], [1.0, 1.0], 0.5)],
)
def test_auc_is_the_chance_of_the_right_order(ins, outs, expected):
    assert auc(np.array(ins), np.array(outs)) == expected


def test_guessing_has_no_power_on_average():
    rng = np.random.default_rng(5)
    found = [power(rng.random(276), rng.random(72), rng) for _ in range(100)]
    assert np.mean([p.auc for p in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([p.advantage for p in found]) == pytest.approx(0.0, abs=0.03)
    assert np.mean([p.tpr for p in found]) == pytest.approx(4 / 73, abs=0.015)


def test_a_power_needs_two_of_each():
    with pytest.raises(ValueError, match="two members"):
        power([1.0], [0.0, 1.0], np.random.default_rng(0))


def test_help_and_mistakes_are_short(capsys):
    assert run_command_line(["audit", "--help"]) == 0
    assert "seed=0,1,2" in capsys.readouterr().out
    assert run_command_line(["audit", "guardrail=nonsense"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_command_attacks_real_clients(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "audit",
        "seed=0",
        "training=default",
        "guardrail=none,standard",
        "federation.num_rounds=1",
        "training.local_epochs=1",
        "exchange.num_problems=8",
        "exchange.num_steps=1",
        "data.num_train=132",
        "data.num_test=12",
        "data.num_transfer=16",
        "evaluation.max_new_tokens=16",
        "partition.alpha=10",
        "engine.num_workers=1",
    ]
    assert run_command_line(arguments) == 0, capsys.readouterr().err
    path = tmp_path / "outputs" / "default" / "membership" / "membership.json"
    report = json.loads(path.read_text())
    assert len(report["rows"]) == 2 * 3 * len(ATTACKS)
    assert {row["point"] for row in report["rows"]} == {"guardrail=none", "guardrail=standard"}
    # The guardrail looks for secrets, and codelets hold none: it hides no membership.
    none, standard = (
        [row | {"point": ""} for row in report["rows"] if row["point"] == f"guardrail={name}"]
        for name in ("none", "standard")
    )
    assert none == standard
    found = [row for row in report["rows"] if row["evidence"] == "regurgitated"]
    assert min(row["auc"]["mean"] for row in found) > 0.6
