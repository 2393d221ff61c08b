"""Many teachers as one, on cases small enough to work out by hand."""

import itertools

import numpy as np
import pytest

from knexa.exchange.ensemble import (
    average_distributions,
    average_tensors,
    confident_votes,
    mean_one,
    normalise,
    pool,
    winners,
)
from knexa.exchange.package import TextItem


def item(completion: str, task: str = "t", confidence: float | None = -0.5) -> TextItem:
    return TextItem(task_id=task, completion=completion, confidence=confidence)


def test_normalising_drops_trailing_space_and_blank_lines_and_nothing_else():
    code = "    if x:  \r\n\n        return 'a  b'\t\n    return 2\n\n"
    assert normalise(code) == "    if x:\n        return 'a  b'\n    return 2"


def test_indentation_survives_normalising():
    inside = "    for i in x:\n        y += i\n        return y\n"
    after = "    for i in x:\n        y += i\n    return y\n"
    assert normalise(inside) != normalise(after)
    assert normalise("\treturn 1\n") == normalise("        return 1\n")
    assert normalise("    return '\t'\n") == "    return '\t'"


def test_equal_answers_are_pooled_whoever_gave_them():
    answers = [
        [item("    return 1\n", confidence=-0.9), item("    return 5\n", "u")],
        [item("    return 1   \n\n", confidence=-0.1)],
        [item("    return 2\n")],
    ]
    first, second, other = pool(answers)
    assert (first.voters, first.completion) == ((0, 1), "    return 1   \n\n")
    assert first.confidences == (-0.9, -0.1)
    assert second.voters == (2,)
    assert other.task_id == "u"


def test_the_pools_texts_do_not_depend_on_the_clients_order():
    answers = [[item("    a\n")], [item("    b\n")], [item("    a \n", confidence=-0.1)]]
    pools = [[c.completion for c in pool(order)] for order in itertools.permutations(answers)]
    assert all(texts == pools[0] for texts in pools)


def test_the_ensemble_is_the_mean_of_the_clients_distributions():
    candidates = pool([[item("    a\n"), item("    z\n", "u")], [item("    b\n")]])
    # At temperature 1: client 0 is at odds 3 to 1 for a, client 1 at odds 1 to 1.
    scores_KC = np.array([[np.log(3.0), 0.0, -7.0], [-2.0, -2.0, -9.0]])
    shares_C = average_distributions(scores_KC, candidates, temperature=1.0)
    assert shares_C == pytest.approx([(0.75 + 0.5) / 2, (0.25 + 0.5) / 2, 1.0])
    sharper = average_distributions(scores_KC, candidates, temperature=0.5)
    assert sharper[:2] == pytest.approx([(0.9 + 0.5) / 2, (0.1 + 0.5) / 2])


def test_a_client_that_shifts_all_its_scores_changes_nothing():
    candidates = pool([[item("    a\n")], [item("    b\n")]])
    scores_KC = np.array([[-1.0, -2.0], [-3.0, -0.5]])
    shifted = scores_KC + np.array([[0.0], [-40.0]])
    expected = average_distributions(scores_KC, candidates, 0.1)
    assert average_distributions(shifted, candidates, 0.1) == pytest.approx(expected)


def test_confident_votes_weigh_data_size_times_confidence():
    candidates = pool(
        [
            [item("    a\n", confidence=np.log(0.5))],
            [item("    a\n", confidence=np.log(0.25))],
            [item("    b\n", confidence=np.log(0.8))],
        ]
    )
    votes_C = confident_votes(candidates, np.array([0.2, 0.4, 0.4]))
    assert votes_C == pytest.approx([0.2 * 0.5 + 0.4 * 0.25, 0.4 * 0.8])
    assert winners(candidates, votes_C) == [1]


def test_a_majority_wins_and_confidence_breaks_ties():
    candidates = pool(
        [
            [item("    a\n", confidence=-0.9)],
            [item("    b\n", confidence=-0.2)],
            [item("    c\n", "u"), item("    c\n", "v", confidence=None)],
        ]
    )
    counts = np.array([float(len(c.voters)) for c in candidates])
    chosen = [candidates[i].completion for i in winners(candidates, counts)]
    assert chosen == ["    b\n", "    c\n", "    c\n"]


def test_no_client_gains_by_a_confidence_above_certainty():
    candidates = pool([[item("    a\n", confidence=9.0)]])
    assert confident_votes(candidates, np.ones(1)) == pytest.approx([1.0])


def test_adapters_are_averaged_by_size():
    tensors = [{"w": np.full(2, 1.0, np.float32)}, {"w": np.array([5.0, 9.0], np.float32)}]
    mean = average_tensors(tensors, np.array([30.0, 10.0]))
    assert mean["w"].tolist() == [2.0, 3.0]
    assert mean["w"].dtype == np.float32


def test_weights_are_scaled_to_a_mean_of_one():
    assert mean_one(np.array([1.0, 3.0])) == pytest.approx([0.5, 1.5])
    assert mean_one(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]
