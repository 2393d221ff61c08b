"""The benchmark check that runs beside the start of a run."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from knexa.data.codelets import Codelets
from knexa.data.topics import Categories
from knexa.errors import UserError
from knexa.evaluation import Executor
from knexa.evaluation.settings import Evaluation
from knexa.federation.llm import benchmark_check as module
from knexa.federation.llm.benchmark_check import benchmark_check

SMALL = Codelets(num_train=12, num_test=12, num_transfer=12, num_probe=12)


def settings(**evaluation: Any) -> Any:
    return SimpleNamespace(
        data=SMALL,
        topics=Categories(),
        evaluation=Evaluation(**evaluation),
        beside_others=True,
        seed=0,
    )


@pytest.fixture(autouse=True)
def forgotten():
    module._begun.cache_clear()
    yield
    module._begun.cache_clear()


def test_the_runs_of_a_process_share_one_check_and_its_thread_has_ended_with_the_report():
    first = benchmark_check(settings())
    assert benchmark_check(settings()) is first
    report = first.report()
    assert report.problems == tuple(first.benchmark)
    assert report.num_canonical_passed == 48
    assert report.num_none_passed == 0
    assert all(thread.name != "benchmark-check" for thread in threading.enumerate())


def test_other_limits_are_another_check():
    checks = benchmark_check(settings(cpu_s=2.0)), benchmark_check(settings())
    assert checks[0] is not checks[1]
    assert checks[0].report() == checks[1].report()


def test_what_the_check_raises_is_raised_by_whoever_joins_and_tried_again(monkeypatch):
    plain = Executor.layers

    def refuse(executor: Executor) -> tuple[str, ...]:
        raise UserError("evaluation.sandbox=strict: a layer is missing")

    monkeypatch.setattr(Executor, "layers", property(refuse))
    refused = benchmark_check(settings(sandbox="strict"))
    with pytest.raises(UserError, match="a layer is missing"):
        refused.report()
    monkeypatch.setattr(Executor, "layers", plain)
    assert benchmark_check(settings(sandbox="strict")) is not refused
