"""Small runs of other configs, each to its end."""

import json
import re

import pytest

from knexa.data.problem import CATEGORIES
from tests.backbones.gguf_files import Q4_1, small_llama, write_gguf
from tests.whole_runs import files, run

pytestmark = pytest.mark.slow
TRIO = (
    "data.num_train=36",
    "data.num_transfer=12",
    "roster.agents=[{name:a,backbone:tiny-qwen2},{name:b,backbone:tiny-gpt2},"
    "{name:c,backbone:tiny-qwen2}]",
)


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=paired", "name=smoke", "regret=every_round"),
        ("experiment=paired", "name=smoke", "matchmaker=random", "exchange=akd"),
        ("matchmaker=local_only",),
        ("matchmaker=fedid", "roster.server=tiny-neox"),
        ("experiment=paper", "roster=tiny6", "data=codelets", "name=smoke"),
    ],
    ids=lambda overrides: "-".join(overrides[:2]),
)
def test_other_configs_run_to_the_end(tmp_path, overrides):
    output = run(tmp_path, "evaluation.max_new_tokens=40", "data.num_test=12", *overrides)
    assert re.search(r"Pass@1\s+\d", output)


@pytest.mark.parametrize(
    "overrides",
    [
        ("matchmaker=oracle", "matching.budget=6", "context=topic_public"),
        ("matchmaker=thompson", "matching=one_to_many", "matching.capacity=2"),
        ("matchmaker=c2ucb", "matching=exact"),
        ("matchmaker=random", "matching=broadcast", "regret=none"),
        ("matchmaker=self_taught",),
        (
            *("matchmaker=heuristic", "exchange.ask=missing"),
            *("federation.sync=async", "federation/faults=torture"),
        ),
        ("matchmaker=neural_linear", "roster.byzantine.num=1", "roster.byzantine.attack=forged"),
    ],
    ids=" ".join,
)
def test_what_can_be_chosen_beside_the_default_runs_to_the_end(tmp_path, overrides):
    run(tmp_path, "evaluation.max_new_tokens=40", "data.num_test=12", *TRIO, *overrides)
    text = files(tmp_path)["exchanges.jsonl"]
    assert all(json.loads(line)["answers_asked"] for line in text.splitlines()[:3])
    assert len(text.splitlines()) >= 2


def test_topics_may_be_clusters_and_the_directory_says_what_they_are(tmp_path):
    clusters = ("topics=clusters", "topics.num_clusters=5")
    output = run(tmp_path, "evaluation.max_new_tokens=40", "data.num_test=12", *TRIO, *clusters)
    found = files(tmp_path)
    summary = json.loads(found["summary.json"])
    labels = summary["skew"]["categories"]
    assert len(set(labels)) == 5
    assert not set(labels) & set(CATEGORIES)
    assert {len(shares) for shares in summary["data_shares"]} == {5}
    rows = [json.loads(line) for line in found["exchanges.jsonl"].splitlines()]
    assert {topic for row in rows for topic in row["topics"]} <= set(range(5))
    assert any(label.replace("_", " ") in output for label in labels)
    assert "plots/questions.png" in found


def test_the_published_roster_without_a_network_is_one_line(tmp_path):
    output = run(tmp_path, "roster=paper6", code=2, HF_HOME=str(tmp_path / "none"))
    (line,) = output.strip().splitlines()
    assert line.startswith("error:")
    assert "Qwen/Qwen1.5-0.5B" in line
    assert "HF_HOME" in line


def test_real_problems_run_to_the_end_on_the_tiny_roster(tmp_path, benchmarks):
    output = run(
        tmp_path,
        "data=humaneval_mbpp",
        f"data.path={benchmarks}",
        "data.num_test=12",
        "data.num_train=452",
        "data.num_transfer=12",
        "federation.num_rounds=1",
        "training.local_epochs=1",
        "regret=none",
    )
    assert re.search(r"Pass@1\s+\d", output)


def test_a_mixed_roster_runs_to_the_end(tmp_path):
    """A model in a GGUF file beside a tiny one that reads less."""
    write_gguf(tmp_path / "a.gguf", small_llama(), Q4_1)
    llama = f"source: 'gguf:{tmp_path}/a.gguf', family: llama, max_length: 128"
    run(
        tmp_path,
        "roster.agents=[{name: real, backbone: llama}, {name: tiny, backbone: tiny-gpt2}]",
        "roster.size=3",
        f"+roster.backbones.llama={{{llama}, lora: {{rank: 2, alpha: 4, dropout: 0.0}}}}",
        "+roster.backbones.tiny-gpt2.max_length=96",
        "training.max_length=400",
        "evaluation.max_new_tokens=40",
        "data.num_test=12",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    asked = [json.loads(line) for line in files(tmp_path)["exchanges.jsonl"].splitlines()]
    assert {teacher for row in asked for teacher in row["teachers"]} == {0, 1, 2}


@pytest.mark.timeout(1800)
def test_hidden_tests_are_reported_at_the_end(tmp_path, evalplus_files, references):
    output = run(
        tmp_path,
        "data=evalplus",
        f"data.path={evalplus_files}",
        "data.num_test=12",
        "data.num_transfer=12",
        "federation.num_rounds=1",
        "training.local_epochs=1",
        "evaluation.max_new_tokens=40",
        "regret=none",
    )
    assert "Pass@1, hidden too" in output
    found = files(tmp_path)
    summary = json.loads(found["summary.json"])
    assert summary["pass@1_plus"]["mean"] <= summary["pass@1"]["mean"]
    assert summary["pass@1_plus"]["num_problems"] == 12
    assert summary["verified_answers"].keys() == {"answers", "wrong", "wrong_share"}
    assert summary["excluded"] == []
