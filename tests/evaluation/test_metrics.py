import itertools
import logging
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knexa.data.problem import Problem
from knexa.evaluation import Execution, Executor, Outcome, check_problems, pass_at_k
from tests.sandbox.conftest import make_problem


@given(st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_sample(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 8))
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


@given(st.integers(1, 2000), st.data())
def test_pass_at_k_grows_with_k_and_with_right_samples(n: int, data: st.DataObject) -> None:
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    value = pass_at_k(n, c, k)
    assert 0 <= value <= 1
    assert pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert value >= pass_at_k(n, c, max(1, k - 1)) - 1e-12
    assert value >= pass_at_k(n, max(0, c - 1), k) - 1e-12
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert value == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 1, 6), (5, 1, 0), (0, 0, 1), (5, 6, 1), (5, -1, 1)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"needs at least|is not a count"):
        pass_at_k(n, c, k)


def test_gate_keeps_sound_problems_and_names_the_others(
    executor: Executor, double: Problem, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = make_problem("assert candidate(1) == 2\n", task_id="toy/wrong")
    vacuous = make_problem("candidate(1)\n", task_id="toy/vacuous")
    with caplog.at_level(logging.WARNING):
        report = check_problems(executor, [wrong, double, vacuous])
    assert report.problems == (double,)
    assert set(report.excluded) == {"toy/wrong", "toy/vacuous"}
    assert "canonical" in report.excluded["toy/wrong"]
    assert "None" in report.excluded["toy/vacuous"]
    assert (report.num_canonical_passed, report.num_none_passed) == (2, 1)
    assert "toy/wrong" in caplog.text
    assert report.layers == executor.layers


def test_gate_stops_when_the_sandbox_itself_fails(
    executor: Executor, double: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = Execution(Outcome.INFRASTRUCTURE_ERROR, "no server")
    monkeypatch.setattr(executor, "run", lambda candidates: [lost] * len(candidates))
    with pytest.raises(RuntimeError, match="toy/double: no server"):
        check_problems(executor, [double])
