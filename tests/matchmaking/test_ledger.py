import numpy as np

from knexa.matchmaking.answers import TopicAnswers
from knexa.matchmaking.ledger import Ledger


def ledger_of(*exchanges: tuple[int, int, float]) -> Ledger:
    ledger = Ledger()
    for exchange in exchanges:
        ledger.record(*exchange)
    return ledger


def test_trust_is_the_share_of_lessons_that_paid_with_laplace_s_rule():
    ledger = ledger_of((0, 1, 0.2), (0, 2, -0.1), (0, 1, 0.3), (2, 0, -1.0), (2, 1, 0.0))
    # 2 of 3 lessons paid; none taught; 0 of 2, as a reward of 0 does not pay.
    np.testing.assert_allclose(ledger.trust(4), [3 / 5, 1 / 2, 1 / 4, 1 / 2])


def test_trust_does_not_depend_on_how_much_a_lesson_earned():
    np.testing.assert_array_equal(
        ledger_of((0, 1, 1e-9), (1, 0, -5.0)).trust(2),
        ledger_of((0, 1, 9.0), (1, 0, -1e-9)).trust(2),
    )


def all_pairs(ledger: Ledger, num_agents: int) -> tuple[np.ndarray, np.ndarray]:
    teachers_n, students_n = np.divmod(np.arange(num_agents**2), num_agents)
    means_n, counts_n = ledger.pair_means(teachers_n, students_n)
    return means_n.reshape(num_agents, -1), counts_n.reshape(num_agents, -1)


def test_pair_means_tell_the_roles_and_are_zero_where_nobody_met():
    means_NN, counts_NN = all_pairs(ledger_of((0, 1, 0.2), (0, 1, 0.4), (1, 0, -1.0)), 3)
    np.testing.assert_allclose(means_NN, [[0, 0.3, 0], [-1.0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(counts_NN, [[0, 2, 0], [1, 0, 0], [0, 0, 0]])


def test_pair_means_are_those_of_the_pairs_asked_for_in_their_order():
    ledger = ledger_of((70_000, 99_999, 0.5), (3, 1, 0.25), (99_999, 70_000, -1.0))
    asked = np.array([[3, 1], [70_000, 99_999], [70_000, 99_998], [3, 1], [99_999, 99_999]])
    means_K, counts_K = ledger.pair_means(*asked.T)
    np.testing.assert_array_equal(means_K, [0.25, 0.5, 0.0, 0.25, 0.0])
    np.testing.assert_array_equal(counts_K, [1, 1, 0, 1, 0])


def test_root_mean_square_is_the_size_of_a_reward():
    assert ledger_of((0, 1, 3.0), (1, 0, -4.0)).root_mean_square() == np.sqrt(12.5)


def test_an_empty_ledger_knows_nothing():
    ledger = Ledger()
    means_NN, counts_NN = all_pairs(ledger, 2)
    assert len(ledger) == ledger.root_mean_square() == 0
    assert not means_NN.any()
    assert not counts_NN.any()
    np.testing.assert_array_equal(ledger.trust(2), [0.5, 0.5])


def test_a_reloaded_ledger_goes_on_bit_for_bit():
    ledger = ledger_of((0, 1, 0.1), (1, 2, 1 / 3))
    restored = ledger_of((2, 2, 9.0))
    restored.load_state_dict(ledger.state_dict())
    for book in (ledger, restored):
        book.record(0, 1, 0.2)
    assert len(restored) == 3
    for ours, theirs in zip(all_pairs(ledger, 3), all_pairs(restored, 3), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_saved_state_does_not_change_with_the_ledger():
    ledger = ledger_of((0, 1, 0.1))
    state = ledger.state_dict()
    ledger.record(1, 0, 0.5)
    assert state["rewards"].tolist() == [0.1]


def test_sums_of_answers_grow_with_the_records_and_not_in_hands_that_hold_them():
    ledger = ledger_of()
    first = TopicAnswers(category=3, asked=5, right=4, new=2)
    ledger.record(0, 1, 0.5, [first])
    before = (ledger.new_answers(2), ledger.requested(2), *ledger.answered(2))
    ledger.record(0, 1, 0.5, [first, TopicAnswers(category=0, asked=1, right=0, new=0)])
    assert [sums_NC.sum() for sums_NC in before] == [2, 5, 5, 4]
    assert ledger.new_answers(2)[1, 3] == 4
    assert [sums_NC[0, 3] for sums_NC in ledger.answered(2)] == [10, 8]
    assert ledger.requested(2)[1, 0] == 1
    assert ledger.requested(3).shape[0] == 3  # of a roster that grew
    assert ledger.requested(3).sum() == 11
    restored = ledger_of((0, 1, 1.0))
    restored.record(1, 0, 1.0, [first])
    assert restored.requested(2).sum() == 5
    restored.load_state_dict(ledger.state_dict())
    np.testing.assert_array_equal(restored.requested(2), ledger.requested(2))
