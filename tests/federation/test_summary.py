import pytest

from knexa.federation.summary import summarize, summarize_samples


def _sample(agent, task, sample, outcome, compat=0.5):
    return {
        "task_id": task,
        "agent": agent,
        "sample": sample,
        "outcome": outcome,
        "codebleu_compat": compat,
        "codebleu_fixed": compat / 2,
    }


def test_pass_at_k_is_the_mean_over_agents_and_problems():
    outcomes = {(0, "a"): "pf", (0, "b"): "ff", (1, "a"): "pp", (1, "b"): "pf"}
    samples = [
        _sample(agent, task, number, "passed" if letter == "p" else "failed")
        for (agent, task), letters in outcomes.items()
        for number, letter in enumerate(letters)
    ]
    summary = summarize_samples(samples, ks=(1, 2), seed=0)
    assert summary["pass@1"]["mean"] == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert summary["pass@2"]["mean"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert summary["pass@1"]["per_agent"] == pytest.approx([0.25, 0.75])
    assert summary["pass@1"]["low"] <= summary["pass@1"]["mean"] <= summary["pass@1"]["high"]
    assert summary["codebleu_fixed"]["mean"] == pytest.approx(0.25)


def test_what_the_sandbox_lost_is_not_a_wrong_answer():
    samples = [
        _sample(0, "a", 0, "passed"),
        _sample(0, "a", 1, "infrastructure_error"),
        _sample(0, "b", 0, "passed"),
        _sample(0, "b", 1, "failed"),
    ]
    summary = summarize_samples(samples, ks=(1,), seed=0)
    assert summary["pass@1"]["mean"] == pytest.approx(0.75)
    assert summary["outcomes"] == {"failed": 1, "infrastructure_error": 1, "passed": 2}


def test_regret_is_summed_raw_and_unclamped():
    totals = [(1.0, 0.4, 0.2), (0.5, 0.7, 0.1)]
    rows = [
        {"round": number, "best": best, "chosen": chosen, "random": random}
        for number, (best, chosen, random) in enumerate(totals, start=1)
    ]
    summary = summarize([], [], rows)
    assert summary["cumulative_regret"] == pytest.approx(0.4)
    assert summary["random_regret"] == pytest.approx(1.2)
    assert summary["regret_rounds"] == [1, 2]


def test_a_plan_that_is_no_pairing_has_no_regret():
    row = {"round": 1, "best": 1.0, "chosen": None, "random": 0.5}
    summary = summarize([], [], [row])
    assert summary["cumulative_regret"] is None
    assert summary["random_regret"] == pytest.approx(0.5)


def test_costs_are_everybodys_servers_and_scouting_included():
    rounds = [
        {
            "round": 1,
            "tokens_trained": 10,
            "tokens_generated": 1,
            "optimizer_steps": 2,
            "kilobytes_scouted": 4.0,
        },
        {"round": 1, "tokens_trained": 5, "tokens_generated": 0, "optimizer_steps": 1},
    ]
    server = {"tokens_trained": 7, "tokens_generated": 3, "optimizer_steps": 1, "delta": 0.1}
    exchanges = [{"kilobytes": 1.5, "server": server}, {"kilobytes": 2.0, "server": None}]
    rounds[0]["kilobytes_scouted"] = 4.0
    summary = summarize(rounds, exchanges, [])
    assert (summary["tokens_trained"], summary["tokens_generated"]) == (22, 4)
    assert (summary["steps"], summary["tokens"], summary["kilobytes"]) == (4, 26, 7.5)


def test_sier_is_the_mean_over_the_rounds_in_which_agents_sent_text():
    rounds = [
        {"round": 1, "tokens_trained": 0, "tokens_generated": 0, "optimizer_steps": 0, "sier": sier}
        for sier in (0.5, None, 0.0)
    ]
    assert summarize(rounds, [], [])["sier"] == 0.25
    assert summarize(rounds[1:2], [], [])["sier"] is None
