import ast
import subprocess
import sys
from collections import Counter, defaultdict

import pytest

from knexa.data.codelets import TEMPLATES, Codelets
from knexa.data.codelets.template import literal
from knexa.data.problem import CATEGORIES, Problem

BENCHMARK = Codelets().load()
PROBLEMS = Codelets().all_problems()


def passes(problem: Problem, program: str, name: str | None = None) -> bool:
    namespace: dict = {}
    exec(program, namespace)
    try:
        exec(problem.test_code, {"candidate": namespace[name or problem.entry_point]})
    except Exception:
        return False
    return True


def shape_of(problem: Problem) -> str:
    """The body with every name replaced by the order of its first appearance."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = function.body[1:]  # the docstring is not part of the body
    order = {problem.entry_point: "self"}
    known = {"sum", "max", "min", "any", "all", "len", "range", "sorted", "list", "str", "set"}
    known |= {"abs", "zip", "enumerate"}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            node.arg = order.setdefault(node.arg, f"v{len(order)}")
        elif isinstance(node, ast.Name) and node.id not in known:
            node.id = order.setdefault(node.id, f"v{len(order)}")
    function.name = "f"
    return ast.dump(function)


def test_sizes_are_those_of_the_published_split():
    sizes = (len(BENCHMARK.train), len(BENCHMARK.test), len(BENCHMARK.transfer))
    assert sizes == (348, 116, 128)


def test_every_category_is_in_every_set_in_equal_share():
    for problems in (BENCHMARK.train, BENCHMARK.test, BENCHMARK.transfer):
        counts = Counter(p.category for p in problems)
        assert set(counts) == set(range(len(CATEGORIES)))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_every_test_problem_has_a_training_problem_of_its_template():
    taught = {p.task_id.rsplit("/", 1)[0] for p in BENCHMARK.train}
    assert all(p.task_id.rsplit("/", 1)[0] in taught for p in BENCHMARK.test + BENCHMARK.transfer)


def test_every_category_has_eight_templates():
    assert tuple(TEMPLATES) == CATEGORIES
    for kinds in TEMPLATES.values():
        assert len({kind.name for kind in kinds}) >= 8


def test_every_phrase_mentions_every_slot_and_argument():
    for kinds in TEMPLATES.values():
        for kind in kinds:
            slots = set(kind.choices(1)[0])
            for phrase in kind.phrases:
                assert all(f"${a}" in phrase for a, _ in kind.args), (kind.name, phrase)
                assert all(f"${s}" in phrase for s in slots), (kind.name, phrase)


def test_no_prompt_and_no_body_up_to_renaming_occurs_twice():
    assert len({p.task_id for p in PROBLEMS}) == len(PROBLEMS)
    assert len({p.prompt for p in PROBLEMS}) == len(PROBLEMS)
    shapes = Counter(map(shape_of, PROBLEMS))
    assert [shape for shape, count in shapes.items() if count > 1] == []


def test_canonical_solutions_pass_and_a_body_that_returns_none_does_not():
    for p in PROBLEMS:
        assert passes(p, p.prompt + p.canonical_solution), p.task_id
        assert not passes(p, p.prompt + "    return None\n"), p.task_id


def test_no_problem_is_passed_by_returning_an_argument_or_a_fixed_value():
    for p in PROBLEMS:
        arguments = p.prompt.partition("(")[2].partition(")")[0].split(", ")
        for value in (*arguments, "0", "True", "False", "[]", "''"):
            assert not passes(p, p.prompt + f"    return {value}\n"), (p.task_id, value)


def test_tests_tell_an_instance_from_its_siblings():
    """A body with another instance's constants is a wrong answer, nearly always."""
    siblings = defaultdict(list)
    for p in PROBLEMS:
        siblings[p.task_id.rsplit("/", 1)[0]].append(p)
    pairs = [(p, q) for ps in siblings.values() for p in ps for q in ps if p is not q]
    fooled = [p for p, q in pairs if passes(p, q.prompt + q.canonical_solution, name=q.entry_point)]
    assert len(fooled) <= 0.01 * len(pairs), Counter(p.task_id for p in fooled).most_common(5)


def test_at_least_four_asserts_and_short_bodies():
    for p in PROBLEMS:
        assert p.test_code.count("assert ") >= 4
        assert 1 <= p.canonical_solution.count("\n") <= 5
        assert p.prompt.endswith('"""\n')
        assert p.prompt.count("\n") == 2
        assert p.canonical_solution not in p.prompt


def test_answers_of_known_kinds_are_right_by_their_own_definition():
    """References computed another way than by the canonical body."""
    checked = 0
    for p in PROBLEMS:
        kind = p.task_id.split("/")[2]
        calls = [ast.parse(line).body[0].test for line in p.test_code.splitlines()]
        cases = [
            ([ast.literal_eval(a) for a in c.left.args], ast.literal_eval(c.comparators[0]))
            for c in calls
        ]
        if kind == "in_base":
            base = int(p.prompt.partition("base ")[2].partition(".")[0])
            assert all(int(answer, base) == n for (n,), answer in cases)
        elif kind == "rotate":
            assert all(sorted(x) == sorted(answer) and x != [] for (x,), answer in cases)
        elif kind in {"largest_first", "smallest_first"}:
            for (x,), answer in cases:
                ordered = sorted(x, reverse=kind == "largest_first")
                assert ordered[: len(answer)] == answer
        elif kind == "group_by_remainder":
            for (x,), answer in cases:
                assert sorted(v for group in answer.values() for v in group) == sorted(x)
        elif kind == "quotient_pair":
            k = int(p.canonical_solution.partition("// ")[2].partition(",")[0])
            assert all(q * k + r == n and 0 <= r < k for (n,), (q, r) in cases)
        else:
            continue
        checked += 1
    assert checked >= 24


def test_another_split_seed_deals_the_same_problems_differently():
    other = Codelets(split_seed=7).load()
    assert {p.task_id for p in other.test} != {p.task_id for p in BENCHMARK.test}
    assert {p.prompt for p in other} == {p.prompt for p in BENCHMARK}


def test_fingerprint_changes_with_the_split_and_not_with_the_process():
    code = "from knexa.data.codelets import Codelets; print(Codelets().fingerprint())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == Codelets().fingerprint()
    assert Codelets(split_seed=1).fingerprint() != Codelets().fingerprint()


def test_literal_writes_sets_in_order():
    assert literal({9, 8, 1}) == "{1, 8, 9}"
    assert literal(set()) == "set()"


def test_sizes_beyond_the_generator_are_refused_with_the_limit():
    with pytest.raises(ValueError, match="lower one of them"):
        Codelets(num_train=5000)
