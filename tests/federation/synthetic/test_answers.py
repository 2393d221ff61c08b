"""``federation=synthetic/answers``: agents that answer a transfer set, as formulas."""

import json
from pathlib import Path

import numpy as np
import pytest

from knexa.cli.commands import run_command_line
from knexa.cli.exit_codes import EXIT_USER_ERROR
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.random import Random
from knexa.matchmaking.selections import Broadcast, OneToMany, Routed
from knexa.matchmaking.self_taught import SelfTaught
from knexa.statistics import paired_difference
from tests.federation.carrying_out import carry_out
from tests.federation.synthetic.formula_runs import answer_world, answers_cpm, pass_at_1_after

FEDERATION = "federation=synthetic/answers"


def directive(teacher: int, student: int, topic: int | None = None, number: int = 0) -> Directive:
    return Directive(
        id=f"r1-{number}",
        teachers=(teacher,),
        students=(student,),
        protocol="formula",
        topics=None if topic is None else (topic,),
    )


def lived(**settings):
    """A world in its third round, in which agents keep some answers."""
    world = answer_world(**settings)
    for number in (1, 2):
        world.begin_round(number)
        carry_out(world, number, (directive(0, 1), directive(1, 2, 3, number=1)))
    world.begin_round(3)
    return world


def test_every_arm_earns_what_its_probe_says():
    for by_topic in (False, True):
        rewards = lived().probe(3, by_topic=by_topic).rewards
        for arm in [(0, 1), (2, 5), (5, 0)] if not by_topic else [(0, 1, 0), (3, 2, 3), (4, 1, 11)]:
            (exchange,) = carry_out(lived(), 3, (directive(*arm),))
            assert exchange.reward == pytest.approx(rewards[arm])
        assert np.isnan(rewards[2, 2]).all()
        assert (rewards[0, 1] < rewards[0, 2]).any()  # 1 has learned from 0


def test_answers_are_the_same_for_every_method_and_whoever_asks():
    first, second = lived(), lived()
    alone = carry_out(first, 3, (directive(2, 4),))[0]
    others = (directive(0, 3), directive(2, 4, number=1), directive(2, 5, number=2))
    among_others = carry_out(second, 3, others)
    assert alone.answers == among_others[1].answers
    assert [a.right for a in alone.answers] == [a.right for a in among_others[2].answers]


def test_a_teacher_is_right_as_often_as_its_skill():
    world = answer_world(persistence=0.0, practice=1.0, topic_sizes=(40,) * 12)
    world.begin_round(1)
    rates = []
    for number in range(1, 200):
        world.round = number
        rates.append(world.right_answers().reshape(6, 12, 40).mean(axis=2))
    np.testing.assert_allclose(np.mean(rates, axis=0), world.skills_NC, atol=0.03)


def test_what_depends_on_difficulty_alone_is_as_right_in_every_round_and_nested_by_skill():
    world = answer_world(persistence=1.0, practice=1.0)
    world.begin_round(1)
    first = world.right_answers()
    world.begin_round(2)
    assert (world.right_answers() >= first).all()  # skills only grow
    place, skills = slice(0, 11), world.skills_NC[:, 0]
    best, worst = skills.argmax(), skills.argmin()
    assert (first[best, place] >= first[worst, place]).all()


def test_a_problem_counts_as_new_for_the_first_directive_that_brings_it_and_is_kept():
    world = lived()
    plan = (directive(0, 3), directive(0, 3, number=1))
    first, second = carry_out(world, 3, plan)
    assert sum(each.new for each in first.answers) == sum(each.right for each in first.answers) > 0
    assert [each.new for each in second.answers] == [0] * 12
    assert world.kept_NP[3].sum() == sum(each.new for each in first.answers)


def test_skill_saturates_in_the_right_answers_learned_from():
    world = answer_world(practice=1.0, learning=1.0, ceiling=0.8, half=10.0)
    world.begin_round(1)
    carry_out(world, 1, (directive(0, 1),))
    for category, place in ((0, slice(0, 11)), (11, slice(118, 128))):
        learned = world.own_NC[1, category] + world.kept_NP[1, place].sum()
        assert world.skills_NC[1, category] == pytest.approx(0.8 * learned / (learned + 10.0))
    carry_out(world, 1, tuple(directive(0, 1, number=k) for k in range(3)))
    assert (world.skills_NC < 0.8).all()


@pytest.mark.parametrize("experts", [None, 2])
def test_few_experts_own_nine_tenths_of_a_category(experts):
    own_NC = answer_world(num_agents=24, alpha=10.0, experts=experts).own_NC
    assert own_NC.sum() == pytest.approx(24 * 58.0)
    largest_C = np.sort(own_NC, axis=0)[-2:].sum(axis=0) / own_NC.sum(axis=0)
    if experts is None:
        assert largest_C.max() < 0.5
    else:
        np.testing.assert_allclose(largest_C, 0.9 + 0.1 * 2 / 24, rtol=1e-6)


def test_who_teaches_itself_sends_nothing_and_everybody_teaches_all_in_a_broadcast():
    alone, pool, pairs = answer_world(), answer_world(), answer_world()
    alone_score = pass_at_1_after(alone, SelfTaught(), Exact())
    pool_score = pass_at_1_after(pool, Random(), Broadcast())
    pairs_score = pass_at_1_after(pairs, Random(), Exact())
    assert alone_score < pairs_score < pool_score
    alone.begin_round(6)
    (own,) = carry_out(alone, 6, (directive(2, 2),))
    (sent,) = carry_out(pool, 6, (directive(1, 2),))
    assert (own.kilobytes, sent.kilobytes) == (0.0, pytest.approx(12.8))


def test_a_reloaded_world_goes_on_bit_for_bit(tmp_path):
    world, other = lived(), answer_world()
    world.save(tmp_path)
    other.load(tmp_path)
    for each in (world, other):
        each.begin_round(4)
        carry_out(each, 4, (directive(3, 4),))
    np.testing.assert_array_equal(world.skills_NC, other.skills_NC)
    np.testing.assert_array_equal(world.kept_NP, other.kept_NP)
    np.testing.assert_array_equal(world.profiles(), other.profiles())


LLM = {"routed linucb": 23.7, "routed random": 18.3, "random pairs": 15.2}
"""Pass@1 in percent of language models: means of four seeds of the tiny world, five rounds."""


def test_formulas_and_language_models_agree_in_who_gains():
    seeds = range(10)
    found = {
        "routed linucb": (lambda: LinUCB(regularization=0.1, exploration=0.3), Routed()),
        "routed random": (Random, Routed()),
        "random pairs": (Random, Exact()),
    }
    scores = {
        name: [pass_at_1_after(answer_world(seed), policy(), matching) for seed in seeds]
        for name, (policy, matching) in found.items()
    }
    for better, worse in (("routed linucb", "routed random"), ("routed random", "random pairs")):
        interval = paired_difference(scores[better], scores[worse])
        assert np.sign(interval.low) == np.sign(interval.high) == np.sign(LLM[better] - LLM[worse])
    assert {name: np.mean(values) for name, values in scores.items()} == pytest.approx(LLM, abs=3.0)


@pytest.mark.parametrize("matching", [Exact(), OneToMany(), Routed(), Routed(budget=50)])
def test_routed_feedback_makes_a_learner_of_every_shape(matching):
    world = answer_world()
    cpm = answers_cpm(world, LinUCB(regularization=0.1), matching)
    world.begin_round(1)
    plan = cpm.propose(1, world.profiles(), np.random.default_rng(0))
    exchanges = carry_out(world, 1, plan)
    asked_N = np.zeros(6)
    for exchange in exchanges:
        asked_N[exchange.directive.students] += exchange.items_sent
        assert exchange.kilobytes == pytest.approx(0.1 * exchange.items_sent)
    if matching == Routed(budget=50):
        assert 40 < asked_N.min() <= asked_N.max() <= 50  # another topic would not fit
    else:
        assert asked_N.max() == 128


# As a user types it


@pytest.fixture
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_every_method_runs_with_exact_regret_in_every_round():
    methods = "linucb,thompson,random,round_robin,heuristic,oracle"
    budget = "matching.budget=64"
    command = ["-m", FEDERATION, "logger=none", budget, f"matchmaker={methods}"]
    assert run_command_line(command) == 0
    runs = {done.parent.name.split("-")[0]: done.parent for done in Path("outputs").rglob("DONE")}
    assert set(runs) == set(methods.split(","))
    for name, run in runs.items():
        exchanges, regret = rows(run, "exchanges"), rows(run, "regret")
        assert [row["round"] for row in regret] == [1, 2, 3, 4, 5]
        for row in regret:
            earned = sum(e["reward_raw"] for e in exchanges if e["round"] == row["round"])
            assert earned == pytest.approx(row["chosen"])
            assert row["chosen"] <= row["best"] + 1e-9
            assert name != "oracle" or row["chosen"] == pytest.approx(row["best"])
        summary = json.loads((run / "summary.json").read_text())
        assert 0 < summary["pass@1"]["mean"] < summary["own_pass@1"]["mean"] < 1


@pytest.mark.usefixtures("in_an_empty_folder")
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["reward=local_loss", "context=interaction", "matching=exact"], "set reward=new_answers"),
        (["federation.experts=9"], "experts=9: there are 6 agents"),
        (["matchmaker=pens", "matching=exact"], "matchmaker=pens works on models and text"),
        (["federation.num_agents=2000"], "arms, which are scored one by one up to 1.7e+07"),
    ],
)
def test_what_such_agents_cannot_do_is_refused_in_one_line(overrides, said, capsys):
    assert run_command_line([FEDERATION, "logger=none", *overrides]) == EXIT_USER_ERROR
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error
