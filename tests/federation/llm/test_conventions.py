"""Agents are scored by what the test problems mean to their own group."""

from dataclasses import replace

from knexa.agents import phases, solve
from knexa.data.codelets import Codelets
from knexa.evaluation import Outcome
from knexa.protocols.akd import AKD
from tests.federation.llm import small_worlds as small


def test_an_agent_is_scored_by_its_own_groups_tests(monkeypatch):
    benchmark = Codelets(num_train=48, num_test=12, num_transfer=12, num_conventions=2).load()
    splits = [replace(data, group=i % 2) for i, data in enumerate(small.runtime().splits)]
    world = small.world(AKD(num_steps=1), benchmark=benchmark, splits=splits)

    by_id = {problem.task_id: problem for problem in benchmark.test}

    def recite(runtime, state, problems, **options):
        """Answer as group 1 would, whoever is asked."""
        return [
            solve.Answer(
                task_id=problem.task_id,
                completion=by_id[problem.task_id].as_meant_by(1).canonical_solution,
                confidence=0.0,
                num_tokens=1,
            )
            for problem in problems
        ]

    monkeypatch.setattr(solve, "answer", recite)
    differing = {problem.task_id for problem in benchmark.test if problem.conventions}
    assert 0 < len(differing) < 12
    for state, data in zip(world.states, splits, strict=True):
        rows = phases.answer_finally(world.runtime, state)
        failed = {row.task_id for row in rows if row.outcome != Outcome.PASSED}
        assert failed == (set() if data.group else differing)
        greedy = phases.evaluate(world.runtime, state)
        assert greedy.pass_at_1 == (12 - len(failed)) / 12
