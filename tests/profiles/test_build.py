import numpy as np
import pytest

from knexa.agents.state import AgentState
from knexa.backbones.roster import FAMILIES
from knexa.data.problem import CATEGORIES, Problem
from knexa.profiles import layout
from knexa.profiles.build import Paper32, Skills, Trust

PROFILES = [Paper32(), Trust(), Skills()]
SKILLS = tuple(k / 12 for k in range(12))


def problem(category: int, number: int = 0) -> Problem:
    return Problem(
        task_id=f"p/{category}/{number}",
        prompt="def f():\n",
        entry_point="f",
        canonical_solution="    return 1\n",
        test_code="assert candidate() == 1",
        category=category,
        source="p",
    )


TRAIN = (problem(0), problem(0, 1), problem(0, 2), problem(11))
NEWCOMER = AgentState(index=0, adapter={})
VETERAN = NEWCOMER.with_history(
    pass_at_1=(0.25, 0.75),
    codebleu=(0.5, 0.4),
    perplexity=(4.0, 2.0),
    train_loss=1.0,
    teach_yield=0.3,
    learn_rewards=(0.2, -0.1),
    teach_rewards=(0.5,),
    skills=SKILLS,
    sier=0.125,
)


def named(profile, state: AgentState, family: str = "gpt2", train=TRAIN) -> dict[str, float]:
    features_F = profile.build(state, family=family, train=train)
    return dict(zip(profile.feature_names, features_F.tolist(), strict=True))


def test_paper32_holds_the_documented_values():
    features = named(Paper32(), VETERAN)
    dynamic = {name: features[name] for name in layout.DYNAMIC_FEATURES}
    assert dynamic == pytest.approx(
        {
            "pass_at_1": 0.75,
            "codebleu": 0.4,
            "perplexity": 0.5,
            "change_pass_at_1": 0.75,
            "change_codebleu": 0.45,
            "change_perplexity": 0.625,
            "train_loss": 0.5,
            "data_size": 4 / 54,
            "teach_yield": 0.3,
            "learn_gain": 0.5 + np.tanh(0.05) / 2,
            "teach_gain": 0.5 + np.tanh(0.5) / 2,
            "exchanges": 3 / 13,
        }
    )
    assert [features[family] for family in FAMILIES] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert [features[name] for name in CATEGORIES] == [0.75, *[0.0] * 10, 0.25]


def test_paper32_of_a_newcomer_says_what_is_not_known_yet():
    features = named(Paper32(), NEWCOMER)
    half = {"change_pass_at_1", "change_codebleu", "change_perplexity", "learn_gain", "teach_gain"}
    for name in layout.DYNAMIC_FEATURES:
        if name != "data_size":
            assert features[name] == (0.5 if name in half else 0.0), name


def test_only_one_measurement_so_far_is_no_change():
    features = named(Paper32(), NEWCOMER.with_history(pass_at_1=(0.4,)))
    assert (features["pass_at_1"], features["change_pass_at_1"]) == (0.4, 0.5)


@pytest.mark.parametrize(("profile", "size"), list(zip(PROFILES, (32, 34, 46), strict=True)))
def test_every_feature_has_a_name_of_its_own_and_lies_in_the_unit_interval(profile, size):
    for state in (NEWCOMER, VETERAN):
        features_F = profile.build(state, family="bloom", train=TRAIN)
        assert features_F.shape == (size,) == (len(set(profile.feature_names)),)
        assert ((features_F >= 0.0) & (features_F <= 1.0)).all()


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_longer_profiles_are_paper32_with_features_before_the_histogram(profile):
    short_F = Paper32().build(VETERAN, family="phi", train=TRAIN)
    long_F = profile.build(VETERAN, family="phi", train=TRAIN)
    np.testing.assert_array_equal(long_F[: 32 - 12], short_F[:-12])
    np.testing.assert_array_equal(long_F[-12:], short_F[-12:])
    assert profile.feature_names[layout.PASS_AT_1] == "pass_at_1"
    assert profile.feature_names[layout.CODEBLEU] == "codebleu"
    assert profile.feature_names[layout.PERPLEXITY] == "perplexity"


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_the_agent_leaves_its_trust_to_the_cpm(profile):
    assert profile.feature_names[profile.trust_column] == "trust"
    assert profile.build(VETERAN, family="phi", train=TRAIN)[profile.trust_column] == 0.5


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_sier_is_that_of_the_last_package_and_0_before_the_first(profile):
    assert named(profile, VETERAN)["sier"] == 0.125
    assert named(profile, NEWCOMER)["sier"] == 0.0


def test_skills_are_the_measured_pass_rates_in_the_order_of_the_categories():
    features_F = Skills().build(VETERAN, family="phi", train=TRAIN)
    np.testing.assert_array_equal(features_F[layout.SKILLS], SKILLS)
    names = Skills.feature_names[layout.SKILLS]
    assert names == tuple(f"skill_{category}" for category in CATEGORIES)
    assert Skills.measures_skills
    assert not Trust.measures_skills
    assert not Paper32.measures_skills


def test_skills_are_zero_before_the_first_measurement():
    features_F = Skills().build(NEWCOMER, family="phi", train=TRAIN)
    assert (features_F[layout.SKILLS] == 0.0).all()


def test_an_agent_without_problems_has_an_empty_histogram():
    features_F = Paper32().build(NEWCOMER, family="phi", train=())
    assert (features_F[-12:] == 0.0).all()
