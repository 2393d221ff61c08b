"""One small run: what lies there after, and that workers, kills and repeats change nothing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.whole_runs import files, run, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run of one worker."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder, "engine.num_workers=1")
    return folder


def rows(folder: Path, name: str) -> list[dict]:
    (text,) = (content for path, content in files(folder).items() if path == name)
    return [json.loads(line) for line in text.splitlines()]


def test_the_directory_holds_the_contract(finished):
    found = files(finished)
    for name in (
        "config.yaml",
        "rounds.jsonl",
        "exchanges.jsonl",
        "regret.jsonl",
        "samples.jsonl.zst",
        "summary.json",
        "DONE",
        "plots/learning_curve.png",
        "plots/regret.png",
        "plots/pairing_matrix.png",
        "plots/skills.png",
    ):
        assert name in found, name
    summary = json.loads(found["summary.json"])
    for metric in ("pass@1", "pass@2", "codebleu_compat", "codebleu_fixed"):
        assert summary[metric]["low"] <= summary[metric]["mean"] <= summary[metric]["high"]
        assert len(summary[metric]["per_agent"]) == 6
    assert summary["seed"] == 7
    assert summary["regret_rounds"] == [1, 2]
    assert yaml.safe_load(found["config.yaml"])["data"]["num_test"] == 24


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
    run(tmp_path, "engine.num_workers=2")
    assert files(tmp_path) == files(finished)


def test_a_killed_run_resumes_to_the_same_bytes(finished, tmp_path):
    kill_after_round_1(tmp_path, "engine.num_workers=2")
    assert "resumed" in run(tmp_path, "engine.num_workers=1")
    assert files(tmp_path) == files(finished)


def kill_after_round_1(folder: Path, *overrides: str) -> None:
    process = start(folder, *overrides)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1/"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "DONE" not in files(folder)


def test_under_torture_neither_workers_nor_a_kill_change_a_byte(tmp_path):
    overrides = (
        "federation.sync=async",
        "federation/faults=torture",
        "federation.num_rounds=3",
        "roster.agents=[{name:a,backbone:tiny-qwen2},{name:b,backbone:tiny-gpt2},"
        "{name:c,backbone:tiny-qwen2}]",
        "data.num_train=36",
        "data.num_transfer=12",
        "data.num_test=12",
        "evaluation.num_samples=1",
        "evaluation.ks=[1]",
        "evaluation.max_new_tokens=40",
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    run(whole, *overrides, "engine.num_workers=1")
    kill_after_round_1(cut, *overrides, "engine.num_workers=2")
    run(cut, *overrides, "engine.num_workers=2")
    assert files(cut) == files(whole)
    exchanges = rows(whole, "exchanges.jsonl")
    assert {each["outcome"] for each in exchanges} - {"delivered"}
    assert any(each.get("answers_new") is not None for each in exchanges)


def test_an_interrupt_is_one_line_that_says_how_to_resume(tmp_path):
    process = start(tmp_path, "engine.num_workers=2")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 0/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130, rest
    assert "same command" in rest
    assert "Traceback" not in rest
    (environment,) = tmp_path.glob("outputs/smoke/*/environment.json")
    assert json.loads(environment.read_text())["status"] == "interrupted"


def test_a_finished_run_is_answered_from_its_directory(finished):
    before = files(finished)
    output = run(finished, "engine.num_workers=2")
    assert "is finished" in output
    assert "Pass@1" in output
    assert files(finished) == before


# peft 0.21 asks for a property that transformers 5 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_exported_adapter_reproduces_the_logged_pass_at_1(finished, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from knexa.agents.text import decode_completion, encode_prompt
    from knexa.backbones.embedded import embedded_path
    from knexa.data.codelets import Codelets
    from knexa.sandbox.executor import Executor

    torch.set_num_threads(1)
    (folder_of_run,) = finished.glob("outputs/smoke/*")
    rows = [json.loads(line) for line in (folder_of_run / "rounds.jsonl").read_text().splitlines()]
    # The agent that solves most: an adapter that solves nothing could not be told from none.
    row = max((r for r in rows if r["round"] == 2), key=lambda r: r["pass@1_greedy"])
    target = tmp_path / "adapter"
    command = [sys.executable, "-m", "knexa", "export", folder_of_run, "--agent", str(row["agent"])]
    subprocess.run([*command, "--to", target], check=True, capture_output=True)

    folder = embedded_path(row["backbone"])
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), target).eval()
    problems = Codelets(num_train=96, num_test=24, num_transfer=24).load().test
    completions = []
    for problem in problems:
        ids = torch.tensor([encode_prompt(tokenizer, problem.prompt, 192)])
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=64,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        completions.append(decode_completion(tokenizer, output[0, ids.shape[1] :].tolist()))
    with Executor() as executor:
        results = executor.run(list(zip(problems, completions, strict=True)))
    solved = sum(result.passed for result in results) / len(problems)
    assert solved == pytest.approx(row["pass@1_greedy"])
    assert solved > 0
