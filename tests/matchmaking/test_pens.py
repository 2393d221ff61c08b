from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.matchings import Greedy
from knexa.matchmaking.pens import PENS
from knexa.matchmaking.selections import Routed
from tests.matchmaking.matchmaking_worlds import pairs_of, view_of


def view_with(losses_NN, seed: int = 0, **more):
    losses_NN = np.array(losses_NN, dtype=float)
    np.fill_diagonal(losses_NN, np.nan)
    profiles_NF = np.zeros((len(losses_NN), 32))
    return view_of(profiles_NF, np.random.default_rng(seed), peer_losses=losses_NN, **more)


# Student 0's losses: 1 on the text of 1, 2 of 2, 3 of 3; and so on by column.
LOSSES = [[0, 2, 8, 2], [1, 0, 5, 3], [2, 6, 0, 4], [3, 4, 5, 0]]


def test_a_pair_scores_by_how_far_its_loss_lies_below_the_student_s_mean():
    plan = PENS().propose(view_with(LOSSES, num_pairs=1))
    assert [(d.pair, d.score) for d in plan] == [((0, 1), 2.0)]
    both = PENS().propose(view_with(LOSSES))
    assert {d.pair: d.score for d in both} == {(0, 1): 2.0, (3, 2): 1.0}


def test_a_student_s_level_of_loss_does_not_matter():
    rng = np.random.default_rng(1)
    losses_NN = rng.random((6, 6))
    plans = [
        pairs_of(PENS().propose(view_with(losses_NN + shift_N[None, :])))
        for shift_N in (np.zeros(6), rng.random(6) * 100)
    ]
    assert plans[0] == plans[1]


def test_only_a_student_s_best_peers_may_teach_it():
    rng = np.random.default_rng(2)
    for seed in range(20):
        losses_NN = rng.random((7, 7))
        np.fill_diagonal(losses_NN, np.inf)
        plan = PENS(num_top=2).propose(view_with(losses_NN, seed))
        assert plan
        for teacher, student in pairs_of(plan):
            assert (losses_NN[:, student] < losses_NN[teacher, student]).sum() < 2


def test_one_good_teacher_leaves_the_others_unpaired():
    losses_NN = np.ones((5, 5))
    losses_NN[0] = 0.1
    losses_NN[1, 0] = 0.1
    assert len(PENS(num_top=1).propose(view_with(losses_NN))) == 1
    assert len(PENS().propose(view_with(losses_NN))) == 2


def test_sampled_peers_are_drawn_alike():
    losses_NN = np.array(LOSSES)
    counts = Counter(
        pair
        for seed in range(600)
        for pair in pairs_of(
            PENS(num_sampled=1).propose(view_with(losses_NN[:2, :2], seed, matching=Greedy()))
        )
    )
    assert set(counts) == {(0, 1), (1, 0)}
    three_NN = np.zeros((4, 4))
    three_NN[1:, 1:] = np.inf  # nobody but 0 teaches or learns
    three_NN[0, 1:] = np.inf
    drawn = Counter(
        pairs_of(PENS(num_sampled=1).propose(view_with(three_NN, seed)))[0] for seed in range(600)
    )
    assert set(drawn) == {(1, 0), (2, 0), (3, 0)}
    assert chisquare(list(drawn.values())).pvalue > 0.01


def test_equal_losses_are_kept_alike():
    three_NN = np.full((4, 4), np.inf)
    three_NN[1:, 0] = 1.0
    kept = Counter(
        pairs_of(PENS(num_top=1).propose(view_with(three_NN, seed)))[0] for seed in range(600)
    )
    assert set(kept) == {(1, 0), (2, 0), (3, 0)}
    assert chisquare(list(kept.values())).pvalue > 0.01


def test_pairs_that_the_protocol_cannot_serve_or_without_a_loss_are_left_out():
    admissible_NN = np.ones((4, 4), dtype=bool)
    admissible_NN[0, 1] = False
    losses_NN = np.array(LOSSES, dtype=float)
    losses_NN[3] = np.nan  # 3 wrote nothing
    view = view_with(losses_NN, admissible_NN=admissible_NN)
    pairs = pairs_of(PENS().propose(view))
    assert (0, 1) not in pairs
    assert 3 not in {teacher for teacher, _ in pairs}


def test_pens_says_that_it_needs_peer_losses():
    assert PENS.needs == {"peer losses"}
    assert PENS.learn is Matchmaker.learn
    with pytest.raises(ValueError, match="peer losses"):
        PENS().propose(view_of(np.zeros((4, 32)), np.random.default_rng(0)))


def test_a_student_asks_about_each_topic_whose_answers_surprise_it_least():
    rng = np.random.default_rng(3)
    losses_NNT = rng.random((4, 4, 3))
    losses_NNT[1, :, 1] = np.inf  # agent 1 has nothing to say on the second topic
    topics = TransferTopics.of([0, 0, 2, 5])
    view = view_of(np.zeros((4, 32)), rng, peer_losses=losses_NNT, matching=Routed(), topics=topics)
    asked = {(d.students[0], d.topics[0]): d.teachers[0] for d in PENS().propose(view)}
    assert len(asked) == 4 * 3
    losses_NNT[range(4), range(4)] = np.inf
    for (student, category), teacher in asked.items():
        place = topics.categories.index(category)
        assert teacher == losses_NNT[:, student, place].argmin()
