"""HumanEval+ and MBPP+: the files, the inputs, the split, and the rules of judging."""

import ast
import gzip
import io
import json
import shutil
import urllib.error
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knexa.data import evalplus, reference_outputs
from knexa.data.benchmark import Benchmark
from knexa.data.codelets import Codelets
from knexa.data.evalplus import HUMANEVAL_PLUS, MBPP_PLUS, WITH_HIDDEN, EvalPlus
from knexa.data.evalplus_rules import AGAIN, RULES, decode, encode, is_near, judge
from knexa.data.humaneval_mbpp import HumanEvalMBPP, without_repeats
from knexa.data.mbpp_plus_inputs import restored
from knexa.data.problem import HiddenTests, Problem
from knexa.data.reference_outputs import Reference
from knexa.data.rows import read_rows
from knexa.data.source_code import parse
from knexa.errors import UserError

BREAKS_ITS_CONTRACT = {"HumanEval/32", "HumanEval/116", "Mbpp/267", "Mbpp/734"}
"""Problems with inputs that EvalPlus published, and judges by, against its own contract."""


@pytest.fixture(scope="module")
def no_outputs(evalplus_files: Path) -> Any:
    """Leave the canonical solutions unrun: what answers are right plays no part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evalplus, "reference_outputs", unanswered)
        yield


def unanswered(key: str, references: dict[str, Reference]) -> dict[str, list[Any]]:
    return {name: [None] * len(each.inputs) for name, each in references.items()}


@pytest.fixture(scope="module")
def benchmark(no_outputs: None, evalplus_files: Path) -> Benchmark:
    return EvalPlus(path=str(evalplus_files)).split()


@pytest.fixture(scope="module")
def published(no_outputs: None, evalplus_files: Path) -> dict[str, HiddenTests]:
    loaded = [WITH_HIDDEN[name](evalplus_files) for name in ("humaneval_plus", "mbpp_plus")]
    return {each.task_id: each for problems in loaded for each in problems}


def rows_of(release: evalplus.Release, folder: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(release.file(folder))]


def test_sets_are_the_published_pools_counterpart(
    benchmark: Benchmark, evalplus_files: Path
) -> None:
    sizes = {role: len(problems) for role, problems in benchmark.roles().items()}
    assert sizes == {"train": 239, "test": 81, "transfer": 128, "probe": 64}
    original = HumanEvalMBPP(path=str(evalplus_files)).load()
    for role in ("train", "test"):
        theirs = {each.task_id.lower() for each in original.roles()[role]}
        assert {each.task_id.lower() for each in benchmark.roles()[role]} <= theirs


def test_sets_share_no_problem(benchmark: Benchmark) -> None:
    pool = [*benchmark.train, *benchmark.test]
    public = [*benchmark.transfer, *benchmark.probe]
    assert without_repeats(public, of=pool) == public
    assert len({problem.task_id for problem in benchmark}) == 239 + 81 + 128 + 64
    numbers = [int(problem.task_id.split("/")[1]) for problem in public]
    assert min(numbers) > 310


def test_hidden_tests_are_those_of_the_test_and_the_transfer_set(benchmark: Benchmark) -> None:
    reported = [each.task_id for each in (*benchmark.test, *benchmark.transfer)]
    assert [each.task_id for each in benchmark.hidden] == reported
    for problem in benchmark:
        assert not hasattr(problem, "hidden")
    public = {problem.task_id: problem.test_code for problem in benchmark}
    assert all(each.test_code != public[each.task_id] for each in benchmark.hidden)


def test_hidden_tests_of_other_problems_are_refused(benchmark: Benchmark) -> None:
    stray = HiddenTests(problem=benchmark.train[0], test_code="assert True\n")
    with pytest.raises(UserError, match=f"test and transfer problems only; .*{stray.task_id}"):
        Benchmark(name="x", train=benchmark.train, test=(), transfer=(), hidden=(stray,))


def test_more_problems_than_the_pool_has_are_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="is 321, but the pool has 320"):
        EvalPlus(num_train=240)


def test_prompts_are_functions_without_their_solution(published: dict[str, HiddenTests]) -> None:
    assert Counter(each.problem.source for each in published.values()) == {
        "humaneval_plus": 164,
        "mbpp_plus": 378,
    }
    for each in published.values():
        problem = each.problem
        functions = [n for n in parse(problem.prompt).body if isinstance(n, ast.FunctionDef)]
        function = next(n for n in functions if n.name == problem.entry_point)
        assert ast.get_docstring(function)
        if problem.source == "mbpp_plus":  # HumanEval's prompts may hold helpers
            assert len(function.body) == 1


@pytest.mark.parametrize("release", [HUMANEVAL_PLUS, MBPP_PLUS], ids=["HumanEval+", "MBPP+"])
def test_inputs_are_of_the_types_that_the_contracts_ask_for(
    release: evalplus.Release, evalplus_files: Path
) -> None:
    broken = set()
    for row in rows_of(release, evalplus_files):
        inputs = [*row["base_input"], *(row["plus_input"] or [])]
        if release is MBPP_PLUS:
            inputs = restored(int(row["task_id"].split("/")[1]), inputs)
        source = row["prompt"] + row["canonical_solution"]
        functions = [n for n in parse(source).body if isinstance(n, ast.FunctionDef)]
        arguments = next(n.args for n in functions if n.name == row["entry_point"])
        body = row["contract"].rstrip() or "    pass"
        namespace: dict[str, Any] = {}
        exec(compile(parse(source), "<solution>", "exec"), namespace)
        exec(f"def contract({ast.unparse(arguments)}):\n{body}\n", namespace)
        for each in inputs:
            try:
                namespace["contract"](*each)
            except AssertionError:
                broken.add(row["task_id"])
    assert broken == {name for name in BREAKS_ITS_CONTRACT if name[0] == release.stem[0]}


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_another_version_of_a_file_is_one_line(
    tmp_path: Path, evalplus_files: Path, suffix: str
) -> None:
    shutil.copy(evalplus_files / "MbppPlus.jsonl.gz", tmp_path)
    text = gzip.decompress((evalplus_files / "HumanEvalPlus.jsonl.gz").read_bytes())
    other = text.replace(b"HumanEval/163", b"HumanEval/164")
    file = tmp_path / f"HumanEvalPlus{suffix}"
    file.write_bytes(gzip.compress(other) if suffix.endswith("gz") else other)
    with pytest.raises(UserError) as refused:
        EvalPlus(path=str(tmp_path)).fingerprint()
    assert "is not HumanEval+ v0.1.10" in str(refused.value)
    assert HUMANEVAL_PLUS.url in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"is not HumanEval\+ v0\.1\.10"):
        EvalPlus(path=str(tmp_path)).split()


def test_identity_is_the_content_wherever_it_lies(evalplus_files: Path) -> None:
    assert EvalPlus(path=str(evalplus_files)).fingerprint() == EvalPlus().fingerprint()
    with pytest.raises(UserError, match=r"no HumanEvalPlus\.jsonl\.gz or HumanEvalPlus\.jsonl"):
        EvalPlus(path=str(evalplus_files.parent)).fingerprint()


class FakeRelease:
    """Stands for the network: answers with ``content``, and counts how often."""

    def __init__(self, content: bytes | None) -> None:
        self.content, self.urls = content, list[str]()

    def __call__(self, url: str, timeout: float) -> io.BytesIO:
        self.urls.append(url)
        if self.content is None:
            raise urllib.error.URLError("no route to host")
        return io.BytesIO(self.content)


def test_release_is_fetched_once_and_kept(
    tmp_path: Path, evalplus_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    release = FakeRelease((evalplus_files / "MbppPlus.jsonl.gz").read_bytes())
    monkeypatch.setattr("urllib.request.urlopen", release)
    first = MBPP_PLUS.file(None)
    assert MBPP_PLUS.file(None) == first
    assert first.read_bytes() == release.content
    assert release.urls == [MBPP_PLUS.url]


@pytest.mark.parametrize("content", [None, b"<html>", gzip.compress(b"{}\n", mtime=0)])
def test_release_that_does_not_arrive_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", FakeRelease(content))
    with pytest.raises(UserError, match=r"MbppPlus\.jsonl\.gz.*data\.path=DIR"):
        MBPP_PLUS.file(None)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


DOUBLES = Reference("def twice(x):\n    return x * 2\n", "twice", [[1], ["a"], [(1, 2)]])


def test_reference_outputs_are_computed_once_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = reference_outputs.reference_outputs("file", {"a": DOUBLES})
    assert first == {"a": [2, "aa", {"tuple": [1, 2, 1, 2]}]}
    with monkeypatch.context() as patch:
        patch.setattr(reference_outputs, "_compute", None)
        assert reference_outputs.reference_outputs("file", {"a": DOUBLES}) == first
    (file,) = [each for each in tmp_path.rglob("*") if each.is_file()]
    file.write_bytes(file.read_bytes()[:-9])  # a damaged file is made again
    assert reference_outputs.reference_outputs("file", {"a": DOUBLES}) == first
    reference_outputs.reference_outputs("another file", {"a": DOUBLES})
    assert len([each for each in tmp_path.rglob("*") if each.is_file()]) == 2


def test_reference_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fails = Reference("def f(x):\n    raise KeyError(x)\n", "f", [[3]])
    with pytest.raises(UserError, match="did not compute: KeyError: 3"):
        reference_outputs.reference_outputs("file", {"a": fails})
    assert not list(tmp_path.rglob("*.gz"))


def test_large_answers_are_computed_again_where_they_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    long = Reference("def f(n):\n    return 'x' * n\n", "f", [[3], [reference_outputs.MOST_KEPT]])
    (answers,) = reference_outputs.reference_outputs("file", {"a": long}).values()
    assert answers == ["xxx", {"again": 0}]
    cases = json.dumps([[[3], answers[0]], [[reference_outputs.MOST_KEPT], answers[1]]])
    reference = (long.program, "f")
    judge(lambda n: "x" * n, cases, rule="", atol=0, reference=reference)
    with pytest.raises(AssertionError, match="input 1"):
        judge(lambda n: "x" * min(n, 9), cases, rule="", atol=0, reference=reference)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES)
def test_values_are_kept_as_they_are(value: Any) -> None:
    assert repr(decode(json.dumps(encode(value)))) == repr(value)


def test_sets_and_numbers_of_any_length_are_kept() -> None:
    for value in ([10**9000, -(1 << 62)], {1, "a", (2.5, None)}, set(), [AGAIN]):
        assert decode(json.dumps(encode(value))) == value


def judged(found: list[Any], expected: list[Any], rule: str = "", atol: float = 0) -> bool:
    cases = json.dumps([[[number], encode(value)] for number, value in enumerate(expected)])
    try:
        judge(lambda number: found[number], cases, rule=rule, atol=atol, reference=("", ""))
    except (AssertionError, TypeError):
        return False
    return True


@pytest.mark.parametrize(
    ("found", "expected", "is_right"),
    [
        ([3], [3], True),
        ([3.0], [3], True),
        ([True], [1], True),
        ([[1, 2]], [(1, 2)], False),
        ([1.0 + 1e-8], [1.0], True),
        ([1.0 + 1e-5], [1.0], False),
        ([1e9 + 50.0], [1e9], True),  # relatively
        ([[1.0, 2.0 + 1e-8]], [[1.0, 2.0]], True),
        ([(1.0,)], [[1.0]], False),
        ([[1.0, 2.0]], [[1.0]], False),
        ([["a", 1.0 + 1e-8]], [["a", 1.0]], False),  # no list of floats alone: equality
        ([float("inf")], [float("inf")], True),
        ([float("nan")], [float("nan")], False),
        ([1], [2**70], False),
        # A float among the expected values brings the tolerance, for all that follow.
        ([1.0, 10**9 + 1], [1.0, 10**9], True),
        ([10**9 + 1, 1.0], [10**9, 1.0], False),
    ],
)
def test_answers_are_compared_as_by_evalplus(found: Any, expected: Any, is_right: bool) -> None:
    assert judged(found, expected) == is_right


def test_tolerance_of_a_problem_holds_for_all_its_answers() -> None:
    assert judged([1.00005], [1.0], atol=1e-4)
    assert not judged([1.0005], [1.0], atol=1e-4)
    assert not judged([1], [1.00005], atol=1e-4)  # of another type
    with pytest.raises(TypeError, match="a str is no number"):
        is_near("b", "a", 1.0)


def test_rules_of_single_problems() -> None:
    assert judged([[3, 1, 1]], [(1, 3)], RULES["similar_elements"])
    assert not judged([[3]], [(1, 3)], RULES["similar_elements"])
    assert judged(["match"], [True], RULES["check_str"])
    assert not judged([None], [True], RULES["check_str"])
    assert not judged([False], [True], RULES["check_str"])
    pyramid = json.dumps([[[3, 4], 33]])
    of_apex = 35  # 4 is the height of the apex, not of a side
    judge(lambda *_: of_apex, pyramid, rule="or_surface", atol=0, reference=("", ""))
    digits = json.dumps([[[23, 156], 6]])
    judge(lambda *_: 1 + 3 + 3, digits, rule="or_digit_distance", atol=0, reference=("", ""))
    root = json.dumps([[[[-4, 0, 1]], 2.0]])
    judge(lambda _: -2.0, root, rule="root", atol=1e-4, reference=("", ""))
    with pytest.raises(AssertionError):
        judge(lambda _: 1.9, root, rule="root", atol=1e-4, reference=("", ""))
    with pytest.raises(AssertionError):  # whoever clears the polynomial has found no root of it
        judge(lambda xs: xs.clear() or 1.9, root, rule="root", atol=1e-4, reference=("", ""))


def test_rules_name_problems_that_exist(published: dict[str, HiddenTests]) -> None:
    assert set(RULES) <= {each.entry_point for each in published.values()}


def test_other_data_has_no_hidden_tests() -> None:
    benchmark = Codelets(num_train=24, num_test=12, num_transfer=12, num_probe=0).load()
    assert benchmark.hidden == ()
    assert all(isinstance(problem, Problem) for problem in benchmark)
