"""Rows of a small made-up run, as the round loop writes them."""

from pathlib import Path

from knexa.data.problem import CATEGORIES
from knexa.tracking.files import encode_row
from knexa.tracking.info import AgentInfo, RunInfo, StartInfo
from knexa.tracking.rows import RegretTotals
from tests import row_examples

NAMES = ("ada", "bob", "cyd", "dan")
NUM_ROUNDS = 3


def round_rows(round):
    return [
        row_examples.round_row(
            round=round,
            agent=agent,
            name=name,
            train_loss=1.0 / (round + agent + 1) if round else None,
            validation_loss=1.5 - 0.1 * round - 0.01 * agent,
            learn_loss=0.7 if round and agent % 2 else None,
            pass_at_1_greedy=0.1 * (round + 1) + 0.01 * agent,
            own_pass_at_1_greedy=0.3 + 0.1 * (round + 1) + 0.01 * agent,
            codebleu_compat=0.3,
            codebleu_fixed=0.2,
            tokens_trained=100,
            tokens_generated=50,
            optimizer_steps=4,
            kilobytes_received=1.5,
            kilobytes_scouted=0.0,
        )
        for agent, name in enumerate(NAMES)
    ]


def exchange_rows(round):
    pairs = [((0, 1), (2, 3)), ((1, 2), (3, 0)), ((0, 1), (3, 2))][(round - 1) % 3]
    return [
        row_examples.exchange_row(
            id=f"r{round}-{index}",
            round=round,
            teachers=(teacher,),
            students=(student,),
            score=0.5,
            reward_raw=0.1 * (index + 1),
            reward_normalised=1.0 - 2 * index,
            kilobytes=2.5,
            items_sent=8,
            items_kept=3,
            guardrail={"blocked": 0, "redacted": 1, "counted": 8},
        )
        for index, (teacher, student) in enumerate(pairs)
    ]


def regret_row(round):
    return row_examples.regret_row(
        round=round,
        rewards=tuple(
            tuple(float("nan") if i == j else 0.1 * (i - j) for j in range(4)) for i in range(4)
        ),
        no_teacher=(0.01, 0.02, 0.03, 0.04),
        best=0.5,
        chosen=0.3 + 0.05 * round,
        random=0.2,
        best_pairs=((3, 0), (2, 1)),
    )


def sample_rows():
    return [
        row_examples.sample_row(
            task_id=f"codelets/{name}/t/0",
            agent=agent,
            sample=sample,
            outcome="passed" if (agent + index + sample) % 3 == 0 else "failed",
            category=index,
        )
        for agent in range(4)
        for index, name in enumerate(CATEGORIES)
        for sample in range(2)
    ]


SUMMARY = row_examples.summary(
    regret=RegretTotals(cumulative_regret=0.3, random_regret=0.9, regret_rounds=(1, 2, 3)),
    costs=row_examples.costs(kilobytes=15.0, steps=64),
    scores=row_examples.scores(
        pass_at={1: row_examples.score(0.4), 10: row_examples.score(0.6)},
        codebleu_compat=row_examples.score(0.3),
        codebleu_fixed=row_examples.score(0.2),
        data_shares=((1 / 12,) * 12,) * 4,
    ),
)


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


def append_rounds(run_dir, name, *rounds):
    """Append to any file what is a row for all that truncating and sealing know."""
    lines = [encode_row({"round": round, "value": (round or 0) / 3}) for round in rounds]
    run_dir._rows_file(name).append(lines)


def log_round(tracker, round):
    tracker.log_rounds(round_rows(round))
    if round:
        tracker.log_exchanges(exchange_rows(round))
        tracker.log_regret(regret_row(round))
    tracker.log_timing("teach", 0, 0.5)
    return tracker.end_round(round)
