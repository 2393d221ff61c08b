import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knexa.data.partition import (
    IID,
    AgentData,
    Conventions,
    Dirichlet,
    Experts,
    Sizes,
    Split,
    validation_counts,
)
from knexa.data.problem import Problem
from knexa.data.skew import measure_skew
from knexa.errors import UserError
from knexa.seeding import derive_rng


def make_problems(categories: Sequence[int]) -> list[Problem]:
    return [
        Problem(
            task_id=f"p/{index}",
            prompt=f"def f{index}():\n",
            entry_point=f"f{index}",
            canonical_solution="    return 1\n",
            test_code=f"assert candidate() == {index}\n",
            category=category,
            source="test",
        )
        for index, category in enumerate(categories)
    ]


POOL = make_problems([index % 12 for index in range(348)])


def ids(agent: AgentData) -> list[str]:
    return [problem.task_id for problem in agent.train + agent.validation]


def assert_dealt_once(splits: Sequence[AgentData], problems: Sequence[Problem]) -> None:
    dealt = Counter(task_id for agent in splits for task_id in ids(agent))
    assert dealt == Counter(problem.task_id for problem in problems)


pools = st.lists(st.integers(0, 11), min_size=40, max_size=200).map(make_problems)


@settings(deadline=None, max_examples=40)
@given(
    problems=pools,
    num_agents=st.integers(1, 10),
    alpha=st.floats(1e-4, 1e4),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_with_fill_deals_every_problem_once_and_leaves_nobody_short(
    problems: list[Problem], num_agents: int, alpha: float, seed: int
) -> None:
    partition = Dirichlet(alpha=alpha, on_short="fill", min_train=3, min_validation=1)
    splits = partition.split(problems, num_agents, np.random.default_rng(seed))
    assert len(splits) == num_agents
    assert_dealt_once(splits, problems)
    assert all(len(agent.train) >= 3 and len(agent.validation) >= 1 for agent in splits)


@settings(deadline=None, max_examples=40)
@given(problems=pools, num_agents=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_iid_parts_differ_by_at_most_one_problem(
    problems: list[Problem], num_agents: int, seed: int
) -> None:
    splits = IID().split(problems, num_agents, np.random.default_rng(seed))
    assert_dealt_once(splits, problems)
    totals = [len(ids(agent)) for agent in splits]
    assert max(totals) - min(totals) <= 1
    assert all(agent.train and agent.validation for agent in splits)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 9)), min_size=1, max_size=8),
    alpha=st.floats(1e-4, 1e4),
    seed=st.integers(0, 2**32),
)
def test_sizes_meets_every_count_exactly(
    sizes: list[tuple[int, int]], alpha: float, seed: int
) -> None:
    train, validation = (tuple(column) for column in zip(*sizes, strict=True))
    problems = make_problems([(index * 7) % 12 for index in range(sum(train) + sum(validation))])
    splits = Sizes(train=train, validation=validation, alpha=alpha).split(
        problems, len(sizes), np.random.default_rng(seed)
    )
    assert_dealt_once(splits, problems)
    assert tuple(len(agent.train) for agent in splits) == train
    assert tuple(len(agent.validation) for agent in splits) == validation


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(2, 200), min_size=1, max_size=30),
    fraction=st.floats(0.01, 0.99),
)
def test_validation_counts_leave_something_to_train_on(sizes: list[int], fraction: float) -> None:
    counts = validation_counts(sizes, fraction)
    assert all(1 <= count <= size - 1 for count, size in zip(counts, sizes, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_published_pool_gives_276_train_and_72_validation(seed: int) -> None:
    splits = Dirichlet(alpha=0.1).split(POOL, 6, np.random.default_rng(seed))
    skew = measure_skew(splits)
    assert sum(skew.train_sizes) + sum(skew.validation_sizes) == 348
    # The floors of 16 and 4 may move a problem or two from training to validation.
    assert abs(sum(skew.validation_sizes) - 72) <= 2
    assert min(skew.train_sizes) >= 16
    assert min(skew.validation_sizes) >= 4
    assert skew.num_draws == splits.num_draws >= 1


@pytest.mark.parametrize("partition", [Dirichlet(), IID(), Sizes()])
def test_same_generator_state_gives_the_same_split(partition: Dirichlet | IID | Sizes) -> None:
    first = partition.split(POOL, 6, np.random.default_rng(3))
    assert first == partition.split(POOL, 6, np.random.default_rng(3))
    assert first != partition.split(POOL, 6, np.random.default_rng(4))


@pytest.mark.parametrize("make", [lambda a: Dirichlet(alpha=a), lambda a: Sizes(alpha=a)])
def test_skew_falls_as_alpha_rises(make: type) -> None:
    def mean_js(alpha: float) -> float:
        draws = [make(alpha).split(POOL, 6, np.random.default_rng(seed)) for seed in range(8)]
        return float(np.mean([measure_skew(splits).mean_js for splits in draws]))

    low, middle, high = mean_js(0.1), mean_js(1.0), mean_js(10.0)
    assert low > middle > high
    assert low > 0.3
    assert high < 0.15


def test_label_skew_is_per_category_not_per_sample() -> None:
    """At a tiny alpha a category has one owner; an argmax per sample would scatter it."""
    splits = Dirichlet(alpha=1e-3, on_short="fill", min_train=1, min_validation=1).split(
        POOL, 3, np.random.default_rng(0)
    )
    for category in range(12):
        held = [sum(p.category == category for p in a.train + a.validation) for a in splits]
        assert max(held) >= 27


def test_one_agent_gets_everything() -> None:
    for partition in (Dirichlet(), IID()):
        (only,) = partition.split(POOL, 1, np.random.default_rng(0))
        assert (len(only.train), len(only.validation)) == (276, 72)


def test_one_hundred_seventy_agents_work_with_fill() -> None:
    partition = Dirichlet(min_train=1, min_validation=1, on_short="fill")
    splits = partition.split(POOL, 170, np.random.default_rng(0))
    assert_dealt_once(splits, POOL)
    assert all(agent.train and agent.validation for agent in splits)


@pytest.mark.parametrize(
    ("partition", "num_agents", "words"),
    [
        (Dirichlet(), 18, "at most 17 agents; lower partition.min_train"),
        (IID(), 175, "at most 174 agents; use fewer agents"),
        (Dirichlet(alpha=1e-3, on_short="error"), 12, "partition.alpha=0.001"),
        (Dirichlet(alpha=1e-3, on_short="error"), 12, "raise partition.alpha"),
        (Dirichlet(alpha=1e3, on_short="error"), 17, "use partition=iid"),
        (Dirichlet(alpha=1e-3, on_short="error"), 12, "partition.on_short=fill"),
        (Sizes(), 5, "sizes for 6 agents but the roster has 5"),
        (Sizes(train=(10, 10), validation=(2, 2)), 2, "sum to 24 but the pool has 348"),
    ],
)
def test_impossible_splits_are_one_line_that_names_the_key(
    partition: Dirichlet | IID | Sizes, num_agents: int, words: str
) -> None:
    with pytest.raises(UserError) as error:
        partition.split(POOL, num_agents, np.random.default_rng(0))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# Number of agents, alpha and seed: draws until nobody was short, and a digest of the split.
DRAWN = {
    (6, 0.1, 0): (3, "286ad4e2f782"),
    (6, 0.1, 1): (1, "1cfdeb8a09a5"),
    (6, 0.1, 7): (1, "d6a9e0fdd6ae"),
    (6, 1.0, 2): (1, "67a2d7ffd90e"),
    (12, 0.1, 0): (552, "3d546342cb9a"),
    (12, 0.1, 6): (198, "b582afb8ff96"),
    (16, 10.0, 1): (153, "028184073962"),
}


@pytest.mark.parametrize("setting", DRAWN, ids=str)
def test_draws_in_which_nobody_is_short_stay_as_they_are(setting: tuple[int, float, int]) -> None:
    num_agents, alpha, seed = setting
    splits = Dirichlet(alpha=alpha).split(POOL, num_agents, derive_rng(seed, "partition"))
    ids = [[p.task_id for p in a.train] + ["|"] + [p.task_id for p in a.validation] for a in splits]
    digest = hashlib.sha256(repr(ids).encode()).hexdigest()[:12]
    assert (splits.num_draws, digest) == DRAWN[setting]


@settings(deadline=None, max_examples=60)
@given(
    num_agents=st.integers(1, 40),
    spare=st.integers(0, 100),
    alpha=st.floats(1e-4, 1e4),
    floors=st.tuples(st.integers(1, 16), st.integers(1, 4)),
    max_draws=st.integers(1, 5),
    num_categories=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
def test_dirichlet_deals_wherever_there_are_enough_problems(
    num_agents: int,
    spare: int,
    alpha: float,
    floors: tuple[int, int],
    max_draws: int,
    num_categories: int,
    seed: int,
) -> None:
    """Without a problem to spare, too: then all agents end with the floors."""
    number = num_agents * sum(floors) + spare
    problems = make_problems([index % num_categories for index in range(number)])
    partition = Dirichlet(
        alpha=alpha, min_train=floors[0], min_validation=floors[1], max_draws=max_draws
    )
    splits = partition.split(problems, num_agents, np.random.default_rng(seed))
    assert_dealt_once(splits, problems)
    assert all(len(a.train) >= floors[0] and len(a.validation) >= floors[1] for a in splits)
    with pytest.raises(UserError, match="at most"):
        partition.check(num_agents * sum(floors) - 1, num_agents)


def test_what_no_draw_gives_is_filled_with_a_few_moves_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    partition = Dirichlet(max_draws=100)
    splits = partition.split(POOL, 12, derive_rng(1, "partition"))
    assert min(len(agent.train) + len(agent.validation) for agent in splits) == 20
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert int(record.getMessage().split("moved ")[1].split()[0]) <= 20
    assert "100 draws" in record.getMessage()
    assert measure_skew(splits).mean_js > 0.7  # as in draws that need no filling


def test_sizes_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="give one of each per agent"):
        Sizes(train=(3, 4), validation=(1,))


def test_a_problem_dealt_twice_is_caught() -> None:
    agent = AgentData(train=(POOL[0],), validation=())
    with pytest.raises(AssertionError, match="dealt out twice"):
        Split([agent, agent])


# Experts


def shares_of(splits: Sequence[AgentData]) -> np.ndarray:
    """Return shares_NC: which part of each category's problems each agent holds."""
    counts_NC = np.zeros((len(splits), 12))
    for agent, data in enumerate(splits):
        for problem in data.train + data.validation:
            counts_NC[agent, problem.category] += 1
    return counts_NC / counts_NC.sum(axis=0)


@settings(deadline=None, max_examples=40)
@given(
    problems=pools,
    num_agents=st.integers(3, 9),
    num_experts=st.integers(1, 2),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 2**32),
)
def test_experts_and_others_are_dealt_every_problem_once_and_nobody_is_short(
    problems: list[Problem], num_agents: int, num_experts: int, share: float, seed: int
) -> None:
    partition = Experts(num_experts=num_experts, share=share, min_train=3, min_validation=1)
    splits = partition.split(problems, num_agents, np.random.default_rng(seed))
    assert_dealt_once(splits, problems)
    assert all(len(agent.train) >= 3 and len(agent.validation) >= 1 for agent in splits)


@pytest.mark.parametrize(("num_agents", "num_experts"), [(6, 1), (12, 1), (24, 1), (24, 3)])
def test_experts_hold_their_share_of_a_category_however_many_agents_there_are(
    num_agents: int, num_experts: int
) -> None:
    pool = make_problems([index % 12 for index in range(58 * num_agents)])
    partition = Experts(num_experts=num_experts)
    for seed in range(3):
        splits = partition.split(pool, num_agents, np.random.default_rng(seed))
        shares_NC = np.sort(shares_of(splits), axis=0)[::-1]
        np.testing.assert_allclose(shares_NC[:num_experts].sum(axis=0), 0.8, atol=0.02)
        assert (shares_NC[num_experts] < 0.8 / num_experts / 2).all()
        expert_NC = shares_of(splits) > 0.8 / num_experts / 2
        topics_N = expert_NC.sum(axis=1)
        assert topics_N.max() - topics_N.min() <= 1
        assert min(len(data.train) + len(data.validation) for data in splits) >= 20


def test_experts_are_others_at_another_seed_and_the_same_at_the_same() -> None:
    def split(seed: int) -> np.ndarray:
        return shares_of(Experts().split(POOL, 6, derive_rng(seed, "partition")))

    np.testing.assert_array_equal(split(1), split(1))
    assert (split(1).argmax(axis=0) != split(2).argmax(axis=0)).any()


def test_as_many_experts_as_agents_are_refused() -> None:
    with pytest.raises(UserError, match=r"partition.num_experts=6 of 6 agents.*at most 5"):
        Experts(num_experts=6).check(348, 6)
    with pytest.raises(UserError, match="at most 17 agents"):
        Experts().check(348, 18)


# Conventions


def test_groups_are_halves_that_get_dirichlets_problems_as_they_mean_them() -> None:
    def meant(problem: Problem, group: int) -> Problem:
        return replace(problem, test_code=f"assert candidate() == {-group}\n")

    pool = [replace(p, conventions=(meant(p, 0), meant(p, 1))) for p in POOL]
    splits = Conventions().split(pool, 6, derive_rng(3, "partition"))
    plain = Dirichlet().split(POOL, 6, derive_rng(3, "partition"))
    assert [ids(agent) for agent in splits] == [ids(agent) for agent in plain]
    assert sorted(agent.group for agent in splits) == [0, 0, 0, 1, 1, 1]
    for agent in splits:
        answers = {problem.test_code for problem in agent.train + agent.validation}
        assert answers == {f"assert candidate() == {-agent.group}\n"}
    others = Conventions().split(pool, 6, derive_rng(4, "partition"))
    assert [agent.group for agent in others] != [agent.group for agent in splits]
