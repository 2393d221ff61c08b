"""Hidden tests judge final answers and kept ones, and reach no agent."""

import pickle
from dataclasses import replace

import pytest

from knexa.agents.state import KeptText
from knexa.cli.organisation import organisation_settings
from knexa.data.benchmark import Benchmark, without_hidden
from knexa.data.problem import HiddenTests
from knexa.data.topics import Categories
from knexa.engine.local import Workers
from knexa.evaluation import Executor, Limits
from knexa.federation.llm.hidden_report import HiddenReport
from knexa.federation.llm.setup import build_runtime
from knexa.tracking.rows import VerifiedAnswers
from tests.hidden_tests_example import DOUBLE, HIDDEN
from tests.row_examples import sample_row

RIGHT, PUBLIC_ONLY, WRONG = "    return 2 * x\n", "    return 4\n", "    return x\n"


@pytest.fixture
def report() -> HiddenReport:
    return HiddenReport([HIDDEN], Limits(), beside_others=True, is_strict=False)


def test_answers_must_pass_both_kinds_of_tests(report: HiddenReport) -> None:
    samples = [
        sample_row(task_id="t/0", sample=0, outcome="passed", completion=RIGHT),
        sample_row(task_id="t/0", sample=1, outcome="failed", completion=WRONG),
        sample_row(task_id="t/0", sample=2, outcome="passed", completion=PUBLIC_ONLY),
        sample_row(task_id="t/0", sample=3, outcome="timeout", completion=RIGHT),
    ]
    judged = report.judged(samples)
    assert [row.outcome_plus for row in judged] == ["passed", "failed", "failed", "timeout"]
    assert [replace(row, outcome_plus=None) for row in judged] == samples


def test_share_of_verified_answers_that_are_wrong(report: HiddenReport) -> None:
    """Unverified text that fails the public tests is no verified answer; each agent's count."""

    def kept(*completions: str) -> list[KeptText]:
        return [KeptText(task_id="t/0", completion=each) for each in completions]

    stores = [kept(RIGHT, PUBLIC_ONLY, WRONG), kept(PUBLIC_ONLY, PUBLIC_ONLY), kept(RIGHT), []]
    with Executor() as executor:
        found = report.verified(executor, stores)
        assert found == VerifiedAnswers(answers=4, wrong=2, wrong_share=0.5)
        nothing = report.verified(executor, [[], []])
    assert nothing == VerifiedAnswers(answers=0, wrong=0, wrong_share=None)


def test_what_agents_are_given_holds_no_hidden_tests() -> None:
    other = replace(DOUBLE, task_id="t/1", prompt="def other(x):\n")
    benchmark = Benchmark(name="t", train=(other,), test=(DOUBLE,), transfer=(), hidden=(HIDDEN,))
    assert HIDDEN.test_code not in repr(without_hidden(benchmark))
    assert HIDDEN.test_code not in repr(list(benchmark))
    topics = Categories()
    assert topics.of_benchmark(benchmark).hidden == (HIDDEN,)


def test_runtime_of_an_agents_process_holds_no_hidden_tests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What workers are forked with, and what an organisation's process has."""
    sizes = ("data.num_train=144", "data.num_test=12", "data.num_transfer=12")
    settings = organisation_settings([*sizes, "data.num_probe=12", "partition=iid"])
    benchmark = settings.data.load()
    asked = [*benchmark.test, *benchmark.transfer]
    hidden = tuple(HiddenTests(problem=each, test_code="assert hidden\n") for each in asked)
    whole = replace(benchmark, hidden=hidden)
    monkeypatch.setattr(type(settings.data), "load", lambda self: whole)
    runtime, _ = build_runtime(settings, Workers(1, "cpu", "test"), only=0)
    assert b"assert hidden" in pickle.dumps(whole)
    assert b"assert hidden" not in pickle.dumps([runtime.benchmark, runtime.splits])
    assert b"assert hidden" not in pickle.dumps(runtime.transfer_by_id)
