import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from knexa.cli.commands import run_command_line
from knexa.data.codelets import Codelets
from knexa.data.evalplus import WITH_HIDDEN
from knexa.data.problem import HiddenTests, Problem
from knexa.evaluation import Execution, Executor, Outcome
from knexa.sandbox import protection
from tests.hidden_tests_example import DOUBLE


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return list(Codelets().load())[:3]


def write(path: Path, samples: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sample(problem: Problem, completion: str, **more: Any) -> dict[str, Any]:
    return {"task_id": problem.task_id, "completion": completion, **more}


def test_command_scores_a_file_in_a_process_of_its_own(
    tmp_path: Path, problems: list[Problem]
) -> None:
    right, half, never = problems
    samples = [
        *[sample(right, right.canonical_solution, note=i) for i in range(4)],
        *[sample(half, half.canonical_solution), sample(half, "    return (\n")] * 2,
        *[sample(never, f"def {never.entry_point}(*a):\n    import os; os._exit(0)\n")] * 4,
    ]
    path = write(tmp_path / "samples.jsonl", samples)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "knexa", "score", str(path), "--data", "codelets"),
            *("--k", "1,2,4", "--workers", "2"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["pass@1"]["mean"] == pytest.approx(0.5)
    assert report["pass@2"]["mean"] == pytest.approx((1 + 5 / 6 + 0) / 3)
    assert report["pass@4"]["mean"] == pytest.approx(2 / 3)
    assert report["pass@1"]["low"] <= 0.5 <= report["pass@1"]["high"]
    assert (report["num_problems"], report["num_samples"]) == (3, 12)
    assert report["outcomes"]["passed"] == 6
    assert report["outcomes"]["syntax_error"] == 2
    assert report["outcomes"]["crashed"] == 4
    rows = read(tmp_path / "samples.jsonl_results.jsonl")
    assert [{k: row[k] for k in each} for each, row in zip(samples, rows, strict=True)] == samples
    assert [row["passed"] for row in rows] == [True] * 5 + [False, True] + [False] * 5
    assert rows[5]["outcome"] == "syntax_error"


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ('{"task_id": "ID", "completion": ""}', ["--k", "2"], "needs at least 2 samples"),
        ('{"task_id": "ID", "completion": ""}', ["--k", "0"], "at least 1"),
        ('{"task_id": "ID", "completion": ""}', ["--k", "one"], "whole numbers"),
        ('{"task_id": "ID", "completion": ""}', ["--workers", "0"], "--workers 0"),
        ('{"task_id": "ID", "completion": ""}', ["--cpu-s", "0"], "--cpu-s"),
        ('{"task_id": "ID", "completion": ""}', ["--wrong"], "unrecognized"),
        ('{"task_id": "nobody/1", "completion": ""}', [], "line 1: no task 'nobody/1'"),
        ('\n{"task_id": "ID"}', [], "line 2: 'completion' is missing"),
        ('{"task_id": "ID", "completion": 3}', [], "not a string"),
        ('{"task_id": ', [], "line 1 is not JSON"),
        ("[1]", [], "line 1 is not an object"),
        ("[" * 100000, [], "line 1 is not JSON"),
        ("", [], "no samples"),
        (None, [], "cannot read"),
    ],
)
def test_mistake_ends_with_one_line_and_code_two(
    tmp_path: Path,
    problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    path = tmp_path / "samples.jsonl"
    if content is not None:
        path.write_text(content.replace("ID", problems[0].task_id))
    assert run_command_line(["score", str(path), "--data", "codelets", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == (
        [path.name] if content is not None else []
    )


def test_any_option_of_data_can_be_scored_with_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = {
        "task_id": "mine/1",
        "prompt": "def double(n):\n",
        "entry_point": "double",
        "canonical_solution": "    return 2 * n\n",
        "test_code": "assert candidate(2) == 4\n",
    }
    renamed = [
        problem | {"task_id": f"mine/{i}", "prompt": f"# {i}\n{problem['prompt']}"}
        for i in range(3)
    ]
    data = write(tmp_path / "mine.jsonl", renamed)
    path = write(tmp_path / "s.jsonl", [{"task_id": "mine/1", "completion": "    return n + n\n"}])
    arguments = ["score", str(path), "--data", "jsonl", "--path", str(data), "--k", "1"]
    halves = ["data.test_fraction=0.4", "data.transfer_fraction=0.3"]
    assert run_command_line([*arguments, *halves]) == 0
    assert json.loads(capsys.readouterr().out)["pass@1"]["mean"] == 1.0
    assert run_command_line([*arguments, "data.tset_fraction=0.4"]) == 2
    assert "did you mean data.test_fraction?" in capsys.readouterr().err


def test_a_benchmark_that_nobody_knows_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "s.jsonl", [{"task_id": "a", "completion": ""}])
    assert run_command_line(["score", str(path), "--data", "codelet"]) == 2
    assert "did you mean codelets?" in capsys.readouterr().err


def test_default_ks_above_n_are_dropped_saying_so(
    tmp_path: Path, problems: list[Problem], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "s.jsonl", [sample(problems[0], problems[0].canonical_solution)] * 5)
    assert run_command_line(["score", str(path), "--data", "codelets"]) == 0
    captured = capsys.readouterr()
    assert "k up to 5 only" in captured.err
    report = json.loads(captured.out)
    assert [key for key in report if key.startswith("pass@")] == ["pass@1", "pass@5"]


def test_infrastructure_errors_are_counted_and_never_scored(
    tmp_path: Path,
    problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(self: Executor, candidates: list[tuple[Problem, str]]) -> list[Execution]:
        lost = Execution(Outcome.INFRASTRUCTURE_ERROR)
        return [lost if text == "lost" else Execution(Outcome.PASSED) for _, text in candidates]

    monkeypatch.setattr(Executor, "run", run)
    samples = [sample(problems[0], text) for text in ("lost", "right")]
    samples += [sample(problems[1], "lost")] * 2
    path = write(tmp_path / "s.jsonl", samples)
    assert run_command_line(["score", str(path), "--data", "codelets", "--k", "1,2"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["pass@1"]["mean"] == 1.0
    assert report["pass@2"] is None
    assert report["outcomes"]["infrastructure_error"] == 3
    assert "leaves out" in captured.err
    rows = read(Path(f"{path}_results.jsonl"))
    assert [row["passed"] for row in rows] == [None, True, None, None]


def test_strict_sandbox_scores_nothing_where_a_layer_is_missing(
    tmp_path: Path,
    problems: list[Problem],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imaginary = protection.Layer("moat", "swimming", "a castle")
    monkeypatch.setattr(protection, "LAYERS", (*protection.LAYERS, imaginary))
    path = write(tmp_path / "samples.jsonl", [sample(problems[0], "    pass\n")])
    arguments = ["score", str(path), "--data", "codelets", "--k", "1"]
    assert run_command_line([*arguments, "--sandbox", "strict"]) == 2
    error = capsys.readouterr().err
    assert "moat" in error
    assert error.count("\n") == 1
    assert run_command_line(arguments) == 0


def test_hidden_tests_are_scored_beside_the_public_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = HiddenTests(problem=DOUBLE, test_code="assert candidate(3) == 6\n")
    monkeypatch.setitem(WITH_HIDDEN, "humaneval_plus", lambda path: [hidden])
    completions = ["    return 2 * x\n", "    return 4\n", "    return 6\n", "    return (\n"]
    path = write(tmp_path / "samples.jsonl", [sample(DOUBLE, each) for each in completions])
    assert run_command_line(["score", str(path), "--data", "humaneval_plus", "--k", "1,2"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["pass@1"]["mean"] == pytest.approx(2 / 4)
    assert report["pass@1_plus"]["mean"] == pytest.approx(1 / 4)
    assert report["pass@2_plus"]["mean"] == pytest.approx(1 - 3 / 6)
    assert (report["outcomes"]["passed"], report["outcomes_plus"]["passed"]) == (2, 1)
    rows = [
        (row["passed"], row["outcome"], row["passed_plus"], row["outcome_plus"])
        for row in read(tmp_path / "samples.jsonl_results.jsonl")
    ]
    assert rows == [
        (True, "passed", True, "passed"),
        (True, "passed", False, "failed"),
        (False, "failed", False, None),  # hidden tests are not run
        (False, "syntax_error", False, None),
    ]


def test_another_version_of_a_benchmark_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "samples.jsonl", [{"task_id": "Mbpp/2", "completion": ""}])
    (tmp_path / "MbppPlus.jsonl").write_text('{"task_id": "Mbpp/2"}\n')
    arguments = ["score", str(path), "--data", "mbpp_plus", "--path", str(tmp_path)]
    assert run_command_line(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "MbppPlus.jsonl: is not MBPP+ v0.2.0" in line
    assert not Path(f"{path}_results.jsonl").exists()
