import ast
import gzip
import json
import shutil
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from knexa.data import rows
from knexa.data.benchmark import Benchmark
from knexa.data.humaneval_mbpp import (
    HUMANEVAL_REVISION,
    MBPP_REVISION,
    PUBLISHED,
    HumanEvalMBPP,
    load_humaneval,
    load_mbpp,
    without_repeats,
)
from knexa.data.problem import CATEGORIES, Problem
from knexa.data.source_code import parse, top_level_functions, unbound_names, whole_program
from knexa.errors import UserError


@pytest.fixture(scope="module")
def humaneval(benchmarks: Path) -> list[Problem]:
    return load_humaneval(benchmarks)


@pytest.fixture(scope="module")
def mbpp(benchmarks: Path) -> list[Problem]:
    return load_mbpp(benchmarks)


@pytest.fixture(scope="module")
def benchmark(benchmarks: Path) -> Benchmark:
    return HumanEvalMBPP(path=str(benchmarks)).load()


@pytest.fixture(scope="module")
def published(benchmarks: Path) -> dict[str, dict[str, Any]]:
    lines = gzip.decompress((benchmarks / "mbpp.jsonl.gz").read_bytes()).decode().splitlines()
    return {f"MBPP/{row['task_id']}": row for row in map(json.loads, lines)}


def test_pool_is_humaneval_and_the_first_300_of_mbpp_test(benchmark: Benchmark) -> None:
    pool = {problem.task_id for problem in benchmark.train + benchmark.test}
    assert (len(benchmark.train), len(benchmark.test)) == (348, 116)
    assert pool == {f"HumanEval/{n}" for n in range(164)} | {f"MBPP/{n}" for n in range(11, 311)}


def test_transfer_lies_outside_the_pool_and_the_few_shot_prompts(benchmark: Benchmark) -> None:
    numbers = [int(problem.task_id.split("/")[1]) for problem in benchmark.transfer]
    assert len(set(numbers)) == 128
    assert all(311 <= number <= 974 for number in numbers)


def test_transfer_repeats_nothing_of_the_pool(benchmark: Benchmark) -> None:
    pool = benchmark.train + benchmark.test
    assert without_repeats(benchmark.transfer, of=pool) == list(benchmark.transfer)
    assert without_repeats(pool[:5], of=pool) == []


def test_split_depends_on_split_seed_alone(benchmark: Benchmark, benchmarks: Path) -> None:
    path = str(benchmarks)
    assert HumanEvalMBPP(path=path).load() == benchmark
    other = HumanEvalMBPP(path=path, split_seed=1).load()
    assert other.test != benchmark.test
    assert other.transfer != benchmark.transfer


def test_prompts_hold_nothing_of_the_solution(
    humaneval: list[Problem], mbpp: list[Problem], published: dict[str, dict[str, Any]]
) -> None:
    for problem in humaneval + mbpp:
        assert problem.canonical_solution.strip() not in problem.prompt, problem.task_id
    for problem in mbpp:
        function = parse(problem.prompt).body[-1]
        assert isinstance(function, ast.FunctionDef)
        assert function.name == problem.entry_point
        assert len(function.body) == 1, f"{problem.task_id}: more than a docstring"
        assert published[problem.task_id]["text"].strip()[:40] in problem.prompt


def test_humaneval_prompts_are_as_published(humaneval: list[Problem], benchmarks: Path) -> None:
    lines = gzip.decompress((benchmarks / "HumanEval.jsonl.gz").read_bytes()).decode().splitlines()
    prompts = {row["task_id"]: row["prompt"] for row in map(json.loads, lines)}
    assert {problem.task_id: problem.prompt for problem in humaneval} == prompts


def test_every_canonical_solution_compiles_and_defines_its_entry_point(
    humaneval: list[Problem], mbpp: list[Problem]
) -> None:
    assert (len(humaneval), len(mbpp)) == (164, 974)
    for problem in humaneval + mbpp:
        program = whole_program(problem.prompt, problem.canonical_solution, problem.entry_point)
        with warnings.catch_warnings(action="ignore"):  # escapes such as "\w"
            compile(program, problem.task_id, "exec")
        assert problem.entry_point in top_level_functions(program)
    whole = [p for p in mbpp if p.entry_point in top_level_functions(p.canonical_solution)]
    assert len(whole) == 55


def test_mbpp_keeps_every_assert_and_its_set_up_code(
    mbpp: list[Problem], published: dict[str, dict[str, Any]]
) -> None:
    for problem in mbpp:
        row = published[problem.task_id]
        wanted = [ast.dump(parse(t)) for t in row["test_list"] + row["challenge_test_list"]]
        kept = [
            ast.dump(ast.Module(body=[node], type_ignores=[]))
            for node in parse(problem.test_code).body
        ]
        assert kept == wanted, problem.task_id
        setup = ast.dump(parse(problem.setup_code))
        for node in parse(row["test_setup_code"].replace("\r\n", "\n")).body:
            assert ast.dump(node) in setup


def test_tests_need_nothing_but_set_up_code_and_the_entry_point(
    humaneval: list[Problem], mbpp: list[Problem]
) -> None:
    for problem in humaneval + mbpp:
        unbound = unbound_names(problem.setup_code + problem.test_code)
        assert unbound <= {"candidate", problem.entry_point}, problem.task_id
        assert "\r" not in problem.prompt + problem.canonical_solution + problem.test_code


def test_humaneval_tests_call_check(humaneval: list[Problem]) -> None:
    assert all(p.test_code.endswith("\ncheck(candidate)\n") for p in humaneval)
    assert {p.task_id for p in humaneval if p.setup_code} == {
        "HumanEval/32",
        "HumanEval/38",
        "HumanEval/50",
    }


def test_every_category_occurs_and_none_dominates(benchmark: Benchmark) -> None:
    counts = Counter(problem.category for problem in benchmark.train + benchmark.test)
    assert set(counts) == set(range(len(CATEGORIES)))
    assert max(counts.values()) <= 0.25 * 464
    assert min(counts.values()) >= 8


def test_fingerprint_is_of_the_content_not_the_packing(benchmarks: Path, tmp_path: Path) -> None:
    packed = HumanEvalMBPP(path=str(benchmarks)).fingerprint()
    for stem in ("HumanEval", "mbpp"):
        text = gzip.decompress((benchmarks / f"{stem}.jsonl.gz").read_bytes())
        (tmp_path / f"{stem}.jsonl").write_bytes(text)
    unpacked = HumanEvalMBPP(path=str(tmp_path))
    assert unpacked.fingerprint() == packed
    with (tmp_path / "mbpp.jsonl").open("a") as file:
        file.write("\n")
    assert unpacked.fingerprint() != packed


def test_hub_fingerprint_is_the_revisions_and_needs_no_network() -> None:
    fingerprint = HumanEvalMBPP().fingerprint()
    assert HUMANEVAL_REVISION in fingerprint
    assert MBPP_REVISION in fingerprint


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.unlink(), "no mbpp.jsonl.gz or mbpp.jsonl there"),
        (lambda f: f.write_bytes(f.read_bytes()[:-2000]), "fetch the file again"),
        (lambda f: f.write_bytes(b"no gzip"), "fetch the file again"),
        (lambda f: f.write_bytes(gzip.compress(b"{}\n")), "mbpp.jsonl.gz:1: field task_id"),
        (lambda f: f.write_bytes(gzip.compress(b"\n{oops\n")), "mbpp.jsonl.gz:2: not JSON"),
        (lambda f: f.write_bytes(gzip.compress(b"[1]\n")), "mbpp.jsonl.gz:1: not a JSON object"),
        (lambda f: f.write_bytes(gzip.compress(b"")), "0 problems where 974 belong"),
    ],
)
def test_missing_or_damaged_files_are_one_line(
    benchmarks: Path, tmp_path: Path, damage: Any, words: str
) -> None:
    for stem in ("HumanEval", "mbpp"):
        shutil.copyfile(benchmarks / f"{stem}.jsonl.gz", tmp_path / f"{stem}.jsonl.gz")
    damage(tmp_path / "mbpp.jsonl.gz")
    with pytest.raises(UserError) as error:
        HumanEvalMBPP(path=str(tmp_path)).load()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_pool_larger_than_published_is_refused() -> None:
    with pytest.raises(ValueError, match="464"):
        HumanEvalMBPP(num_train=400, num_test=116)


def test_too_large_a_transfer_set_says_how_many_there_are(benchmarks: Path) -> None:
    with pytest.raises(UserError, match=r"num_transfer \+ data.num_probe is 764, but only 5\d\d "):
        HumanEvalMBPP(path=str(benchmarks), num_transfer=700).load()


class FakeSplits(dict[str, Any]):
    cache_files: dict[str, list[dict[str, str]]]


class FakeHub:
    """Stands in for ``datasets`` and the hub's client; records who was asked and how."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cached: bool, reachable: bool) -> None:
        self.cached = cached
        self.cached_revision = "0" * 40
        self.loads: list[bool] = []
        self.config = SimpleNamespace(HF_HUB_OFFLINE=False)
        self.constants = SimpleNamespace(HF_HUB_OFFLINE=False, ENDPOINT="hub")
        hub = SimpleNamespace(constants=self.constants)
        monkeypatch.setitem(sys.modules, "datasets", self)
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        monkeypatch.setattr(rows, "_hub_is_reachable", lambda endpoint: reachable)

    def load_dataset(self, name: str, config: str, revision: str) -> "FakeSplits":
        offline = self.config.HF_HUB_OFFLINE and self.constants.HF_HUB_OFFLINE
        self.loads.append(offline)
        if offline and not self.cached:
            raise FileNotFoundError(name)
        splits = FakeSplits(train=[{"id": 1}], test=[{"id": 2}])
        splits.cache_files = {"train": [{"filename": f"cache/{self.cached_revision}/a.arrow"}]}
        return splits


def test_a_cached_data_set_is_read_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = FakeHub(monkeypatch, cached=True, reachable=False)
    assert rows.hub_rows("a/b", "full", "0" * 40) == [{"id": 1}, {"id": 2}]
    assert hub.loads == [True]
    assert hub.config.HF_HUB_OFFLINE is False


def test_another_cached_revision_is_not_taken_for_the_pinned_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = FakeHub(monkeypatch, cached=True, reachable=False)
    hub.cached_revision = "1" * 40
    with pytest.raises(UserError, match="a/b at revision 000000000000 is not in the local cache"):
        rows.hub_rows("a/b", "full", "0" * 40)


def test_an_uncached_data_set_is_fetched_where_the_hub_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = FakeHub(monkeypatch, cached=False, reachable=True)
    assert len(rows.hub_rows("a/b", "full", "0" * 40)) == 2
    assert hub.loads == [True, False]


@pytest.mark.parametrize("user_is_offline", [True, False])
def test_offline_and_uncached_is_one_line_and_never_a_download(
    monkeypatch: pytest.MonkeyPatch, user_is_offline: bool
) -> None:
    hub = FakeHub(monkeypatch, cached=False, reachable=False)
    hub.config.HF_HUB_OFFLINE = user_is_offline
    with pytest.raises(
        UserError, match=r"a/b at revision 0+ is not in the local cache .* data\.path=DIR"
    ):
        rows.hub_rows("a/b", "full", "0" * 40)
    assert hub.loads == [True]


def test_a_published_benchmark_is_read_whole_from_a_folder_or_a_file(benchmarks: Path) -> None:
    assert len(PUBLISHED["humaneval"](benchmarks)) == 164
    assert len(PUBLISHED["humaneval"](benchmarks / "HumanEval.jsonl.gz")) == 164
