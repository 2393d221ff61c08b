import pytest

from knexa.federation.summary import (
    codebleu_scores,
    costs_of,
    outcomes_of,
    own_pass_scores,
    pass_scores,
)
from knexa.tracking.metrics import regret_totals
from knexa.tracking.rows import ServerCosts
from tests.row_examples import exchange_row, regret_row, round_row, sample_row


def _sample(agent, task, sample, outcome):
    return sample_row(agent=agent, task_id=task, sample=sample, outcome=outcome)


def test_pass_at_k_is_the_mean_over_agents_and_problems():
    outcomes = {(0, "a"): "pf", (0, "b"): "ff", (1, "a"): "pp", (1, "b"): "pf"}
    samples = [
        _sample(agent, task, number, "passed" if letter == "p" else "failed")
        for (agent, task), letters in outcomes.items()
        for number, letter in enumerate(letters)
    ]
    scores = pass_scores(samples, ks=(1, 2), seed=0)
    assert scores[1].mean == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert scores[2].mean == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert scores[1].per_agent == pytest.approx([0.25, 0.75])
    assert scores[1].low <= scores[1].mean <= scores[1].high
    compat, fixed = codebleu_scores(samples, seed=0)
    assert (compat.mean, fixed.mean) == (0.5, 0.25)


def test_own_pass_at_k_weighs_each_category_by_the_agents_data():
    by_category = {"a": 0, "b": 0, "c": 1}
    passed = {0: "ac", 1: "b"}
    samples = [
        sample_row(
            agent=agent,
            task_id=task,
            category=by_category[task],
            outcome="passed" if task in passed[agent] else "failed",
        )
        for agent in passed
        for task in by_category
    ]
    shares = [(0.25, 0.75), (1.0, 0.0)]
    own = own_pass_scores(samples, ks=(1,), data_shares=shares, seed=0)[1]
    assert own.per_agent == pytest.approx([0.25 * 0.5 + 0.75, 0.5])
    assert own.mean == pytest.approx((0.875 + 0.5) / 2)
    even = own_pass_scores(samples, ks=(1,), data_shares=[(2 / 3, 1 / 3)] * 2, seed=0)[1]
    assert even.per_agent == pytest.approx(pass_scores(samples, ks=(1,), seed=0)[1].per_agent)


def test_a_category_that_is_not_tested_counts_for_nothing():
    samples = [sample_row(agent=0, task_id="a", category=0, outcome="passed")]
    own = own_pass_scores(samples, ks=(1,), data_shares=[(0.1, 0.9)], seed=0)[1]
    assert own.mean == pytest.approx(1.0)


def test_what_the_sandbox_lost_is_not_a_wrong_answer():
    samples = [
        _sample(0, "a", 0, "passed"),
        _sample(0, "a", 1, "infrastructure_error"),
        _sample(0, "b", 0, "passed"),
        _sample(0, "b", 1, "failed"),
    ]
    assert pass_scores(samples, ks=(1,), seed=0)[1].mean == pytest.approx(0.75)
    assert outcomes_of(samples) == {"failed": 1, "infrastructure_error": 1, "passed": 2}


def test_regret_is_summed_raw_and_unclamped():
    totals = [(1.0, 0.4, 0.2), (0.5, 0.7, 0.1)]
    rows = [
        regret_row(round=number, best=best, chosen=chosen, random=random)
        for number, (best, chosen, random) in enumerate(totals, start=1)
    ]
    found = regret_totals(rows)
    assert found.cumulative_regret == pytest.approx(0.4)
    assert found.random_regret == pytest.approx(1.2)
    assert found.regret_rounds == (1, 2)


def test_a_plan_that_is_no_pairing_has_no_regret():
    found = regret_totals([regret_row(best=1.0, chosen=None, random=0.5)])
    assert found.cumulative_regret is None
    assert found.random_regret == pytest.approx(0.5)


def test_costs_are_everybodys_servers_and_scouting_included():
    rounds = [
        round_row(
            agent=0, tokens_trained=10, tokens_generated=1, optimizer_steps=2, kilobytes_scouted=4.0
        ),
        round_row(agent=1, tokens_trained=5, optimizer_steps=1),
    ]
    server = ServerCosts(tokens_trained=7, tokens_generated=3, optimizer_steps=1, delta=0.1)
    exchanges = [exchange_row(kilobytes=1.5, server=server), exchange_row(kilobytes=2.0)]
    costs = costs_of(rounds, exchanges)
    assert (costs.tokens_trained, costs.tokens_generated) == (22, 4)
    assert (costs.steps, costs.tokens, costs.kilobytes) == (4, 26, 7.5)


def test_sier_is_the_mean_over_the_rounds_in_which_agents_sent_text():
    rounds = [round_row(sier=sier) for sier in (0.5, None, 0.0)]
    assert costs_of(rounds, []).sier == 0.25
    assert costs_of(rounds[1:2], []).sier is None
