"""Profiles with noise: the accountant against closed forms, the noise itself, and k-anonymity."""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from knexa.agents.accounting import calibrated_noise, epsilon_spent
from knexa.backbones.roster import FAMILIES
from knexa.errors import UserError
from knexa.profiles.layout import FEATURE_NAMES, NUM_DATA, SKILLS_FEATURE_NAMES, TRUST
from knexa.profiles.privacy import Gaussian, NoPrivacy, shown_families

DELTA = 1e-5
TINY6 = ("qwen2", "gpt2", "bloom", "gpt_neox", "qwen2", "gpt2")


def mechanism(names=FEATURE_NAMES, seed=3, num_rounds=8, families=TINY6, **settings):
    return Gaussian(**settings).mechanism(
        families=families, feature_names=names, seed=seed, num_rounds=num_rounds
    )


def profiles(names=FEATURE_NAMES, families=TINY6):
    """Plausible profiles: a family, numbers in [0, 1], a histogram."""
    rng = np.random.default_rng(1)
    profiles_NF = rng.random((len(families), len(names)))
    for row, family in zip(profiles_NF, families, strict=True):
        row[: len(FAMILIES)] = [float(name == family) for name in FAMILIES]
    profiles_NF[:, -NUM_DATA:] /= profiles_NF[:, -NUM_DATA:].sum(axis=1, keepdims=True)
    return profiles_NF


def analytic_epsilon(noise_multiplier, delta):
    """The exact epsilon of one Gaussian release (Balle and Wang 2018, Theorem 8)."""
    z = noise_multiplier

    def excess(epsilon):
        a, b = 1 / (2 * z) - epsilon * z, -1 / (2 * z) - epsilon * z
        return norm.cdf(a) - math.exp(epsilon + norm.logcdf(b)) - delta

    return brentq(excess, 0.0, 1000.0)


def zcdp_epsilon(noise_multiplier, num_releases, delta):
    """The epsilon of rho = T / (2 z^2) zCDP (Bun and Steinke 2016, Proposition 1.3)."""
    rho = num_releases / (2 * noise_multiplier**2)
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("num_releases", [1, 8, 100])
def test_spent_lies_between_the_exact_cost_and_the_zcdp_bound(epsilon, num_releases):
    z = calibrated_noise(epsilon=epsilon, delta=DELTA, num_releases=num_releases)
    spent = epsilon_spent(noise_multiplier=z, delta=DELTA, num_releases=num_releases)
    assert 0.99 * epsilon < spent <= epsilon
    # Releases of one vector with the same noise are one release with 1 / sqrt(T) of the noise.
    exact = analytic_epsilon(z / math.sqrt(num_releases), DELTA)
    # 5 %: the orders are a grid.
    assert exact <= spent <= 1.05 * zcdp_epsilon(z, num_releases, DELTA)


def test_composition_over_rounds_grows_and_ends_at_the_budget():
    of = mechanism(epsilon=4.0)
    costs = [of.spent(rounds).epsilon for rounds in range(9)]
    assert costs[0] == 0.0
    assert all(before < after for before, after in pairwise(costs))
    assert costs[-1] == pytest.approx(4.0, rel=2e-3)
    assert costs[-1] <= 4.0


def test_sampling_a_share_of_the_records_costs_less():
    whole = epsilon_spent(noise_multiplier=1.0, delta=DELTA, num_releases=10)
    part = epsilon_spent(noise_multiplier=1.0, delta=DELTA, num_releases=10, sample_rate=0.2)
    assert part < whole / 3


def test_the_noise_has_the_promised_sigma_and_no_bias():
    of = mechanism(clip=0.5)
    profile_F = profiles()[0]
    noisy_RK = np.array([of.noisy(profile_F, 0, number) for number in range(2000)])
    silent_K = noisy_RK.mean(axis=0)
    assert of.sigma == pytest.approx(2 * 0.5 * of.noise_multiplier)
    deviations_K = noisy_RK.std(axis=0, ddof=1)
    # 5 standard errors of each of the K estimates.
    assert np.abs(deviations_K / of.sigma - 1).max() < 5 / math.sqrt(2 * 2000)
    neutral_K = np.array([0.5] * (len(silent_K) - NUM_DATA) + [1 / NUM_DATA] * NUM_DATA)
    clipped = np.linalg.norm(silent_K - neutral_K)
    assert clipped <= 0.5 + 5 * of.sigma * math.sqrt(len(silent_K) / 2000)


@pytest.mark.parametrize("clip", [0.1, 1.0, 10.0])
def test_no_two_profiles_are_further_apart_than_the_sensitivity(clip):
    of = mechanism(clip=clip, epsilon=1e6, num_rounds=1)
    extreme_F, other_F = np.ones(len(FEATURE_NAMES)), np.zeros(len(FEATURE_NAMES))
    extreme_F[3:20], other_F[3:20] = 1e9, -1e9  # whoever lies about a number is clipped too
    # The same (round, agent) draws the same noise, which cancels.
    difference_K = of.noisy(extreme_F, 0, 1) - of.noisy(other_F, 0, 1)
    assert np.linalg.norm(difference_K) <= 2 * clip * (1 + 1e-9)
    assert np.linalg.norm(difference_K) == pytest.approx(2 * clip, rel=0.05)


def test_noise_differs_between_agents_and_rounds_and_not_between_repeats():
    profiles_NF = profiles()
    first = mechanism().release(profiles_NF, 1)
    assert np.array_equal(first, mechanism().release(profiles_NF, 1))  # a resumed run
    assert not np.array_equal(first, mechanism().release(profiles_NF, 2))
    assert not np.array_equal(first, mechanism(seed=4).release(profiles_NF, 1))
    same_NF = np.repeat(profiles_NF[:1], 6, axis=0)
    noisy = {mechanism().noisy(same_NF[i], i, 1).tobytes() for i in range(6)}
    assert len(noisy) == 6


@pytest.mark.parametrize("names", [FEATURE_NAMES, SKILLS_FEATURE_NAMES])
def test_what_is_released_keeps_the_ranges_of_a_profile(names):
    before = profiles(names)
    released_NF = mechanism(names, epsilon=1.0).release(before, 1)
    assert released_NF.shape == before.shape
    assert released_NF.min() >= 0.0
    assert released_NF.max() <= 1.0
    assert np.allclose(released_NF[:, -NUM_DATA:].sum(axis=1), 1.0)
    if "trust" in names:
        assert np.array_equal(released_NF[:, TRUST], before[:, TRUST])  # the CPM's own


def test_a_generous_budget_leaves_the_profile_as_it_is():
    before = profiles()
    released_NF = mechanism(epsilon=1e6, clip=10.0, min_family=1).release(before, 1)
    assert np.abs(released_NF - before).max() < 0.25


def test_without_privacy_nothing_changes_and_nothing_is_promised():
    of = NoPrivacy().mechanism(families=TINY6, feature_names=FEATURE_NAMES, seed=3, num_rounds=8)
    profiles_NF = profiles()
    assert of.release(profiles_NF, 1) is profiles_NF
    assert of.spent(8) is None


def test_rare_families_hide_together():
    shown = shown_families(enumerate(TINY6), 2)
    assert [shown[i] for i in range(6)] == ["qwen2", "gpt2", "other", "other", "qwen2", "gpt2"]
    released_NF = mechanism().release(profiles(), 1)
    static_N8 = released_NF[:, : len(FAMILIES)]
    assert np.array_equal(static_N8[2], static_N8[3])
    assert static_N8[2, FAMILIES.index("other")] == 1.0
    assert min(np.bincount(static_N8.argmax(axis=1))[static_N8.argmax(axis=1)]) >= 2


def test_everybody_is_other_where_no_family_is_common_enough():
    assert set(shown_families(enumerate(TINY6), 3).values()) == {"other"}


@pytest.mark.parametrize("num_rounds", [1, 50])
def test_one_agent_over_many_rounds_is_still_one_agent(num_rounds):
    members = [(0, "qwen2"), (1, "qwen2"), (2, "bloom")] * num_rounds
    with pytest.raises(UserError, match=r"bloom can be hidden among 1 of 3 distinct") as caught:
        shown_families(members, 2)
    assert "\n" not in str(caught.value)


def test_true_others_count_beside_those_who_hide():
    members = [(0, "qwen2"), (1, "qwen2"), (2, "bloom"), (3, "other")]
    assert shown_families(members, 2)[2] == "other"


def test_a_budget_that_no_noise_meets_is_refused_in_one_line():
    with pytest.raises(UserError, match="raise epsilon") as caught:
        mechanism(epsilon=1e-9, num_rounds=10_000)
    assert "\n" not in str(caught.value)


def test_a_missing_library_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(UserError, match=r"knexa\[privacy\]"):
        calibrated_noise(epsilon=1.23, delta=DELTA, num_releases=3)
