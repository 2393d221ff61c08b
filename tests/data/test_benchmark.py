import pytest

from knexa.data.benchmark import Benchmark
from knexa.data.problem import Problem
from knexa.errors import UserError


def problem(name: str, prompt: str | None = None) -> Problem:
    return Problem(
        task_id=name,
        prompt=prompt or f"def {name}():\n",
        entry_point=name,
        canonical_solution="    return 1\n",
        test_code="assert candidate() == 1\n",
        category=0,
        source="test",
    )


def test_iterates_over_all_three_sets_in_order() -> None:
    benchmark = Benchmark(
        name="b", train=(problem("a"),), test=(problem("b"),), transfer=(problem("c"),)
    )
    assert [p.task_id for p in benchmark] == ["a", "b", "c"]
    assert len(benchmark) == 3


@pytest.mark.parametrize("role", ["train", "test", "transfer"])
def test_an_id_in_two_places_is_refused_by_name(role: str) -> None:
    sets = {"train": (problem("a"),), "test": (problem("b"),), "transfer": (problem("c"),)}
    sets[role] += (problem("a", prompt="x\n"),)
    with pytest.raises(UserError, match="repeated: a"):
        Benchmark(name="b", **sets)


def test_a_prompt_in_two_sets_is_refused_with_both_ids() -> None:
    leaked = problem("leak", prompt="def a():\n")
    with pytest.raises(UserError, match=r"leak \(test\) = a \(train\)"):
        Benchmark(name="b", train=(problem("a"),), test=(leaked,), transfer=())


def test_many_repeated_ids_are_counted_not_listed() -> None:
    problems = tuple(problem(f"p{index}") for index in range(9))
    with pytest.raises(UserError, match="p4 and 4 more"):
        Benchmark(name="b", train=problems, test=problems, transfer=())
