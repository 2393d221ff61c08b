"""Problems whose right answer differs by group of agents, which public tests do not show."""

import pytest

from knexa.config.build import build_components
from knexa.config.compose import compose, parse_arguments
from knexa.data.codelets import Codelets
from knexa.data.codelets.conventions import private
from knexa.data.problem import CATEGORIES, Problem
from knexa.errors import UserError

CONVENTIONAL = Codelets(num_conventions=2)
PLAIN = Codelets()


def passes(solution: Problem, tests: Problem) -> bool:
    """Whether one problem's solution passes another's tests."""
    namespace: dict = {}
    exec(solution.prompt + solution.canonical_solution, namespace)
    try:
        exec(tests.test_code, {"candidate": namespace[solution.entry_point]})
    except AssertionError:
        return False
    return True


def test_own_tests_accept_the_groups_own_convention_alone():
    benchmark = CONVENTIONAL.load()
    for problem in benchmark.train + benchmark.test:
        for group in range(2):
            for other in range(len(problem.conventions)):
                meant = problem.as_meant_by(group)
                assert meant.prompt == problem.prompt
                assert meant.task_id == problem.task_id
                assert passes(problem.as_meant_by(other), meant) == (group == other)
        assert passes(problem, problem.as_meant_by(0))


def test_public_tests_accept_every_convention_and_still_tell_a_body_from_a_constant():
    public, plain = CONVENTIONAL.load(), PLAIN.load()
    num_changed = 0
    for new, old in zip(public.transfer + public.probe, plain.transfer + plain.probe, strict=True):
        assert (new.prompt, new.canonical_solution) == (old.prompt, old.canonical_solution)
        assert new.conventions == ()
        assert len({line.split(" == ")[1] for line in new.test_code.splitlines()}) > 1
        means = _meanings(old)
        num_changed += len(means) > 1
        for meant in means:
            assert passes(meant, new)
    assert num_changed > 0.4 * len(public.transfer + public.probe)


def _meanings(problem: Problem) -> tuple[Problem, ...]:
    """Return what the problem would mean to each group if it were in the training set."""
    return private(problem).conventions or (problem,)


def test_most_problems_are_a_matter_of_convention_and_some_of_almost_every_category():
    problems = CONVENTIONAL.load().train
    touched = [problem for problem in problems if problem.conventions]
    assert len(touched) > len(problems) / 2
    assert len({problem.category for problem in touched}) >= len(CATEGORIES) - 1


def test_the_default_split_knows_no_conventions_and_is_what_the_others_are_made_from():
    plain, conventional = PLAIN.load(), CONVENTIONAL.load()
    assert all(problem.conventions == () for problem in plain)
    assert [p.task_id for p in plain] == [p.task_id for p in conventional]
    assert PLAIN.fingerprint() != CONVENTIONAL.fingerprint()


@pytest.mark.parametrize(
    "arguments", [("partition=conventions",), ("data.num_conventions=2",)], ids=" ".join
)
def test_groups_that_the_data_cannot_tell_apart_are_refused(arguments):
    (job,) = compose(parse_arguments(arguments)).jobs
    with pytest.raises(UserError, match="goes with data") as caught:
        build_components(job)
    assert "\n" not in str(caught.value)
