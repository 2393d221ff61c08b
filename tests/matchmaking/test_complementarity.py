import numpy as np
import pytest

from knexa.matchmaking.complementarity import FEATURES, Complementarity
from knexa.matchmaking.large.scorers import linear_pair_scores
from knexa.matchmaking.ledger import Ledger
from knexa.profiles import layout
from knexa.profiles.build import Paper32, Skills, Trust
from tests.matchmaking.matchmaking_worlds import view_of

NUM_FEATURES = len(Skills.feature_names)


def profiles(num_agents: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    profiles_NF = rng.random((num_agents, NUM_FEATURES))
    profiles_NF[:, -12:] = rng.dirichlet(np.full(12, 0.3), num_agents)
    return profiles_NF


def ledger_of(*exchanges: tuple[int, int, float]) -> Ledger:
    ledger = Ledger()
    for exchange in exchanges:
        ledger.record(*exchange)
    return ledger


def features(profiles_NF, ledger: Ledger, teacher: int, student: int) -> dict[str, float]:
    rows_Kd = Complementarity().rows(profiles_NF, ledger, np.array([teacher]), np.array([student]))
    return dict(zip(FEATURES, rows_Kd[0].tolist(), strict=True))


def test_a_worked_example():
    profiles_NF = np.zeros((3, NUM_FEATURES))
    skills_N12 = profiles_NF[:, layout.SKILLS]
    skills_N12[0, :3] = [0.9, 0.2, 0.0]
    skills_N12[1, :3] = [0.3, 0.1, 0.6]
    profiles_NF[0, -12:-9] = [1.0, 0.0, 0.0]
    profiles_NF[1, -12:-9] = [0.25, 0.25, 0.5]
    profiles_NF[:, layout.TRUST] = [0.75, 0.5, 0.5]
    ledger = ledger_of((0, 1, 0.3), (0, 1, 0.1), (1, 2, -0.4))
    assert features(profiles_NF, ledger, 0, 1) == pytest.approx(
        {
            "constant": 1.0,
            "lead": (0.6 + 0.1) / 12,
            "largest_lead": 0.6,
            "wanted_lead": 0.25 * 0.6 + 0.25 * 0.1,
            "lag": 0.6 / 12,
            "distance": 0.75,
            "past_reward": np.tanh(0.2 / np.sqrt((0.3**2 + 0.1**2 + 0.4**2) / 3)),
            "past_count": 2 / 3,
            "trust": 0.75,
        }
    )
    assert features(profiles_NF, ledger, 1, 0) == pytest.approx(
        {
            "constant": 1.0,
            "lead": 0.6 / 12,
            "largest_lead": 0.6,
            "wanted_lead": 0.0,  # the student has no data where the teacher leads
            "lag": (0.6 + 0.1) / 12,
            "distance": 0.75,
            "past_reward": 0.0,  # this direction never met
            "past_count": 0.0,
            "trust": 0.5,
        }
    )


def test_permuting_the_agents_permutes_the_contexts():
    profiles_NF, order = profiles(), np.array([3, 0, 4, 2, 1])
    exchanges = [(0, 1, 0.5), (3, 2, -0.1), (4, 0, 0.2)]
    place = np.argsort(order)
    moved = [(int(place[t]), int(place[s]), reward) for t, s, reward in exchanges]
    contexts_NNd = Complementarity().build(profiles_NF, ledger_of(*exchanges))
    permuted_NNd = Complementarity().build(profiles_NF[order], ledger_of(*moved))
    np.testing.assert_allclose(permuted_NNd, contexts_NNd[np.ix_(order, order)], rtol=1e-14)


def test_features_lie_in_the_documented_ranges():
    ledger = ledger_of((0, 1, 1e3), (2, 1, -1e-3))
    contexts_NNd = Complementarity().build(profiles(), ledger)
    past = FEATURES.index("past_reward")
    assert (np.abs(contexts_NNd) <= 1.0 + 1e-12).all()
    assert (np.delete(contexts_NNd, past, axis=2) >= 0.0).all()
    assert contexts_NNd[2, 1, past] < 0.0 < contexts_NNd[0, 1, past]


def test_the_past_does_not_hinge_on_the_rewards_unit():
    exchanges = [(0, 1, 0.5), (3, 2, -0.1), (4, 0, 0.2)]
    nats = Complementarity().build(profiles(), ledger_of(*exchanges))
    millinats = Complementarity().build(
        profiles(), ledger_of(*((t, s, 1000 * reward) for t, s, reward in exchanges))
    )
    np.testing.assert_allclose(millinats, nats, rtol=1e-12)


def test_rewards_of_zero_are_a_past_without_a_mean():
    seen = features(profiles(), ledger_of((0, 1, 0.0)), 0, 1)
    assert (seen["past_reward"], seen["past_count"]) == (0.0, 0.5)


def test_scores_of_all_pairs_agree_with_the_rows():
    rng = np.random.default_rng(1)
    ledger, theta_d = ledger_of((0, 1, 0.5)), rng.normal(size=9)
    inverse_dd = np.linalg.inv(np.eye(9) + 0.1 * np.ones((9, 9)))
    view = view_of(profiles(), rng, context=Complementarity(), ledger=ledger)
    contexts_NNd = view.contexts()
    np.testing.assert_allclose(view.estimates(theta_d), contexts_NNd @ theta_d, rtol=1e-12)
    known = (view.context, view.profiles_NF, view.ledger)
    scores = linear_pair_scores(*known, theta_d, inverse_dd, 0.5)
    squares_NN = np.einsum("ijd,de,ije->ij", contexts_NNd, inverse_dd, contexts_NNd)
    expected_NN = contexts_NNd @ theta_d + 0.5 * np.sqrt(squares_NN)
    np.testing.assert_allclose(scores.dense(), expected_NN, rtol=1e-12)


def test_only_profiles_with_skills_will_do():
    assert Complementarity().num_features(len(Skills.feature_names)) == len(FEATURES) == 9
    for profile in (Paper32, Trust):
        with pytest.raises(ValueError, match="profile=skills"):
            Complementarity().num_features(len(profile.feature_names))
