"""Rows of a small made-up run, as the round loop writes them."""

from pathlib import Path

from knexa.data.problem import CATEGORIES
from knexa.tracking.info import AgentInfo, RunInfo, StartInfo

NAMES = ("ada", "bob", "cyd", "dan")
NUM_ROUNDS = 3


def round_rows(round):
    return [
        {
            "round": round,
            "agent": agent,
            "name": name,
            "backbone": "tiny",
            "train_loss": 1.0 / (round + agent + 1) if round else None,
            "validation_loss": 1.5 - 0.1 * round - 0.01 * agent,
            "learn_loss": 0.7 if round and agent % 2 else None,
            "pass@1_greedy": 0.1 * (round + 1) + 0.01 * agent,
            "codebleu_compat": 0.3,
            "codebleu_fixed": 0.2,
            "tokens_trained": 100,
            "tokens_generated": 50,
            "optimizer_steps": 4,
            "kilobytes_received": 1.5,
        }
        for agent, name in enumerate(NAMES)
    ]


def exchange_rows(round):
    pairs = [((0, 1), (2, 3)), ((1, 2), (3, 0)), ((0, 1), (3, 2))][(round - 1) % 3]
    return [
        {
            "id": f"r{round}-{index}",
            "round": round,
            "teachers": [teacher],
            "students": [student],
            "protocol": "akd",
            "score": 0.5,
            "reward_raw": 0.1 * (index + 1),
            "reward_normalised": 1.0 - 2 * index,
            "kilobytes": 2.5,
            "items_sent": 8,
            "items_kept": 3,
            "guardrail": {"blocked": 0, "redacted": 1, "counted": 8},
        }
        for index, (teacher, student) in enumerate(pairs)
    ]


def regret_row(round):
    return {
        "round": round,
        "rewards": [
            [float("nan") if i == j else 0.1 * (i - j) for j in range(4)] for i in range(4)
        ],
        "no_teacher": [0.01, 0.02, 0.03, 0.04],
        "best": 0.5,
        "chosen": 0.3 + 0.05 * round,
        "random": 0.2,
        "best_pairs": [[3, 0], [2, 1]],
    }


def sample_rows():
    return [
        {
            "task_id": f"codelets/{category}/t/0",
            "agent": agent,
            "sample": sample,
            "completion": "    return x\n",
            "outcome": "passed" if (agent + index + sample) % 3 == 0 else "failed",
            "category": category,
        }
        for agent in range(4)
        for index, category in enumerate(CATEGORIES)
        for sample in range(2)
    ]


def score(value):
    return {"mean": value, "low": value - 0.05, "high": value + 0.05, "per_agent": [value] * 4}


SUMMARY = {
    "pass@1": score(0.4),
    "pass@10": score(0.6),
    "codebleu_compat": score(0.3),
    "codebleu_fixed": score(0.2),
    "cumulative_regret": 0.3,
    "random_regret": 0.9,
    "regret_rounds": [1, 2, 3],
    "kilobytes": 15.0,
    "tokens": {"trained": 1600, "generated": 800},
    "steps": 64,
    "seed": 7,
    "config_hash": "0123abcd",
    "needs": [],
    "excluded": [],
    "data_shares": [[1 / 12] * 12] * 4,
}


def run_info(path: Path, *, resumed=False):
    return RunInfo(
        id="0123abcd",
        name="linucb-s7-0123abcd",
        group="default",
        job_type="linucb",
        path=path,
        config={"seed": 7, "matchmaker": {"lambda_": 1.0}},
        tags=("tiny",),
        resumed=resumed,
    )


def start_info(path: Path):
    return StartInfo(
        run_name="linucb-s7-0123abcd",
        run_path=path,
        num_rounds=NUM_ROUNDS,
        agents=[
            AgentInfo(
                name=name,
                backbone="tiny",
                num_parameters=720_000,
                num_trainable=33_000,
                num_train=45,
                num_validation=9,
                top_categories=("arithmetic",),
            )
            for name in NAMES
        ],
        data="codelets: 348 train, 116 test, 128 transfer",
        partition="dirichlet, alpha 0.1",
        mean_js=0.61,
        matchmaker="oracle",
        needs=("probes",),
        exchange="akd",
        workers="2 workers: 2 cores, no GPU",
        sandbox=("landlock",),
    )


def log_round(tracker, round):
    tracker.log_rounds(round_rows(round))
    if round:
        tracker.log_exchanges(exchange_rows(round))
        tracker.log_regret(regret_row(round))
    tracker.log_timing({"round": round, "phase": "teach", "agent": None, "seconds": 0.5})
    return tracker.end_round(round)
