"""An organisation's own problems pass the check that the configured ones pass."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from knexa.cli.join import _own
from knexa.cli.organisation import organisation_settings
from knexa.data.codelets import Codelets
from knexa.data.problem import Problem
from knexa.data.topics import Clusters
from knexa.errors import UserError
from knexa.evaluation import Executor

FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test_code")


def file_of(folder: Path, problems: list[Problem]) -> Path:
    path = folder / "own.jsonl"
    rows = [{name: getattr(problem, name) for name in FIELDS} for problem in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_problems_that_fail_the_gate_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = list(Codelets(num_train=24, num_test=2, num_transfer=2).load().train)
    wrong = replace(good[0], task_id="wrong", test_code="assert False\n")
    idle = replace(good[1], task_id="idle", test_code="assert True\n")
    settings = organisation_settings([])
    with Executor() as executor, caplog.at_level(logging.WARNING):
        own = _own(settings, executor, file_of(tmp_path, [*good, wrong, idle]))
        kept = {problem.task_id for problem in (*own.train, *own.validation)}
        assert kept == {problem.task_id for problem in good}
        assert "excluded wrong" in caplog.text
        assert "excluded idle" in caplog.text
        with pytest.raises(UserError, match="passes the check"):
            _own(settings, executor, file_of(tmp_path, [wrong, idle]))
        with pytest.raises(UserError, match="no such file"):
            _own(settings, executor, tmp_path / "none.jsonl")


def test_own_problems_are_of_the_clusters_of_the_public_prompts(tmp_path: Path) -> None:
    settings = organisation_settings(["topics=clusters", "topics.num_clusters=5"])
    public = Codelets().load()
    own_prompts = list(public.train[:30])
    with Executor() as executor:
        own = _own(settings, executor, file_of(tmp_path, own_prompts))
    known = {p.task_id: p.category for p in Clusters(num_clusters=5).of_benchmark(public).train}
    found = {p.task_id: p.category for p in (*own.train, *own.validation)}
    assert found == {problem.task_id: known[problem.task_id] for problem in own_prompts}
    assert len(set(found.values())) > 1
