"""Comparison of students' reports, alone and in a CPM that is fed simulated answers."""

import numpy as np
import pytest

from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.reports import Comparison, compare
from knexa.matchmaking.rewards import NewAnswers
from knexa.matchmaking.selections import Routed
from knexa.matchmaking.topic_contexts import Topic, TopicReputation
from tests.matchmaking.matchmaking_worlds import cpm_of, random_profiles

SIZE = 8
TOPICS = TransferTopics.of(np.repeat(np.arange(12), SIZE).tolist())


def reports(**told: dict[int, int]):
    """Reports on texts a, b, ...: right answers by student, of eight asked."""
    return [
        ((1, 9, "abcdefgh".index(text)), student, (8, right))
        for text, counts in told.items()
        for student, right in counts.items()
    ]


def test_equal_reports_accuse_nobody():
    assert compare(reports(a={0: 3, 1: 3, 2: 3}, b={0: 5}), 2) == Comparison()


def test_more_contradictors_than_may_lie_convict_a_forger_and_settle_the_text():
    found = compare(reports(a={0: 3, 1: 3, 2: 3, 3: 8}, b={3: 8, 4: 0}), 2)
    assert found.forgers == {3}
    assert not found.disputed


def test_one_against_one_is_disputed_and_convicts_neither():
    found = compare(reports(a={0: 3, 1: 8}, b={0: 3, 2: 3}), 2)
    assert found == Comparison(disputed=frozenset({(1, 9, 0)}))


def test_a_coalition_as_large_as_allowed_convicts_nobody_honest_whatever_it_reports():
    rng = np.random.default_rng(0)
    for _ in range(200):
        num_agents = int(rng.integers(3, 12))
        most = (num_agents - 1) // 2
        liars = set(rng.permutation(num_agents)[:most].tolist())
        told = [
            ((1, 0, text), student, (8, int(rng.integers(9)) if student in liars else 4))
            for text in range(6)
            for student in range(num_agents)
            if rng.random() < 0.6
        ]
        assert compare(told, most).forgers <= liars


def test_a_coalition_is_convicted_one_by_one():
    # Nobody contradicts 4 often enough before 5 is known: 2 and 5 are two, and one more may lie.
    found = compare(reports(a={0: 3, 1: 3, 2: 3, 5: 8}, b={0: 3, 1: 3, 4: 0}), 2)
    assert found.forgers == {4, 5}


def test_another_number_of_questions_contradicts_as_well():
    text = (1, 9, 0)
    told = [(text, student, (8, 4)) for student in range(3)] + [(text, 3, (4, 4))]
    assert compare(told, 1).forgers == {3}


def lived(most_liars: int | None) -> Ledger:
    """Student 3 praises teacher 0, whose text on topic 2 is all wrong, in rounds 1 and 2."""
    ledger = Ledger(most_liars)
    for student, right in ((1, 0), (2, 0), (3, 8)):
        brought = TopicAnswers(category=2, asked=8, right=right, new=right)
        ledger.record(0, student, right / 8, [brought], round=1)
    ledger.record(0, 3, 1.0, [TopicAnswers(category=2, asked=8, right=8, new=8)], round=2)
    ledger.compare_reports()
    return ledger


def test_a_forgers_reports_are_no_evidence_of_teachers_its_lone_ones_neither():
    asked_NC, right_NC = lived(1).answered(4)
    assert (asked_NC[0, 2], right_NC[0, 2]) == (16, 0)
    asked_NC, right_NC = lived(None).answered(4)
    assert (asked_NC[0, 2], right_NC[0, 2]) == (32, 16)


def test_reports_of_several_rounds_are_not_compared_with_each_other():
    ledger = Ledger(0)
    for round in (1, 2):
        brought = TopicAnswers(category=2, asked=8, right=round, new=round)
        ledger.record(0, round, 0.5, [brought], round=round)
    ledger.compare_reports()
    assert ledger.comparison == Comparison()


def test_a_resumed_ledger_knows_its_forgers():
    resumed = Ledger(1)
    resumed.load_state_dict(lived(1).state_dict())
    assert resumed.comparison.forgers == {3}
    assert "rounds" not in lived(None).state_dict()


class Answers:
    """Six agents with simulated answers; the last ``num_liars`` answer wrongly and may forge."""

    def __init__(self, seed: int, *, num_liars: int, forge: bool) -> None:
        self.rng = np.random.default_rng(seed)
        shares_NC = self.rng.dirichlet(np.full(6, 0.1), 12).T
        self.profiles_NF = random_profiles(self.rng)
        self.profiles_NF[:, -12:] = shares_NC / shares_NC.sum(axis=1, keepdims=True)
        self.skills_NC = 0.1 + 0.5 * shares_NC
        self.skills_NC[6 - num_liars :] = 0.04  # a mutant may pass
        self.liars, self.forge = set(range(6 - num_liars, 6)), forge
        self.kept = [[set() for _ in range(12)] for _ in range(6)]

    def live(self, cpm: CPM, round: int) -> tuple[float, int]:
        """Return the share of honest agents' questions that liars were asked, and their number."""
        chances_NCp = self.rng.random((6, 12, SIZE))
        plan = cpm.propose(round, self.profiles_NF, np.random.default_rng(round))
        feedbacks, asked = [], []
        for directive in plan:
            assert directive.pair is not None
            assert directive.topics is not None
            (teacher, student), (topic,) = directive.pair, directive.topics
            solved_p = chances_NCp[teacher, topic] < self.skills_NC[teacher, topic]
            right = set(np.flatnonzero(solved_p).tolist())
            new = len(right - self.kept[student][topic])
            self.kept[student][topic] |= right
            counts = TopicAnswers(category=topic, asked=SIZE, right=len(right), new=new)
            reward = new / SIZE
            if self.forge and student in self.liars:
                claimed = SIZE if teacher in self.liars else 0
                counts = TopicAnswers(category=topic, asked=SIZE, right=claimed, new=claimed)
                reward = 1.0 if claimed else -1.0
            feedbacks.append(Feedback(directive_id=directive.id, reward=reward, answers=(counts,)))
            if student not in self.liars:
                asked.append(teacher in self.liars)
        cpm.receive(feedbacks)
        return float(np.mean(asked)), len(asked)


def routed_cpm(context, *, most_liars: int | None = None) -> CPM:
    return cpm_of(
        LinUCB(regularization=0.1, exploration=0.3, abstain=True),
        context=context,
        matching=Routed(),
        reward=NewAnswers(),
        topics=TOPICS,
        most_liars=most_liars,
    )


def test_forged_reports_teach_a_cpm_that_compares_nothing():
    def taught(most_liars: int | None, *, forge: bool) -> np.ndarray:
        answers = Answers(300, num_liars=2, forge=forge)
        cpm = routed_cpm(TopicReputation(), most_liars=most_liars)
        answers.live(cpm, 1)
        assert cpm.ledger.comparison.forgers == ({4, 5} if most_liars and forge else set())
        asked_NC, right_NC = cpm.ledger.answered(6)
        return np.stack([asked_NC, right_NC])

    honest = taught(2, forge=False)
    np.testing.assert_array_equal(taught(None, forge=False), honest)
    (asked_NC, right_NC), (forged_asked_NC, forged_right_NC) = honest, taught(2, forge=True)
    known_NC = forged_asked_NC > 0
    np.testing.assert_allclose(
        (forged_right_NC / np.maximum(forged_asked_NC, 1))[known_NC],
        (right_NC / np.maximum(asked_NC, 1))[known_NC],
    )
    assert not np.array_equal(taught(None, forge=True)[1], right_NC)


def test_honest_reports_teach_the_same_whether_they_are_compared_or_not():
    cpms = [routed_cpm(Topic(), most_liars=most) for most in (None, 2)]
    for cpm in cpms:
        answers = Answers(301, num_liars=2, forge=False)
        for round in range(1, 5):
            answers.live(cpm, round)
    models = [cpm.matchmaker.state_dict() for cpm in cpms]  # type: ignore[attr-defined]
    for name, value in models[0].items():
        np.testing.assert_array_equal(value, models[1][name])


@pytest.mark.parametrize("forge", [False, True])
def test_liars_are_asked_less_than_a_third_of_their_share_from_the_third_round_on(forge):
    fair, shares = 2 / 5, []
    for seed in range(300, 310):
        answers = Answers(seed, num_liars=2, forge=forge)
        cpm = routed_cpm(TopicReputation(), most_liars=2)
        shares.append([answers.live(cpm, round)[0] / fair for round in range(1, 7)])
    shunned = (np.array(shares)[:, 2:] < 1 / 3).all(axis=1)
    assert shunned.mean() >= 0.9
    assert np.mean(shares, axis=0)[0] > 0.8  # before anybody was asked claims count


def test_without_reputation_the_same_liars_keep_their_share():
    shares = []
    for seed in range(300, 304):
        answers = Answers(seed, num_liars=2, forge=False)
        cpm = routed_cpm(Topic())
        shares.append([answers.live(cpm, round)[0] / (2 / 5) for round in range(1, 7)])
    assert np.mean(shares, axis=0)[2:].min() > 1 / 3


def test_a_report_without_counts_is_not_learned_where_reports_are_compared():
    learned = []
    for most in (None, 2):
        cpm = routed_cpm(Topic(), most_liars=most)
        profiles_NF = random_profiles(np.random.default_rng(0))
        plan = cpm.propose(1, profiles_NF, np.random.default_rng(0))
        cpm.receive([Feedback(directive_id=plan[0].id, reward=1.0)])
        learned.append(bool(cpm.matchmaker.model.theta_d.any()))  # type: ignore[attr-defined]
    assert learned == [True, False]


def test_a_late_report_is_compared_with_those_of_its_round_after_a_restart():
    cpm = routed_cpm(Topic(), most_liars=1)
    plan = cpm.propose(1, random_profiles(np.random.default_rng(0)), np.random.default_rng(0))
    by_text: dict[tuple[int, int], list[str]] = {}
    for directive in plan:
        assert directive.topics is not None
        by_text.setdefault((directive.teachers[0], directive.topics[0]), []).append(directive.id)
    (_, topic), ids = max(by_text.items(), key=lambda text: len(text[1]))

    def report(id_: str, right: int) -> Feedback:
        counts = TopicAnswers(category=topic, asked=SIZE, right=right, new=right)
        return Feedback(directive_id=id_, reward=right / SIZE, answers=(counts,))

    cpm.receive([report(id_, 2) for id_ in ids[:2]])
    restarted = routed_cpm(Topic(), most_liars=1)
    restarted.load_state_dict(cpm.state_dict())
    restarted.receive([report(ids[2], 7)])
    assert len(restarted.ledger.comparison.forgers) == 1
