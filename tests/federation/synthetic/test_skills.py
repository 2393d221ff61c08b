import numpy as np
import pytest

from knexa.data.divergence import jensen_shannon
from knexa.matchmaking.oracle import Oracle
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.random import Random
from tests.federation.carrying_out import carry_out
from tests.federation.synthetic.formula_runs import cumulative_regret, skill_world


def plan(*pairs):
    return tuple(
        Directive(id=f"r1-{k}", teachers=(j,), students=(i,), protocol="formula")
        for k, (j, i) in enumerate(pairs)
    )


def test_methods_meet_the_same_agents_and_the_same_noise():
    first, second = skill_world(3), skill_world(3)
    first.begin_round(1)
    second.begin_round(1)
    np.testing.assert_array_equal(first.profiles(), second.profiles())
    alone = carry_out(first, 1, plan((2, 5)))
    among_others = carry_out(second, 1, plan((0, 1), (2, 5), (3, 4)))
    assert alone[0].reward == among_others[1].reward
    assert skill_world(4).skills_NC.tolist() != skill_world(3).skills_NC.tolist()


def test_an_observed_reward_is_the_true_mean_plus_noise_of_the_stated_size():
    world = skill_world(noise=0.05)
    residuals = []
    for number in range(1, 401):
        world.round = number
        means_NN = world.probe(number).rewards
        skills = world.skills_NC.copy()
        (exchange,) = carry_out(world, number, plan((1, 2)))
        world.skills_NC = skills
        residuals.append(exchange.reward - means_NN[1, 2])
    assert np.mean(residuals) == pytest.approx(0.0, abs=0.01)
    assert np.std(residuals) == pytest.approx(0.05, rel=0.15)


def test_without_noise_a_reward_is_what_the_students_own_error_falls_by():
    world = skill_world(noise=0.0)
    world.begin_round(1)
    expected = world.probe(1).rewards[4, 0]
    before = 1 - (world.weights_NC[0] * world.skills_NC[0]).sum()
    (exchange,) = carry_out(world, 1, plan((4, 0)))
    after = 1 - (world.weights_NC[0] * world.skills_NC[0]).sum()
    assert exchange.reward == pytest.approx(expected)
    assert exchange.reward == pytest.approx(before - after - 1e-4 * exchange.kilobytes)


def test_an_exchange_helps_where_the_teacher_is_better_and_costs_where_it_is_worse():
    world = skill_world(harm=0.3)
    world.begin_round(1)
    before_C, teacher_C = world.skills_NC[1].copy(), world.skills_NC[0].copy()
    carry_out(world, 1, plan((0, 1)))
    change_C = world.skills_NC[1] - before_C
    better_C = teacher_C > before_C
    assert better_C.any()
    assert not better_C.all()
    assert (change_C[better_C] > 0).all()
    assert (change_C[~better_C] <= 0).all()
    assert (np.abs(change_C) <= np.abs(teacher_C - before_C)).all()
    np.testing.assert_array_equal(world.skills_NC[0], teacher_C)  # to teach costs nothing


def test_exchanges_shrink_with_misfit_and_bandwidth_and_grow_with_reliability():
    def gain(**traits):
        world = skill_world(harm=0.0)
        world.fit_FF[:], world.bandwidths_N[:], world.reliability_N[:] = 1.0, 1.0, 1.0
        for name, value in traits.items():
            getattr(world, name)[:] = value
        return (world.skills_after(np.array([0]), np.array([1])) - world.skills_NC[1]).sum()

    assert gain(fit_FF=0.5) == pytest.approx(gain() / 2)
    assert gain(bandwidths_N=0.5) == pytest.approx(gain() / 2)
    assert gain(reliability_N=0.5) == pytest.approx(gain() / 2)


def test_heterogeneity_orders_how_far_apart_the_agents_data_are():
    def divergence(level):
        return np.mean(
            [
                jensen_shannon(
                    skill_world(seed, heterogeneity=level, num_agents=32).shares_NC
                ).mean()
                for seed in range(5)
            ]
        )

    assert divergence("low") < divergence("medium") < divergence("high")


def test_the_oracle_has_no_regret_and_random_has():
    assert np.abs(cumulative_regret(skill_world(7), Oracle(), 20)).max() == 0.0
    assert cumulative_regret(skill_world(7), Random(), 20)[-1] > 0.0


def test_saved_agents_go_on_as_if_never_stopped(tmp_path):
    whole = skill_world(5)
    for number in (1, 2):
        whole.begin_round(number)
        carry_out(whole, number, plan((0, 1), (2, 3)))
    whole.save(tmp_path)
    resumed = skill_world(5)
    resumed.load(tmp_path)
    for world in (whole, resumed):
        world.begin_round(3)
    np.testing.assert_array_equal(whole.profiles(), resumed.profiles())
    np.testing.assert_array_equal(whole.probe(3).rewards, resumed.probe(3).rewards)
