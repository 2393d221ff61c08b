"""Hidden tests judge final answers and kept ones, and reach no agent."""

from dataclasses import replace

import pytest

from knexa.agents.state import KeptText
from knexa.data.benchmark import Benchmark, without_hidden
from knexa.data.problem import HiddenTests, Problem
from knexa.data.topics import Categories
from knexa.evaluation import Executor, Limits
from knexa.federation.llm.hidden_report import HiddenReport
from knexa.tracking.rows import VerifiedAnswers
from tests.row_examples import sample_row

DOUBLE = Problem(
    task_id="t/0",
    prompt="def double(x):\n",
    entry_point="double",
    canonical_solution="    return 2 * x\n",
    test_code="assert candidate(2) == 4\n",
    category=0,
    source="t",
)
HIDDEN = HiddenTests(problem=DOUBLE, test_code="assert candidate([3]) == [3, 3]\n")
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
