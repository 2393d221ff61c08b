"""Topics of problems: their categories, or clusters that everybody finds among public prompts."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from knexa.data import prompt_clusters
from knexa.data.benchmark import Benchmark
from knexa.data.codelets import Codelets
from knexa.data.problem import CATEGORIES, Problem
from knexa.data.prompt_clusters import LABEL_LENGTH, find_clusters
from knexa.data.topics import Categories, Clusters
from knexa.errors import UserError

BENCHMARK = Codelets(num_train=48, num_test=24, num_transfer=48, num_probe=12).load()
KINDS = {
    "weather": ("rain cloud storm", "storm wind rain", "cloud wind sun", "sun rain wind"),
    "kitchen": ("bread salt oven", "oven butter salt", "salt bread butter", "oven bread flour"),
    "music": ("violin tempo chord", "chord tempo drum", "drum violin tempo", "chord violin note"),
}
"""Prompts of three kinds that share no word."""


def of_words(text: str, number: int = 0, role: str = "transfer") -> Problem:
    return replace(BENCHMARK.train[0], task_id=f"{role}/{number}/{text}", prompt=f"{text}\n")


def topics_of(benchmark: Benchmark) -> dict[str, int]:
    return {problem.task_id: problem.category for problem in benchmark}


def test_prompts_of_different_words_are_told_apart_public_and_private() -> None:
    words = [text for texts in KINDS.values() for text in texts]
    found = find_clusters(frozenset(words), 3)
    kinds = [found.nearest(texts) for texts in KINDS.values()]
    assert sorted(map(set, kinds), key=min) == [{0}, {1}, {2}]
    private = found.nearest(["windy clouds", "a buttered loaf of bread", "two drums and violins"])
    assert private == [each[0] for each in kinds]


def test_a_cluster_is_called_by_words_that_its_prompts_hold_and_others_do_not() -> None:
    words = [text for texts in KINDS.values() for text in texts]
    found = find_clusters(frozenset(words), 3)
    for texts in KINDS.values():
        label = found.labels[found.nearest(texts)[0]]
        first, second = label.split("_")
        assert {first, second} <= set(" ".join(texts).split())
    assert len(set(found.labels)) == 3


def test_labels_fit_where_names_of_categories_do() -> None:
    names = Clusters().of_benchmark(BENCHMARK).categories
    assert len(set(names)) == 12
    assert max(map(len, names)) <= LABEL_LENGTH == max(map(len, CATEGORIES))


def test_private_and_test_and_probe_prompts_move_no_centroid() -> None:
    def other(problem: Problem) -> Problem:
        return replace(problem, prompt=f"{problem.prompt}# a matrix of zebras in the violin case\n")

    changed = replace(
        BENCHMARK,
        train=tuple(map(other, BENCHMARK.train)),
        test=tuple(map(other, BENCHMARK.test)),
        probe=tuple(map(other, BENCHMARK.probe)),
    )
    before, after = Clusters().of_benchmark(BENCHMARK), Clusters().of_benchmark(changed)
    assert after.transfer == before.transfer
    assert after.categories == before.categories
    public = replace(BENCHMARK, transfer=tuple(map(other, BENCHMARK.transfer)))
    assert Clusters().of_benchmark(public).transfer != public.transfer


def test_the_order_of_problems_changes_nothing() -> None:
    turned = replace(BENCHMARK, **{role: each[::-1] for role, each in BENCHMARK.roles().items()})
    before, after = Clusters().of_benchmark(BENCHMARK), Clusters().of_benchmark(turned)
    assert topics_of(after) == topics_of(before)
    assert after.categories == before.categories


@pytest.mark.parametrize("num_clusters", [2, 7, 12])
def test_every_cluster_has_transfer_problems(num_clusters: int) -> None:
    found = Clusters(num_clusters=num_clusters).of_benchmark(BENCHMARK)
    assert {problem.category for problem in found.transfer} == set(range(num_clusters))
    assert {problem.category for problem in found} == set(range(num_clusters))
    assert len(found.categories) == num_clusters
    sizes = np.bincount([problem.category for problem in found.transfer])
    assert all(one >= next_one for one, next_one in pairwise(sizes))


def test_no_prompt_fits_another_cluster_better_than_its_own() -> None:
    prompts = sorted(problem.prompt for problem in BENCHMARK.transfer)
    found = find_clusters(frozenset(prompts), 6)
    vectors_PV = prompt_clusters._embed(prompts, found.columns, found.idf_V).toarray()
    own = np.array(found.nearest(prompts))

    def total(clusters_P: np.ndarray) -> float:
        sums = [vectors_PV[clusters_P == cluster].sum(axis=0) for cluster in range(6)]
        return float(sum(np.linalg.norm(each) for each in sums))

    best = total(own)
    for prompt in range(len(prompts)):
        for cluster in range(6):
            moved = own.copy()
            moved[prompt] = cluster
            assert total(moved) <= best + prompt_clusters._LEAST_GAIN


def test_products_of_embeddings_are_exact_in_any_order() -> None:
    prompts = [problem.prompt for problem in BENCHMARK.transfer]
    found = find_clusters(frozenset(prompts), 12)
    vectors_PV = prompt_clusters._embed(prompts, found.columns, found.idf_V).toarray()
    exact_PK = vectors_PV.astype(np.int64) @ found.centroids_KV.astype(np.int64).T
    order = np.random.default_rng(0).permutation(vectors_PV.shape[1])
    shuffled_PK = vectors_PV[:, order] @ found.centroids_KV[:, order].T
    assert np.array_equal(exact_PK, shuffled_PK)


def test_a_prompt_of_unknown_words_is_of_the_largest_cluster() -> None:
    found = find_clusters(frozenset(text for texts in KINDS.values() for text in texts), 3)
    assert found.nearest(["", "qqq zzz"]) == [0, 0]


def test_fewer_different_prompts_than_clusters_are_refused_in_one_line() -> None:
    texts = KINDS["weather"] + KINDS["kitchen"]
    public = [of_words(text, number) for number in range(3) for text in texts]
    with pytest.raises(UserError, match=r"num_clusters=12, and only 8 .*: set at most 8") as caught:
        Clusters().names(public)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"only 0 .*: set topics=categories"):
        Clusters().names([of_words("rain"), of_words("oven")])


def test_what_a_problem_means_to_each_group_has_its_topic() -> None:
    found = Clusters().of_benchmark(Codelets(num_conventions=2).load())
    meant = [problem for problem in found.train if problem.conventions]
    assert meant
    for problem in meant:
        assert {problem.as_meant_by(group).category for group in range(2)} == {problem.category}


def test_categories_leave_a_benchmark_as_it_is() -> None:
    assert Categories().of_benchmark(BENCHMARK) is BENCHMARK
    assert Categories().assign(BENCHMARK.train, BENCHMARK.transfer) == BENCHMARK.train
