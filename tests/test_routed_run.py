"""Small whole runs of routed matchmaking: workers and kills change nothing; others are refused."""

import json
import os
import signal
from pathlib import Path

import pytest

from tests.whole_runs import files, run, start

pytestmark = pytest.mark.slow
ROUTED = (
    "experiment=routed",
    "evaluation.num_samples=1",
    "evaluation.ks=[1]",
    "evaluation.max_new_tokens=40",
    "data.num_test=12",
)
TRIO = (
    "data.num_train=36",
    "data.num_transfer=12",
    "roster.agents=[{name:a,backbone:tiny-qwen2},{name:b,backbone:tiny-gpt2},"
    "{name:c,backbone:tiny-qwen2}]",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run of one worker."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, *ROUTED, "engine.num_workers=1")
    return folder


def rows(folder: Path, name: str) -> list[dict]:
    (text,) = (content for path, content in files(folder).items() if path == name)
    return [json.loads(line) for line in text.splitlines()]


def test_every_round_has_its_exact_regret_and_every_exchange_its_topic(finished):
    regret = rows(finished, "regret.jsonl")
    exchanges = rows(finished, "exchanges.jsonl")
    assert [row["round"] for row in regret] == [1, 2]
    for row in regret:
        mine = [each for each in exchanges if each["issued_round"] == row["round"]]
        assert len(mine) == 6 * 12
        assert {(*each["students"], *each["topics"]) for each in mine} == {
            (student, topic) for student in range(6) for topic in range(12)
        }
        assert sum(each["reward_raw"] for each in mine) == pytest.approx(row["chosen"])
        assert 0.0 <= row["random"] <= row["best"]
        assert row["chosen"] <= row["best"]
        assert all(
            each["answers_new"] <= each["answers_right"] <= each["answers_asked"] == 2
            for each in mine
        )
    assert regret[-1]["best"] > 0.0
    assert "plots/pairing_matrix.png" in files(finished)
    assert "plots/regret.png" in files(finished)


def test_two_workers_write_the_same_bytes_as_one(finished, tmp_path):
    run(tmp_path, *ROUTED, "engine.num_workers=2")
    assert files(tmp_path) == files(finished)


def test_a_killed_run_resumes_to_the_same_bytes(finished, tmp_path):
    process = start(tmp_path, *ROUTED, "engine.num_workers=2")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1/"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "DONE" not in files(tmp_path)
    assert "resumed" in run(tmp_path, *ROUTED, "engine.num_workers=1")
    assert files(tmp_path) == files(finished)


@pytest.mark.parametrize(
    "overrides",
    [
        ("matchmaker=oracle", "matching.budget=6", "context=topic_public"),
        (
            "matchmaker=thompson",
            "matching=one_to_many",
            "matching.capacity=2",
            "context=interaction",
        ),
        ("matchmaker=random", "matching=broadcast", "regret=none"),
        ("matchmaker=self_taught",),
        ("matchmaker=heuristic", "federation.sync=async", "federation/faults=torture"),
        (
            "matchmaker=neural_linear",
            "roster.byzantine.num=1",
            "roster.byzantine.attack=forged",
        ),
    ],
    ids=" ".join,
)
def test_other_choices_run_to_the_end(tmp_path, overrides):
    run(tmp_path, *ROUTED, *TRIO, *overrides)
    exchanges = rows(tmp_path, "exchanges.jsonl")
    assert len(exchanges) >= 6
