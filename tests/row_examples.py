"""Rows and summaries with every column, for tests that care about a few."""

from knexa.tracking.rows import (
    Costs,
    ExchangeRow,
    Privacy,
    RegretRow,
    RegretTotals,
    RoundRow,
    SampleRow,
    Score,
    Scores,
    Summary,
)


def round_row(**columns) -> RoundRow:
    usual = {
        "round": 1,
        "agent": 0,
        "name": f"agent-{columns.get('agent', 0)}",
        "backbone": "tiny",
        "pass_at_1_greedy": None,
        "own_pass_at_1_greedy": None,
        "tokens_trained": 0,
        "tokens_generated": 0,
        "optimizer_steps": 0,
        "kilobytes_received": 0.0,
        "present": True,
        "busy": False,
        "copies_ignored": 0,
        "clock_s": 0.0,
    }
    return RoundRow(**usual | columns)


def exchange_row(**columns) -> ExchangeRow:
    usual = {
        "id": "r1-0",
        "round": 1,
        "teachers": (0,),
        "students": (1,),
        "protocol": "akd",
        "score": None,
        "reward_raw": 0.0,
        "reward_normalised": 0.0,
        "kilobytes": 1.0,
        "items_sent": 1,
        "items_kept": 1,
        "guardrail": {"blocked": 0, "redacted": 0, "counted": 0},
        "server": None,
        "outcome": "delivered",
        "issued_round": columns.get("round", 1),
    }
    return ExchangeRow(**usual | columns)


def regret_row(**columns) -> RegretRow:
    usual = {
        "round": 1,
        "rewards": None,
        "no_teacher": (),
        "best": 0.0,
        "chosen": None,
        "random": None,
        "best_pairs": (),
    }
    return RegretRow(**usual | columns)


def sample_row(**columns) -> SampleRow:
    usual = {
        "task_id": "t/0",
        "agent": 0,
        "sample": 0,
        "category": 0,
        "outcome": "failed",
        "codebleu_compat": 0.5,
        "codebleu_fixed": 0.25,
        "completion": "    return x\n",
    }
    return SampleRow(**usual | columns)


def score(mean: float, num_agents: int = 4) -> Score:
    return Score(mean=mean, low=mean - 0.05, high=mean + 0.05, per_agent=(mean,) * num_agents)


def scores(**columns) -> Scores:
    usual = {
        "pass_at": {},
        "own_pass_at": {},
        "honest_pass_at": {},
        "privacy": Privacy(profiles=None, training=None),
        "data_shares": (),
    }
    return Scores(**usual | columns)


def costs(**columns) -> Costs:
    usual = {
        "kilobytes": 0.0,
        "exchanges": 0,
        "mean_reward": None,
        "tokens_trained": 0,
        "tokens_generated": 0,
        "sier": None,
        "steps": 0,
        "tokens": 0,
        "directives": {},
        "faults": {},
        "clock_s": 0.0,
    }
    return Costs(**usual | columns)


def summary(**columns) -> Summary:
    usual = {
        "seed": 7,
        "config_hash": "0123abcd",
        "recipe": 1,
        "matchmaker": "linucb",
        "exchange": "akd",
        "needs": (),
        "regret": RegretTotals(cumulative_regret=None, random_regret=None, regret_rounds=()),
        "costs": costs(),
        "scores": scores(),
    }
    return Summary(**usual | columns)
