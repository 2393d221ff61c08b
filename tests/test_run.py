"""Whole runs in processes of their own, small but real: what is typed, what lies there after."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

TIMED = {"timings.jsonl", "environment.json"}
SMALL = (
    "debug=smoke",
    "data.num_train=96",
    "data.num_test=24",
    "data.num_transfer=24",
    "partition=iid",
    "exchange.num_steps=2",
    "logger=csv",
    "seed=7",
)


def _start(folder: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "knexa", *SMALL, *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _run(folder: Path, *overrides: str, code: int = 0, **environment: str) -> str:
    process = _start(folder, *overrides, **environment)
    output = process.communicate(timeout=280)[0]
    assert process.returncode == code, output
    return output


def _files(folder: Path) -> dict[str, bytes]:
    (run,) = folder.glob("outputs/smoke/*")
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in TIMED
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a finished run of one worker."""
    folder = tmp_path_factory.mktemp("finished")
    _run(folder, "engine.num_workers=1")
    return folder


def test_the_directory_holds_the_contract(finished):
    files = _files(finished)
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
        assert name in files, name
    summary = json.loads(files["summary.json"])
    for metric in ("pass@1", "pass@2", "codebleu_compat", "codebleu_fixed"):
        assert summary[metric]["low"] <= summary[metric]["mean"] <= summary[metric]["high"]
        assert len(summary[metric]["per_agent"]) == 6
    assert summary["seed"] == 7
    assert summary["regret_rounds"] == [1]
    assert yaml.safe_load(files["config.yaml"])["data"]["num_test"] == 24


def test_two_workers_write_the_same_bytes_as_one(finished, tmp_path):
    _run(tmp_path, "engine.num_workers=2")
    assert _files(tmp_path) == _files(finished)


def test_a_killed_run_resumes_to_the_same_bytes(finished, tmp_path):
    process = _start(tmp_path, "engine.num_workers=2")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("round 1/"):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "DONE" not in _files(tmp_path)
    assert "resumed" in _run(tmp_path, "engine.num_workers=1")
    assert _files(tmp_path) == _files(finished)


def test_an_interrupt_is_one_line_that_says_how_to_resume(tmp_path):
    process = _start(tmp_path, "engine.num_workers=2")
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
    before = _files(finished)
    output = _run(finished, "engine.num_workers=2")
    assert "is finished" in output
    assert "Pass@1" in output
    assert _files(finished) == before


# peft 0.21 asks for a property that transformers 5 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_exported_adapter_reproduces_the_logged_pass_at_1(finished, tmp_path):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from knexa.agents.text import decode_completion, encode_prompt
    from knexa.backbones.embedded import embedded_path
    from knexa.data.codelets import Codelets
    from knexa.evaluation.sandbox.executor import Executor

    torch.set_num_threads(1)
    (run,) = finished.glob("outputs/smoke/*")
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    # The agent that solves most: an adapter that solves nothing could not be told from none.
    row = max((r for r in rows if r["round"] == 2), key=lambda r: r["pass@1_greedy"])
    target = tmp_path / "adapter"
    command = [sys.executable, "-m", "knexa.export", run, "--agent", str(row["agent"])]
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


@pytest.mark.parametrize(
    "overrides",
    [
        ("matchmaker=random", "exchange=akd"),
        ("matchmaker=local_only",),
        ("matchmaker=oracle", "regret=none"),
        ("experiment=paper", "roster=tiny6", "data=codelets", "name=smoke"),
    ],
    ids=lambda overrides: "-".join(overrides[:2]),
)
def test_other_configs_run_to_the_end(tmp_path, overrides):
    output = _run(tmp_path, *overrides)
    assert re.search(r"Pass@1\s+\d", output)


def test_the_published_roster_without_a_network_is_one_line(tmp_path):
    output = _run(tmp_path, "roster=paper6", code=2, HF_HOME=str(tmp_path / "none"))
    (line,) = output.strip().splitlines()
    assert line.startswith("error:")
    assert "Qwen/Qwen1.5-0.5B" in line
    assert "HF_HOME" in line


def test_real_problems_run_to_the_end_on_the_tiny_roster(tmp_path, benchmarks):
    output = _run(
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
