"""Contexts of arms with topics, and the counts of answers that they come from."""

import numpy as np
import pytest

from knexa.data.problem import CATEGORIES
from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.rewards import LocalLoss, NewAnswers
from knexa.matchmaking.selections import Routed
from knexa.matchmaking.topic_contexts import Topic, TopicHistory, TopicPast, TopicPublic
from knexa.profiles import layout
from tests.matchmaking.matchmaking_worlds import cpm_of, random_profiles

TOPICS = TransferTopics.of([3, 0, 3, 7, 3, 0, 7, 7, 3])


def brought(category: int, asked: int, right: int, new: int) -> TopicAnswers:
    return TopicAnswers(category=category, asked=asked, right=right, new=new)


def contexts(context, ledger: Ledger, profiles_NF=None):
    profiles_NF = (
        random_profiles(np.random.default_rng(0), 3) if profiles_NF is None else profiles_NF
    )
    arms_Ka = np.array(list(np.ndindex(3, 3, 3)))
    rows_Kd = context.arm_rows(profiles_NF, ledger, TOPICS, arms_Ka)
    return rows_Kd.reshape(3, 3, 3, -1)


def lived() -> Ledger:
    ledger = Ledger()
    ledger.record(1, 0, 0.5, [brought(3, 4, 3, 2)])
    ledger.record(1, 2, 0.5, [brought(3, 4, 3, 3), brought(7, 3, 0, 0)])
    ledger.record(0, 2, 0.5, [brought(0, 2, 2, 2)])
    return ledger


def test_topics_are_the_categories_of_the_transfer_set():
    assert (TOPICS.categories, TOPICS.sizes) == ((0, 3, 7), (2, 4, 3))
    assert [TOPICS.size(category) for category in (0, 3, 5)] == [2, 4, 0]


def test_a_context_says_what_is_missing_and_what_the_teacher_is_known_for():
    profiles_NF = random_profiles(np.random.default_rng(1), 3)
    x_NNTd = contexts(Topic(), lived(), profiles_NF)
    share = profiles_NF[1, -12:][3] / profiles_NF[1, -12:].sum()
    # Student 0 has 2 of 4 answers on category 3; teacher 1 had 6 of 8 right there.
    np.testing.assert_allclose(x_NNTd[1, 0, 1], 0.5 * np.array([1.0, share, 0.75, 1.0]))
    # Student 2 lacks 1 of 4; teacher 0 was never asked about category 3.
    share = profiles_NF[0, -12:][3] / profiles_NF[0, -12:].sum()
    np.testing.assert_allclose(x_NNTd[0, 2, 1], 0.25 * np.array([1.0, share, 0.0, 0.0]))
    # Asked in vain is not the same as never asked.
    assert x_NNTd[1, 0, 2, 2:].tolist() == [0.0, 1.0]
    # Student 2 has all of category 0: nobody is worth asking.
    assert not x_NNTd[:, 2, 0].any()


def test_a_student_that_was_brought_more_than_there_is_lacks_nothing():
    ledger = lived()
    ledger.record(0, 2, 0.5, [brought(0, 2, 2, 1)])  # its store had no room for the answer before
    assert not contexts(Topic(), ledger)[:, 2, 0].any()


def test_the_past_is_the_same_without_the_data_share():
    others_NF = random_profiles(np.random.default_rng(9), 3)
    past = contexts(TopicPast(), lived())
    np.testing.assert_array_equal(past, contexts(TopicPast(), lived(), others_NF))
    np.testing.assert_array_equal(past, contexts(Topic(), lived())[..., [0, 2, 3]])
    assert (contexts(Topic(), lived()) != contexts(Topic(), lived(), others_NF)).any()


def test_history_is_of_the_student_the_teacher_and_the_topic():
    ledger = lived()
    ledger.record(1, 0, 0.0, [brought(3, 4, 3, 0)])
    x_NNTd = contexts(TopicHistory(), ledger)
    np.testing.assert_array_equal(x_NNTd[..., :4], contexts(Topic(), ledger))
    # Student 0 has 2 of 4 answers on category 3 and asked teacher 1 twice, who had 9 of 12 right.
    np.testing.assert_allclose(x_NNTd[1, 0, 1, 4:], 0.5 * 2 / 3 * np.array([1.0, 0.75]))
    # Student 2 asked it once and lacks 1 of 4.
    np.testing.assert_allclose(x_NNTd[1, 2, 1, 4:], 0.25 * 1 / 2 * np.array([1.0, 0.75]))
    met_NNT = np.zeros((3, 3, 3), dtype=bool)
    met_NNT[[1, 1, 1], [0, 2, 2], [1, 1, 2]] = True  # teacher 0 left student 2 nothing to ask for
    np.testing.assert_array_equal(x_NNTd[..., 4] > 0.0, met_NNT)


def test_history_of_a_pair_is_the_sum_over_topics():
    profiles_NF = random_profiles(np.random.default_rng(0), 3)
    pairs_K2 = np.array(list(np.ndindex(3, 3)))
    rows_Kd = TopicHistory().arm_rows(profiles_NF, lived(), TOPICS, pairs_K2)
    summed_NNd = contexts(TopicHistory(), lived(), profiles_NF).sum(axis=2)
    np.testing.assert_allclose(rows_Kd.reshape(3, 3, -1), summed_NNd)


def test_the_public_context_has_pass_rates_in_place_of_shares_and_nothing_of_the_data():
    profiles_NF = np.random.default_rng(4).random((3, len(layout.SKILLS_FEATURE_NAMES)))
    public = contexts(TopicPublic(), lived(), profiles_NF)
    np.testing.assert_array_equal(public[..., [0, 2, 3]], contexts(TopicPast(), lived()))
    skill = profiles_NF[1, layout.SKILLS_FEATURE_NAMES.index(f"skill_{CATEGORIES[3]}")]
    assert public[1, 0, 1, 1] == pytest.approx(0.5 * skill)  # half of the topic is missing
    others_NF = np.random.default_rng(5).random(profiles_NF.shape)
    others_NF[:, layout.SKILLS] = profiles_NF[:, layout.SKILLS]
    np.testing.assert_array_equal(public, contexts(TopicPublic(), lived(), others_NF))


def test_profiles_without_what_a_context_reads_are_refused():
    with pytest.raises(ValueError, match="context=topic_public"):
        Topic().num_features(11)
    with pytest.raises(ValueError, match="set profile=skills"):
        TopicPublic().num_features(len(layout.TRUST_FEATURE_NAMES))
    assert TopicPast().num_features(0) == 3


def test_a_ledger_goes_on_from_its_state_and_from_one_that_knew_no_answers():
    ledger, resumed = lived(), Ledger()
    resumed.load_state_dict(ledger.state_dict())
    np.testing.assert_array_equal(resumed.new_answers(3), ledger.new_answers(3))
    np.testing.assert_array_equal(resumed.requested(3), ledger.requested(3))
    older = {k: v for k, v in ledger.state_dict().items() if k != "answers"}
    resumed.load_state_dict(older)
    assert len(resumed) == 3
    assert not resumed.new_answers(3).any()


def test_new_answers_are_shares_of_their_topics():
    reward = NewAnswers()
    assert reward.worth([brought(3, 4, 3, 1), brought(0, 2, 2, 2)], TOPICS) == 1.25
    assert reward.worth([], TOPICS) == 0.0
    with pytest.raises(NotImplementedError):
        LocalLoss().worth([], TOPICS)
    with pytest.raises(NotImplementedError):
        reward.reward(before=1.0, after=0.5, kilobytes=0.0)


@pytest.mark.parametrize(
    "counts",
    [
        brought(3, 5, 1, 1),  # the topic has 4 problems
        brought(3, 4, 5, 1),
        brought(3, 4, 1, 2),
        brought(3, 4, 1, -1),
        brought(5, 1, 1, 1),  # no topic
        brought(7, 3, 1, 1),  # not asked about
        brought(3, 4, 1, True),
        brought(3, 4, 1.0, 1),
    ],
    ids=str,
)
def test_counts_that_cannot_be_are_refused_and_nothing_is_learned(counts):
    cpm = cpm_of(LinUCB(), context=Topic(), matching=Routed(), reward=NewAnswers(), topics=TOPICS)
    plan = cpm.propose(1, random_profiles(np.random.default_rng(0), 3), np.random.default_rng(0))
    asked = [directive.id for directive in plan if directive.topics == (3,)]
    good = Feedback(directive_id=asked[0], reward=0.5, answers=(brought(3, 4, 2, 2),))
    bad = Feedback(directive_id=asked[1], reward=0.5, answers=(counts,))
    with pytest.raises(ValueError, match="counts of answers cannot be"):
        cpm.receive([good, bad])
    assert len(cpm.ledger) == 0
    assert not cpm.matchmaker.model.theta_d.any()
    cpm.receive([good])
    assert len(cpm.ledger) == 1
