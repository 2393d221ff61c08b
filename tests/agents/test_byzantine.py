"""Byzantine agents: every attack does what its name says, and honest agents do not change."""

import ast
from itertools import pairwise

import numpy as np
import pytest

from knexa.agents.byzantine import ByzantineAgents, kept_answers
from knexa.agents.mutants import mutant
from knexa.backbones.roster import Byzantine
from knexa.config.components import construct
from knexa.data.codelets import Codelets
from knexa.data.problem import Problem
from knexa.errors import UserError
from knexa.evaluation import Executor, Outcome
from knexa.exchange.package import KnowledgePackage, decode, encode
from knexa.profiles import layout
from knexa.profiles.byzantine import shown

PROBLEMS = Codelets(num_train=60, num_test=12, num_transfer=60).load().transfer


def byzantine(*attacks: str, members: tuple[int, ...] = (1, 3)) -> ByzantineAgents:
    return ByzantineAgents(members=members, attacks=frozenset(attacks), forged_reward=2.0)  # type: ignore[arg-type]


def text(byzantine: ByzantineAgents, *, agent: int = 1, seed: int = 0, learned=None):
    return byzantine.text(agent, PROBLEMS, learned or {}, np.random.default_rng(seed))


@pytest.fixture(scope="module")
def executor():
    with Executor() as executor:
        yield executor


def num_passed(executor: Executor, items) -> int:
    by_id = {problem.task_id: problem for problem in PROBLEMS}
    runs = executor.run([(by_id[item.task_id], item.completion) for item in items])
    return sum(run.outcome is Outcome.PASSED for run in runs)


# Who lies


def test_byzantine_agents_follow_from_the_seed_alone_and_grow_by_one():
    drawn = [Byzantine(num=num).draw(7, 6) for num in range(6)]
    assert all(few == more[: len(few)] for few, more in pairwise(drawn))
    assert len(set(drawn[5])) == 5
    assert len({Byzantine(num=2).draw(seed, 6) for seed in range(30)}) > 5
    assert Byzantine(num=2, attack="garbage").draw(7, 6) == drawn[2]


def test_named_agents_lie_in_their_order():
    assert Byzantine(num=1, agents=(4, 2)).draw(0, 6) == (4,)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num": 6}, "leaves nobody honest"),
        ({"num": 1, "agents": (6,)}, "0 to 5"),
        ({"num": 1, "agents": (2, 2)}, "different agents"),
        ({"num": 2, "agents": (2,)}, "names fewer"),
    ],
)
def test_byzantine_agents_that_are_not_there_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        Byzantine(**values).check(6)


def test_a_wrong_attack_is_one_line():
    with pytest.raises(UserError, match=r"attack=lies.*garbage, wrong"):
        construct(Byzantine, {"attack": "lies"}, key="byzantine")
    with pytest.raises(UserError, match="attack"):
        construct(Byzantine, {"attack": []}, key="byzantine")
    assert construct(Byzantine, {"attack": ["wrong", "forged"]}, key="b").attacks == {
        "wrong",
        "forged",
    }


# Text


def test_garbage_is_a_valid_package_that_never_passes(executor):
    items = text(byzantine("garbage"))
    package = KnowledgePackage(sender="byzantine", round=1, items=tuple(items))
    assert decode(encode(package)) == package
    assert len(items) == len(PROBLEMS)
    for item in items:
        with pytest.raises(SyntaxError):
            compile("def f():\n" + item.completion, "garbage", "exec")
    assert num_passed(executor, items) == 0


def test_wrong_programs_are_python_and_mostly_fail(executor):
    items = text(byzantine("wrong"))
    for problem, item in zip(PROBLEMS, items, strict=True):
        ast.parse(problem.prompt + item.completion)
        assert item.completion.strip() != problem.canonical_solution.strip()
    assert num_passed(executor, items) <= 0.15 * len(items)
    assert text(byzantine("wrong"), seed=1) != items == text(byzantine("wrong"))


@pytest.mark.parametrize(
    "solution",
    ["    return sorted(x)\n", "    print(x)\n", "def f(x):\n    'Doc.'\n    return len(x)\n"],
    ids=["no constants", "no answer", "whole program"],
)
def test_every_solution_can_be_got_wrong(solution):
    problem = Problem(
        task_id="t",
        prompt='def f(x):\n    """Doc."""\n',
        entry_point="f",
        canonical_solution=solution,
        test_code="",
        category=0,
        source="test",
    )
    wrong = mutant(problem, np.random.default_rng(0))
    ast.parse(wrong if solution.startswith("def") else problem.prompt + wrong)
    assert wrong.split() != solution.split()


def test_a_copier_sends_the_oldest_text_it_was_taught_and_answers_itself_before_that():
    first, second = PROBLEMS[0].task_id, PROBLEMS[1].task_id
    learned = kept_answers([(first, "old"), (second, "other"), (first, "new")])
    items = text(byzantine("copied"), learned=learned)
    assert [(item.task_id, item.completion) for item in items] == [
        (first, "old"),
        (second, "other"),
    ]
    assert text(byzantine("copied")) is None


def test_text_attacks_mix_problem_by_problem():
    both = {
        item.completion.startswith("    return ) ") for item in text(byzantine("garbage", "wrong"))
    }
    assert both == {True, False}


def test_honest_agents_and_other_attacks_leave_text_alone():
    assert text(byzantine("wrong"), agent=0) is None
    assert text(byzantine("inflated", "forged", "sybil")) is None
    assert text(ByzantineAgents()) is None


# Profiles


def profiles(names) -> np.ndarray:
    return np.random.default_rng(0).random((5, len(names)))


def test_inflated_profiles_exaggerate_and_change_only_the_byzantine_agents():
    names = layout.SKILLS_FEATURE_NAMES
    before_NF = profiles(names)
    shown_NF = shown(before_NF, names, byzantine("inflated"))
    assert np.array_equal(shown_NF[[0, 2, 4]], before_NF[[0, 2, 4]])
    assert (shown_NF[[1, 3], layout.PASS_AT_1] == 1.0).all()
    assert (shown_NF[[1, 3], layout.PERPLEXITY] == 1.0).all()
    assert (shown_NF[[1, 3], layout.SKILLS] == 1.0).all()
    assert np.allclose(shown_NF[[1, 3], -layout.NUM_DATA :], 1 / layout.NUM_DATA)
    static = slice(0, layout.NUM_STATIC)
    assert np.array_equal(shown_NF[:, static], before_NF[:, static])


def test_sybils_show_one_profile():
    names = layout.FEATURE_NAMES
    before_NF = profiles(names)
    shown_NF = shown(before_NF, names, byzantine("sybil"))
    assert np.array_equal(shown_NF[3], before_NF[1])
    assert np.array_equal(shown_NF[[0, 1, 2, 4]], before_NF[[0, 1, 2, 4]])


def test_nobody_lies_without_members():
    names = layout.FEATURE_NAMES
    before_NF = profiles(names)
    assert shown(before_NF, names, ByzantineAgents()) is before_NF
    assert ByzantineAgents().report((0,), 1, 0.3) == 0.3
    assert ByzantineAgents().speaker(1) == 1


# Reports


@pytest.mark.parametrize(
    ("attack", "teacher", "student", "told"),
    [
        ("forged", 3, 1, 2.0),  # praise among Byzantine agents
        ("forged", 0, 1, -2.0),  # slander of the honest
        ("sybil", 3, 1, 2.0),
        ("sybil", 0, 1, 0.3),
        ("forged", 1, 0, 0.3),  # an honest student reports the truth of all
        ("forged", 2, 0, 0.3),
        ("wrong", 3, 1, 0.3),
    ],
)
def test_forged_rewards_change_their_own_reports_alone(attack, teacher, student, told):
    assert byzantine(attack).report((teacher,), student, 0.3) == told


def test_a_group_with_somebody_honest_in_it_is_slandered():
    assert byzantine("forged").report((0, 1, 3), 1, 0.3) == -2.0
    assert byzantine("forged").report((1, 3), 1, 0.3) == 2.0
