"""Liars in both worlds: what reaches honest agents and the CPM, and what the run says of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.solve import execute
from knexa.backbones.roster import Byzantine
from knexa.cli.commands import run_command_line
from knexa.config.build import build_components
from knexa.config.compose import compose, parse_arguments
from knexa.errors import UserError
from knexa.evaluation import Outcome
from knexa.exchange.package import decode
from knexa.federation.byzantine_metrics import honest_samples, shunned_after, teaching_of
from knexa.matchmaking.contexts import Interaction
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.ledger import Ledger
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.random import Random
from knexa.protocols.akd import AKD
from knexa.protocols.akd_verified import AKDVerified
from knexa.tracking.rows import Trust
from tests.federation.carrying_out import carry_out
from tests.federation.llm import small_worlds as small
from tests.federation.synthetic import formula_runs as formulas
from tests.row_examples import exchange_row, sample_row

SHORT = ("federation=synthetic", "logger=none", "regret=none", "federation.num_rounds=12")


def byzantine(*attacks: str, members: tuple[int, ...] = (0,)) -> ByzantineAgents:
    return ByzantineAgents(members=members, attacks=frozenset(attacks), forged_reward=2.0)  # type: ignore[arg-type]


def taught(protocol, byzantine: ByzantineAgents, *pairs: tuple[int, int]):
    """Return (world, exchanges) after one round of these (teacher, student) pairs."""
    world = small.world(protocol, byzantine=byzantine)
    world.begin_round(1)
    plan = tuple(
        Directive(id=f"r1-{k}", teachers=(j,), students=(i,), protocol=protocol.name)
        for k, (j, i) in enumerate(pairs)
    )
    return world, carry_out(world, 1, plan)


# Language models


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["garbage", "wrong"])
def test_verification_lets_no_failing_answer_of_a_byzantine_agent_through(attack):
    world, (exchange,) = taught(AKDVerified(num_steps=1), byzantine(attack), (0, 1))
    texts = world.states[1].replay
    assert exchange.items_sent == len(world.runtime.benchmark.transfer)
    assert len(texts) == exchange.items_kept < exchange.items_sent / 3
    assert exchange.items_kept == 0 or attack == "wrong"
    problems = [world.runtime.transfer_by_id[text.task_id] for text in texts]
    outcomes = execute(world.runtime, problems, [text.completion for text in texts])
    assert all(outcome is Outcome.PASSED for outcome in outcomes)


@pytest.mark.slow
def test_a_byzantine_agent_lies_in_its_report_alone_and_is_trained_as_usual():
    protocol = AKD(num_steps=1)
    honest, (one, other) = taught(protocol, ByzantineAgents(), (1, 0), (0, 2))
    lying, (forged, told) = taught(protocol, byzantine("forged", "inflated"), (1, 0), (0, 2))
    assert forged.reward == -2.0 != one.reward
    assert told == other
    for before, after in zip(honest.states, lying.states, strict=True):
        assert all((before.adapter[name] == after.adapter[name]).all() for name in before.adapter)
    assert lying.states[0].history.learn_rewards == (-2.0,)
    assert not np.array_equal(lying.profiles()[0], honest.profiles()[0])


@pytest.mark.slow
def test_sybils_send_one_text_under_their_names():
    world = small.world(AKD(num_steps=1), byzantine=byzantine("sybil", members=(2, 0)))
    packages = [decode(world.taught(1, [agent])[0][0].text) for agent in (0, 1, 2)]
    assert packages[0].items == packages[2].items != packages[1].items
    assert [package.sender for package in packages] == ["a0", "a1", "a2"]
    profiles_NF = world.profiles()
    assert np.array_equal(profiles_NF[0], profiles_NF[2])


@pytest.mark.slow
def test_a_copier_passes_on_what_it_was_taught_also_after_an_interruption(tmp_path):
    world, _ = taught(AKD(num_steps=1), byzantine("copied"), (1, 0))
    copied = decode(world.taught(1, [1])[0][0].text).items
    world.save(tmp_path)
    resumed = small.world(AKD(num_steps=1), byzantine=byzantine("copied"))
    resumed.load(tmp_path)
    world.begin_round(2)
    sent = decode(world.taught(2, [0])[0][0].text)
    assert decode(resumed.taught(2, [0])[0][0].text) == sent
    assert sent.sender == "a0"
    assert [(item.task_id, item.completion) for item in sent.items] == [
        (item.task_id, item.completion) for item in copied
    ]


@pytest.mark.slow
def test_what_a_sybil_said_outlives_an_interruption_and_its_speakers_next_update(tmp_path):
    sybils = byzantine("sybil", members=(0, 1))
    plan = (Directive(id="r1-0", teachers=(1,), students=(2,), protocol="akd"),)
    world = small.world(AKD(num_steps=1), byzantine=sybils)
    world.begin_round(1)
    world.packages(1, plan)
    world.try_learning(1, plan)
    world.save(tmp_path)
    resumed = small.world(AKD(num_steps=1), byzantine=sybils)
    resumed.load(tmp_path)
    for each in (world, resumed):  # the exchange goes on, and the speaker is not part of it
        each.begin_round(2, np.array([True, False, False]))
    assert carry_out(resumed, 1, plan) == carry_out(world, 1, plan)
    adapters = resumed.states[2].adapter, world.states[2].adapter
    assert all((adapters[0][name] == adapters[1][name]).all() for name in adapters[0])


# Configs


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["exchange=similarity"], "attack=wrong needs text, and exchange=similarity sends"),
        (["exchange=adapter", "roster.byzantine.attack=[forged,sybil]"], "attack=sybil needs text"),
        (["exchange=logits", "roster.byzantine.attack=sybil"], "sends logits"),
        (["matchmaker=fedavg", "federation.trust_gate=0.5"], "set it to null"),
        (["experiment=paired", "federation.compare_reports=true"], "set reward=new_answers"),
        (["roster.byzantine.num=6"], "leaves nobody honest"),
        (["roster.byzantine.agents=[9]"], "0 to 5"),
    ],
)
def test_byzantine_agents_that_cannot_be_are_refused_in_one_line(overrides, said):
    with pytest.raises(UserError) as caught:
        build("roster.byzantine.num=1", *overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_can_be_exchanged_by_byzantine_agents_of_other_kinds():
    lying = ("experiment=paired", "roster.byzantine.num=1")
    build(*lying, "exchange=adapter", "roster.byzantine.attack=[inflated,forged]")
    build(*lying, "exchange=logits")


def build(*overrides: str) -> None:
    (job,) = compose(parse_arguments(overrides)).jobs
    build_components(job)


# Formulas


def test_without_byzantine_agents_nothing_changes():
    plain = formulas.skill_world(num_agents=6)
    none = formulas.skill_world(num_agents=6, byzantine=Byzantine(attack="garbage"))
    for world in (plain, none):
        formulas.cumulative_regret(world, LinUCB(), 5)
    assert np.array_equal(plain.skills_NC, none.skills_NC)


@pytest.mark.parametrize("attack", ["garbage", "wrong", "copied"])
def test_a_bad_package_earns_less_than_an_honest_one(attack):
    def rewards(byzantine: Byzantine) -> np.ndarray:
        world = formulas.skill_world(num_agents=8, byzantine=byzantine)
        for number in range(1, 6):
            world.begin_round(number)
        return world.probe(5).rewards

    honest_NN = rewards(Byzantine())
    lied_NN = rewards(Byzantine(num=2, agents=(3, 6), attack=attack))
    others = [agent for agent in range(8) if agent not in (3, 6)]
    assert np.array_equal(lied_NN[others], honest_NN[others], equal_nan=True)
    assert np.nanmean(lied_NN[[3, 6]]) < np.nanmean(honest_NN[[3, 6]])


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_every_method_meets_the_same_byzantine_agents_and_says_what_they_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lying = ("federation.byzantine.num=2", "federation.byzantine.attack=[wrong,forged]")
    assert run_command_line(["-m", *SHORT, *lying, "matchmaker=linucb,random"]) == 0
    found = [summary_of(done.parent) for done in Path("outputs").rglob("DONE")]
    assert len(found) == 2
    assert len({tuple(summary["byzantine"]["liars"]) for summary in found}) == 1
    for summary in found:
        lied, scores = summary["byzantine"], summary["pass@1"]["per_agent"]
        honest = [score for agent, score in enumerate(scores) if agent not in lied["liars"]]
        assert summary["honest_pass@1"]["mean"] == pytest.approx(np.mean(honest))
        assert lied["attacks"] == ["forged", "wrong"]
        assert len(lied["teaching"]) == 12
        assert 0 <= lied["trust"]["liars"] <= 1


def test_a_run_without_byzantine_agents_says_nothing_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command_line([*SHORT, "federation.byzantine.attack=garbage"]) == 0
    (done,) = Path("outputs").rglob("DONE")
    assert not {"byzantine", "honest_pass@1"} & summary_of(done.parent).keys()


@pytest.mark.parametrize("attack", ["copied", "sybil"])
def test_a_world_of_byzantine_agents_goes_on_from_a_checkpoint(attack, tmp_path):
    byzantine = Byzantine(num=2, attack=attack)
    whole, again = (formulas.skill_world(num_agents=6, byzantine=byzantine) for _ in range(2))
    plan = (Directive(id="d", teachers=(0,), students=(1,), protocol="formula"),)
    for number in (1, 2):
        whole.begin_round(number)
        carry_out(whole, number, plan)
    whole.save(tmp_path)
    again.load(tmp_path)
    for world in (whole, again):
        world.begin_round(3)
        carry_out(world, 3, plan)
    assert np.array_equal(whole.skills_NC, again.skills_NC)
    assert np.array_equal(whole.profiles(), again.profiles())


# What is said of them


def teaching(*shares: float) -> np.ndarray:
    """Return taught_2R of ten exchanges a round, these shares of them by Byzantine agents."""
    return np.array([[10 * share for share in shares], [10.0] * len(shares)])


def test_byzantine_agents_are_shunned_once_they_teach_little_to_the_end():
    assert shunned_after(teaching(*[0.3] * 3, *[0.0] * 9), 0.3) == 7  # rounds 3 to 7: a fifth
    assert shunned_after(teaching(*[0.0] * 9, *[0.3] * 3), 0.3) is None
    assert shunned_after(teaching(*[0.3] * 12), 0.3) is None
    assert shunned_after(teaching(0.0, 0.0, 0.0), 0.3) == 3  # a run shorter than the window
    assert shunned_after(np.zeros((2, 8)), 0.3) is None  # nobody taught anybody
    assert shunned_after(teaching(0.3, 0.3, 0.0, 0.3, 0.0, 0.09), 0.3, window=1) == 5


def test_exchanges_among_byzantine_agents_are_counted_apart():
    pairs = [(0, 1), (0, 2), (3, 2), (0, 3)]
    rows = [
        exchange_row(teachers=(j,), students=(i,), reward_raw=reward)
        for (j, i), reward in zip(pairs, (1.0, -1.0, 1.0, None), strict=True)
    ]
    said = teaching_of(byzantine("wrong", members=(0, 1)), rows, num_agents=4, num_rounds=2)
    assert said.lessons_among_liars == 1
    assert said.teaching == (pytest.approx((2 / 3) / (2 / 3)), None)
    assert said.trust == Trust(liars=0.5, honest=pytest.approx((0.5 + 2 / 3) / 2))


def routed_rows(*counts: tuple[int, int, int]) -> list:
    """Rows of round 1 in which agent 3 is asked about topic 4, by (student, right, new)."""
    return [
        exchange_row(
            teachers=(3,),
            students=(student,),
            topics=(4,),
            answers_asked=8,
            answers_right=right,
            answers_new=new,
        )
        for student, right, new in counts
    ]


def test_what_byzantine_agents_are_asked_is_counted_by_round_and_forgers_are_named():
    rows = routed_rows((0, 2, 2), (1, 2, 0), (2, 8, 8))
    liars = byzantine("wrong", "forged", members=(2, 3))
    said = teaching_of(liars, rows, num_agents=5, num_rounds=1, most_liars=1)
    assert said.questions == (2,)
    assert said.rarely_asked_from is None
    assert said.forgers == (2,)
    only = teaching_of(byzantine("wrong"), rows, num_agents=5, num_rounds=1)
    assert (only.questions, only.rarely_asked_from, only.forgers) == ((0,), 1, None)
    pairs = teaching_of(liars, [exchange_row()], num_agents=5, num_rounds=1)
    assert (pairs.questions, pairs.rarely_asked_from) == (None, None)


def test_honest_scores_leave_the_byzantine_agents_out():
    rows = [
        sample_row(agent=agent, outcome=outcome)
        for agent, outcome in enumerate([Outcome.PASSED, Outcome.PASSED, Outcome.FAILED])
    ]
    said = honest_samples(byzantine("wrong", members=(2,)), rows, ks=(1,), seed=0)
    assert said[1].mean == 1.0
    assert honest_samples(ByzantineAgents(), rows, ks=(1,), seed=0) == {}


# The trust gate


def test_the_trust_gate_excludes_bad_teachers_alone():
    ledger = Ledger()
    assert not ledger.distrusted(4, 1.0).any()
    for step in range(12):
        ledger.record(0, 1, -0.1)
        ledger.record(1, 0, 0.1 if step % 2 else -0.1)
        ledger.record(2, 0, 0.1 if step % 3 else -0.1)
    assert ledger.distrusted(4, 0.5).tolist() == [True, False, False, False]


def test_a_gated_agent_learns_on_and_teaches_no_more():
    world = formulas.skill_world(num_agents=6)
    cpm = CPM(
        matchmaker=Random(),
        context=Interaction(),
        matching=Exact(),
        reward=formulas.RAW,
        protocol=world.protocol_name,
        num_profile_features=32,
        trust_gate=0.5,
    )
    for student in (1, 2, 3, 4, 5) * 3:
        cpm.ledger.record(0, student, -0.1)
    world.begin_round(1)
    plans = [
        cpm.propose(number, world.profiles(), np.random.default_rng(number))
        for number in range(1, 21)
    ]
    pairs = [directive.pair for plan in plans for directive in plan]
    assert len(pairs) == 60
    assert 0 not in {teacher for teacher, _ in pairs}
    assert 0 in {student for _, student in pairs}
