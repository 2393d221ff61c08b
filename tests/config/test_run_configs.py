"""Small runs of other configs, each to its end."""

import re

import pytest

from tests.whole_runs import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "overrides",
    [
        ("matchmaker=random", "exchange=akd"),
        ("matchmaker=local_only",),
        ("matchmaker=oracle", "regret=none"),
        ("matchmaker=fedid", "roster.server=tiny-neox"),
        ("experiment=paper", "roster=tiny6", "data=codelets", "name=smoke"),
    ],
    ids=lambda overrides: "-".join(overrides[:2]),
)
def test_other_configs_run_to_the_end(tmp_path, overrides):
    output = run(tmp_path, "evaluation.max_new_tokens=40", "data.num_test=12", *overrides)
    assert re.search(r"Pass@1\s+\d", output)


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
