import ast
import hashlib
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from knexa.data.codelets import BASIC, FURTHER, Codelets, num_distinct
from knexa.data.codelets.template import literal
from knexa.data.problem import CATEGORIES, Problem
from knexa.evaluation import Executor, Limits, check_problems

BENCHMARK = Codelets().load()
PROBLEMS = Codelets().all_problems()
TEMPLATES = {name: (*BASIC[name], *FURTHER[name]) for name in CATEGORIES}

# Sizes, variants and seed of splits, and digests of their problems. Whoever has to change one must
# raise GENERATOR_VERSION: every finished run on that split is then computed anew.
SPLITS = {
    (348, 116, 128, 1, 42): "ee7c4d80aa8723ce",
    (348, 116, 128, 1, 0): "b87276c109831171",
    (348, 116, 128, 1, 7): "a2d0624001f3337c",
    (404, 116, 128, 1, 42): "b77b7f330e656c54",
    (347, 59, 242, 1, 7): "99cf4694af26e2a3",
    (60, 12, 24, 1, 42): "7366945abf77725d",
    (12, 12, 12, 1, 0): "9f205a47abbe4bf6",
    (348, 116, 128, 2, 42): "4137374c48ac1885",
    (560, 116, 128, 2, 42): "e0e450bb42d4f76b",
    (348, 116, 128, 3, 0): "12e54c4ae5d375ef",
    (560, 116, 128, 3, 42): "a3ad05fd61770ecd",
    (348, 116, 128, 4, 7): "63962324d4e97d41",
    (560, 116, 128, 4, 42): "987c5ba9ed378980",
}


@pytest.fixture(scope="module")
def many() -> tuple[Problem, ...]:
    """All problems of the largest split."""
    return Codelets(num_train=num_distinct(1) - 116 - 128 - 64).all_problems()


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


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_splits_that_the_basic_templates_allow_stay_as_they_are(split: tuple[int, ...]):
    num_train, num_test, num_transfer, num_variants, split_seed = split
    benchmark = Codelets(
        num_train=num_train,
        num_test=num_test,
        num_transfer=num_transfer,
        num_variants=num_variants,
        split_seed=split_seed,
    ).load()
    digest = hashlib.sha256()
    for problems in (benchmark.train, benchmark.test, benchmark.transfer):
        for p in problems:
            text = (p.task_id, p.prompt, p.canonical_solution, p.test_code)
            digest.update("\x1f".join(text).encode())
        digest.update(b"\x1e")
    assert digest.hexdigest()[:16] == SPLITS[split]


def test_there_are_three_thousand_problems_without_more_operators():
    assert num_distinct(1) >= 3000
    assert all(kind.choices(1) == kind.choices(4) for kinds in FURTHER.values() for kind in kinds)


def test_every_category_has_eight_basic_templates_and_names_of_its_own():
    assert tuple(BASIC) == tuple(FURTHER) == CATEGORIES
    for name, kinds in TEMPLATES.items():
        assert len(BASIC[name]) == 8
        assert len({kind.name for kind in kinds}) == len(kinds)


def test_no_more_templates_come_into_use_than_are_needed():
    """Every template of a category of 78 problems has its share of them, and few are further."""
    problems = Codelets(num_train=12 * 58).all_problems()
    for name in CATEGORIES:
        counts = Counter(p.task_id.split("/")[2] for p in problems if f"/{name}/" in p.task_id)
        kinds = TEMPLATES[name][: len(counts)]
        assert set(counts) == {kind.name for kind in kinds}
        capacity_without_the_last = sum(len(kind.choices(1)) for kind in kinds[:-1])
        assert len(kinds) == 8 or capacity_without_the_last < sum(counts.values()) + 6
        assert len(kinds) <= 11


@pytest.mark.parametrize("size", [{}, {"num_train": 24 * 58}, {"num_train": 60, "num_probe": 200}])
def test_the_probe_set_is_left_over_from_the_others_in_equal_shares(size: dict[str, int]):
    data = Codelets(**size)
    every = tuple(data.load())
    probe = data.load().probe
    assert len(probe) == data.num_probe
    counts = Counter(p.category for p in probe)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({p.task_id for p in every}) == len(every)
    assert len({p.prompt for p in every}) == len(every)
    assert max(Counter(map(shape_of, every)).values()) == 1
    assert all(passes(p, p.prompt + p.canonical_solution) for p in probe)


@pytest.mark.parametrize("num_agents", [6, 12, 18, 24, 40])
def test_no_set_asks_for_a_template_that_is_not_taught(num_agents):
    data = Codelets(num_train=58 * num_agents)
    benchmark = data.load()
    taught = {p.task_id.rsplit("/", 1)[0] for p in benchmark.train}
    asked = benchmark.test + benchmark.transfer + benchmark.probe
    assert {p.task_id.rsplit("/", 1)[0] for p in asked} <= taught


def test_the_probe_set_moves_none_of_the_others():
    without = Codelets(num_probe=0).load()
    assert without.probe == ()
    assert replace(without, probe=BENCHMARK.probe) == BENCHMARK


def test_every_phrase_mentions_every_slot_and_argument():
    for kinds in TEMPLATES.values():
        for kind in kinds:
            slots = set(kind.choices(1)[0])
            for phrase in kind.phrases:
                assert all(f"${a}" in phrase for a, _ in kind.args), (kind.name, phrase)
                assert all(f"${s}" in phrase for s in slots), (kind.name, phrase)


def test_no_prompt_and_no_body_up_to_renaming_occurs_twice(many):
    assert len({p.task_id for p in many}) == len(many)
    assert len({p.prompt for p in many}) == len(many)
    shapes = Counter(map(shape_of, many))
    assert [shape for shape, count in shapes.items() if count > 1] == []


def test_canonical_solutions_pass_and_a_body_that_returns_none_does_not(many):
    for p in many:
        assert passes(p, p.prompt + p.canonical_solution), p.task_id
        assert not passes(p, p.prompt + "    return None\n"), p.task_id


def test_no_problem_is_passed_by_returning_an_argument_or_a_fixed_value():
    assert_not_trivial(PROBLEMS)


@pytest.mark.slow
def test_no_problem_of_the_largest_split_is_passed_by_an_argument_or_a_fixed_value(many):
    assert_not_trivial(many)


def assert_not_trivial(problems: tuple[Problem, ...]) -> None:
    for p in problems:
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


@pytest.mark.slow
def test_tests_of_further_templates_tell_them_from_all_others_of_their_arguments(many):
    """Each problem of a further template against one body of every other one, and the reverse."""
    kinds = {
        f"codelets/{name}/{kind.name}": kind for name in CATEGORIES for kind in TEMPLATES[name]
    }
    further = {f"codelets/{name}/{kind.name}" for name in CATEGORIES for kind in FURTHER[name]}
    first = {}
    for p in many:
        first.setdefault(p.task_id.rsplit("/", 1)[0], p)
    fooled = []
    for p in many:
        own = p.task_id.rsplit("/", 1)[0]
        for other, q in first.items():
            if other == own or p.category != q.category or not further & {own, other}:
                continue
            if [a for _, a in kinds[own].args] != [a for _, a in kinds[other].args]:
                continue
            if passes(p, q.prompt + q.canonical_solution, name=q.entry_point):
                fooled.append((p.task_id, q.task_id))
    assert fooled == []


@pytest.mark.slow
def test_all_problems_pass_the_benchmark_check_in_the_sandbox(many):
    with Executor(limits=Limits(cpu_s=1.0, wall_s=20.0), num_workers=2) as executor:
        report = check_problems(executor, [*many, *Codelets().load().probe])
    assert report.excluded == {}
    assert report.num_none_passed == 0


def test_at_least_four_asserts_and_short_bodies(many):
    for p in many:
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
