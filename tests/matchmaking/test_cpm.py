from typing import ClassVar

import numpy as np
import pytest

from knexa.errors import UserError
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM, MAX_FEATURE
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.plans import Directive, Feedback
from knexa.matchmaking.random import Random
from knexa.matchmaking.rewards import LocalLoss
from knexa.matchmaking.round_view import Probe
from tests.matchmaking.matchmaking_worlds import random_profiles


class Recorder(Matchmaker):
    """Pairs 0 with 1 and 2 with 3, and keeps what it is taught."""

    def __init__(self) -> None:
        self.lessons: list[tuple[np.ndarray, np.ndarray]] = []
        self.probes: list[Probe | None] = []

    def propose(self, view):
        self.probes.append(view.probe)
        return view.plan([(0, 1), (2, 3)])

    def learn(self, contexts_Kd, rewards_K):
        self.lessons.append((contexts_Kd, rewards_K))


class EverybodyTeachesEverybody(Recorder):
    protocol: ClassVar[str | None] = "ensemble"

    def propose(self, view):
        everybody = tuple(range(view.num_agents))
        return (
            Directive(
                id=f"r{view.round}-0",
                teachers=everybody,
                students=everybody,
                protocol=view.protocol,
            ),
        )


def cpm_of(matchmaker: Matchmaker, **settings) -> CPM:
    return CPM(
        matchmaker=matchmaker,
        context=Interaction(),
        matching=Exact(),
        reward=settings.pop("reward", LocalLoss(normalization="none")),
        protocol="akd",
        num_profile_features=32,
        **settings,
    )


def feedback(**rewards: float) -> list[Feedback]:
    """``feedback(r1_0=0.5)`` reports on directive r1-0."""
    return [Feedback(directive_id=id_.replace("_", "-"), reward=r) for id_, r in rewards.items()]


def propose(cpm: CPM, round: int, profiles_NF=None, **more):
    rng = np.random.default_rng(round)
    profiles_NF = random_profiles(rng) if profiles_NF is None else profiles_NF
    return cpm.propose(round, profiles_NF, np.random.default_rng([round, 1]), **more)


def test_late_feedback_meets_the_context_that_the_choice_was_made_on():
    policy = Recorder()
    cpm = cpm_of(policy)
    first_NF, second_NF = (random_profiles(np.random.default_rng(seed)) for seed in (0, 1))
    propose(cpm, 1, first_NF.copy())
    propose(cpm, 2, second_NF.copy())
    cpm.receive(feedback(r2_0=0.1, r1_1=0.2))
    cpm.receive(feedback(r1_0=0.3))
    first_NNd, second_NNd = Interaction().build(first_NF), Interaction().build(second_NF)
    contexts_Kd, rewards_K = policy.lessons[0]
    np.testing.assert_array_equal(contexts_Kd, [second_NNd[0, 1], first_NNd[2, 3]])
    np.testing.assert_array_equal(rewards_K, [0.1, 0.2])
    np.testing.assert_array_equal(policy.lessons[1][0], [first_NNd[0, 1]])
    assert cpm.pending == ("r2-1",)


def test_profiles_changed_in_place_do_not_change_the_stored_context():
    policy = Recorder()
    cpm = cpm_of(policy)
    profiles_NF = random_profiles(np.random.default_rng(2))
    expected = Interaction().build(profiles_NF)[0, 1]
    propose(cpm, 1, profiles_NF)
    profiles_NF[:] = 0.0
    cpm.receive(feedback(r1_0=1.0))
    np.testing.assert_array_equal(policy.lessons[0][0][0], expected)


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        (feedback(r1_0=0.1, r9_0=0.2), "'r9-0'.*never issued or has been answered already"),
        (feedback(r1_0=0.1) * 2, "'r1-0' comes twice"),
        (feedback(r1_0=0.1, r1_1=float("nan")), "'r1-1'.*not finite"),
        (feedback(r1_0=float("-inf")), "'r1-0'.*not finite"),
        (feedback(r1_0=1e308), "'r1-0'.*not plausible; allowed is -1104.86 to 1104.86"),
        (feedback(r1_0=-(10**5000)), "'r1-0'.*not plausible"),
        (feedback(r1_0="1.0"), "'r1-0'.*not a number"),
        (feedback(r1_0=True), "'r1-0'.*not a number"),
        ([Feedback(directive_id=["r1-0"], reward=0.1)], "id is not text"),
        ([Feedback(directive_id="x\n" * 10_000, reward=0.1)], r"^.{,150}never issued.{,50}$"),
    ],
)
def test_feedback_that_cannot_be_taken_is_refused_whole(batch, complaint):
    policy = Recorder()
    cpm = cpm_of(policy, reward=LocalLoss())
    propose(cpm, 1)
    before = cpm.state_dict()["reward"]
    with pytest.raises(ValueError, match=complaint):
        cpm.receive(batch)
    assert policy.lessons == []
    assert cpm.pending == ("r1-0", "r1-1")
    assert cpm.state_dict()["reward"] == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 10.5, -1e308])
def test_a_profile_that_no_honest_agent_writes_is_refused_by_name(value):
    cpm = cpm_of(LinUCB())
    profiles_NF = random_profiles(np.random.default_rng(0))
    profiles_NF[3, 7] = value
    with pytest.raises(ValueError, match=r"agent 3's profile: feature 7 is .*allowed is -10 to 10"):
        propose(cpm, 1, profiles_NF)
    assert cpm.pending == ()


@pytest.mark.parametrize(
    "profiles",
    [
        np.zeros((6, 31)),
        np.zeros((6, 33)),
        np.zeros(32),
        np.zeros((1, 6, 32)),
        np.zeros((6, 32), dtype=complex),
        np.full((6, 32), "0.5"),
        np.full((6, 32), None),
        [[0.0] * 32] * 6,
    ],
    ids=lambda p: f"{type(p).__name__} {getattr(p, 'dtype', '')} {np.shape(p)}",
)
def test_what_is_no_matrix_of_the_configured_features_is_no_profiles(profiles):
    with pytest.raises(ValueError, match=r"^profiles (have the shape|are not an array)[^\n]*$"):
        propose(cpm_of(LinUCB()), 1, profiles)


@pytest.mark.parametrize("regularization", [0.01, 1e-4])
def test_extreme_profiles_and_rewards_that_are_allowed_leave_the_regression_sound(regularization):
    cpm = cpm_of(LinUCB(regularization=regularization), reward=LocalLoss())
    for round in range(1, 101):
        rng = np.random.default_rng(round)
        profiles_NF = random_profiles(rng)
        profiles_NF[0] = rng.choice([-MAX_FEATURE, MAX_FEATURE], 32)
        plan = propose(cpm, round, profiles_NF)
        cpm.receive(
            [Feedback(directive_id=d.id, reward=float(rng.choice([-1, 1]) * 1104.0)) for d in plan]
        )
    model = cpm.matchmaker.model
    np.testing.assert_allclose(model.inverse_dd @ model.A_dd, np.eye(model.num_features), atol=1e-4)
    assert np.isfinite(model.theta_d).all()


def test_an_answered_directive_takes_no_second_answer():
    cpm = cpm_of(Recorder())
    propose(cpm, 1)
    cpm.receive(feedback(r1_0=0.1))
    with pytest.raises(ValueError, match="answered already"):
        cpm.receive(feedback(r1_0=0.1))


def test_an_id_issued_twice_is_refused():
    cpm = cpm_of(Recorder())
    propose(cpm, 1)
    with pytest.raises(ValueError, match="unique"):
        propose(cpm, 1)


def test_directives_that_are_no_pairs_are_recorded_but_teach_nothing():
    policy = EverybodyTeachesEverybody()
    cpm = cpm_of(policy)
    (directive,) = propose(cpm, 1)
    assert directive.protocol == "ensemble"
    assert cpm.pending == ("r1-0",)
    assert cpm.receive(feedback(r1_0=0.4)) == [0.4]
    assert policy.lessons == []
    assert cpm.pending == ()


def test_rewards_come_back_normalised_and_are_what_the_policy_learns():
    policy = Recorder()
    cpm = cpm_of(policy, reward=LocalLoss())
    propose(cpm, 1)
    normalised = cpm.receive(feedback(r1_0=3.0, r1_1=1.0))
    assert normalised == pytest.approx([1.0, -1.0], rel=1e-5)
    np.testing.assert_array_equal(policy.lessons[0][1], normalised)
    assert cpm.receive([]) == []


def test_only_a_policy_that_declares_its_need_sees_the_probe():
    rewards_NN = np.arange(36.0).reshape(6, 6)
    probe = Probe(rewards=rewards_NN, no_teacher_N=np.zeros(6))
    recorder = Recorder()
    propose(cpm_of(recorder), 1, probe=probe)
    assert recorder.probes == [None]
    assert len(propose(cpm_of(Oracle()), 1, probe=probe)) == 3
    with pytest.raises(ValueError, match="Oracle needs the probe"):
        propose(cpm_of(Oracle()), 1)


def test_number_of_pairs_defaults_to_half_the_agents_and_can_be_less():
    profiles_NF = random_profiles(np.random.default_rng(3), 7)
    assert len(propose(cpm_of(LinUCB()), 1, profiles_NF)) == 3
    assert len(propose(cpm_of(LinUCB(), num_pairs=1), 1, profiles_NF)) == 1


def plain(state) -> bool:
    """Whether a state holds nothing but what JSON and arrays can."""
    if isinstance(state, dict):
        return all(isinstance(key, str) and plain(value) for key, value in state.items())
    if isinstance(state, list):
        return all(plain(value) for value in state)
    return state is None or isinstance(state, int | float | str | np.ndarray)


@pytest.mark.parametrize("policy", [LinUCB, Random, EverybodyTeachesEverybody])
def test_reloaded_cpm_continues_bit_for_bit_with_feedback_outstanding(policy):
    original = cpm_of(policy(), reward=LocalLoss())
    waiting: list[str] = []

    def play(cpm: CPM, round: int, ids: list[str]):
        plan = propose(cpm, round)
        ids = [*ids, *(directive.id for directive in plan)]
        # One answer stays out each round, so that late ones cross the checkpoint.
        answers = [Feedback(directive_id=id_, reward=np.sin(7.0 * len(id_))) for id_ in ids[:-1]]
        return plan, cpm.receive(answers), ids[-1:]

    for round in range(1, 30):
        _, _, waiting = play(original, round, waiting)
    state = original.state_dict()
    assert plain(state)
    restored = cpm_of(policy(), reward=LocalLoss())
    restored.load_state_dict(state)
    assert restored.pending == original.pending == tuple(waiting)
    ours = theirs = waiting
    for round in range(30, 35):
        plan, rewards, ours = play(original, round, ours)
        again, rewards_again, theirs = play(restored, round, theirs)
        assert plan == again
        assert rewards == rewards_again


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (lambda view: None, "no plan"),
        (lambda view: [(0, 1)], "no plan"),
        (lambda view: view.plan([(0, 0)]), "agent 0 teach itself"),
        (lambda view: view.plan([(0, 99)]), "agent 99: agents are 0 to"),
        (lambda view: view.plan([(-1, 1)]), "agent -1"),
    ],
)
def test_what_is_no_plan_is_refused_in_words(plan, complaint):
    class Mine(Matchmaker):
        def propose(self, view):
            return plan(view)

    with pytest.raises(UserError, match=f"Mine.propose .*{complaint}"):
        propose(cpm_of(Mine()), 1)


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (np.zeros((5, 5)), r"shape \(5, 5\), expected is \(6, 6\)"),
        (np.zeros((7, 7)), r"shape \(7, 7\), expected is \(6, 6\)"),
        (np.zeros(6), r"shape \(6,\), expected is \(6, 6\)"),
        ([[0.0] * 6] * 6, "scores are list, expected is an array of real numbers"),
        (np.full((6, 6), "0"), "scores are <U1, expected is an array of real numbers"),
        (np.full((6, 6), np.nan), "scores must be finite"),
        (np.full((6, 6), np.inf), "scores must be finite"),
    ],
    ids=["few", "many", "row", "list", "text", "nan", "inf"],
)
def test_scores_that_no_matching_can_go_by_are_refused_in_words(scores, complaint):
    class Mine(Matchmaker):
        def propose(self, view):
            return view.match(scores)

    with pytest.raises(UserError, match=f"^Mine.propose: .*{complaint}"):
        propose(cpm_of(Mine()), 1)


class TwoTeachersForOne(Recorder):
    def propose(self, view):
        return (
            view.directive(0, (0,), (1,), topics=[3]),
            view.directive(1, (2,), (1,), topics=[0, 5]),
        )


def test_a_student_may_be_taught_by_several_directives_each_about_its_topics():
    cpm = cpm_of(TwoTeachersForOne())
    rng = np.random.default_rng(0)
    plan = cpm.propose(1, random_profiles(rng, 4), rng=rng)
    assert [directive.topics for directive in plan] == [(3,), (0, 5)]
    assert cpm.receive(feedback(r1_0=0.5, r1_1=0.25)) == [0.5, 0.25]
    contexts, rewards = zip(*cpm.matchmaker.lessons, strict=True)
    assert sum(len(each) for each in contexts) == 2
    assert np.concatenate(rewards).tolist() == [0.5, 0.25]
