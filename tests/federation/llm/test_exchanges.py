"""Every exchange protocol through the real round, on three small agents; two share a backbone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from knexa.agents import learning, phases, scoring
from knexa.agents.exchange_protocol import Question
from knexa.agents.phases import receive
from knexa.agents.solve import Answer
from knexa.agents.training import FitReport
from knexa.errors import UserError
from knexa.exchange.ensemble import confident_votes, mean_one, pool
from knexa.exchange.guardrail.filter import Guardrail
from knexa.exchange.package import PackageError, decode
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.simulated_network.faults import Faults
from knexa.federation.simulated_network.scheduler import EventScheduler, Sync
from knexa.federation.summary import costs_of
from knexa.matchmaking import central_kd, fedavg, fedid, fedskd
from knexa.matchmaking.local_only import LocalOnly
from knexa.matchmaking.pens import PENS
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.random import Random
from knexa.matchmaking.regret import Regret, regret_row
from knexa.matchmaking.rewards import TransferLoss, TransferPass
from knexa.protocols import fedid as fedid_protocol
from knexa.protocols.adapter import Adapter
from knexa.protocols.akd import AKD
from knexa.protocols.akd_confident import AKDConfident
from knexa.protocols.akd_verified import AKDVerified
from knexa.protocols.ensemble import Ensemble
from knexa.protocols.fedavg import AdapterAveraging
from knexa.protocols.fedid import CentralStudent
from knexa.protocols.logits import Logits
from knexa.protocols.similarity import Similarity
from knexa.tracking.rows import RoundRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker
from tests.federation.carrying_out import carry_out
from tests.federation.llm import small_worlds as small
from tests.row_examples import exchange_row

pytestmark = pytest.mark.slow
EVERYONE = (0, 1, 2)


def teach(runtime, state, round_number, sender):
    """Return a teacher's one package, of all topics."""
    (package,), _ = phases.teach(runtime, state, round_number, sender)
    return package


def fedid_world(**settings):
    protocol = CentralStudent(num_steps=1, alpha_start=0.5, alpha_end=0.5, **settings)
    return small.world(protocol, servers=small.runtime().roster.servers(1))


def received_kilobytes(world):
    return [row.kilobytes_received for row in world.rows(1, [])]


def test_training_that_diverges_ends_with_the_learning_rate_to_lower():
    training = replace(small.runtime().training, local_learning_rate=1e30)
    world = small.world(AKD(), training=training)
    with pytest.raises(UserError, match=r"training.local_learning_rate=1e\+30: .* a0 diverges"):
        world.begin_round(1)
    training = replace(small.runtime().training, kd_learning_rate=1e30)
    world = small.world(AKD(), training=training)
    with pytest.raises(UserError, match=r"training.kd_learning_rate=1e\+30: .* diverges"):
        small.one_round(Random(), world)


# Pairs


@pytest.mark.parametrize(
    "protocol",
    [
        AKD(num_steps=1),
        AKDVerified(num_steps=1, num_candidates=2),
        AKDConfident(num_steps=1),
        Similarity(num_steps=1),
    ],
    ids=lambda protocol: protocol.name,
)
def test_any_two_agents_can_pair(protocol):
    world = small.world(protocol)
    assert world.admissible_NN is None
    (exchange,) = small.one_round(Random(), world)
    _, student = exchange.directive.pair
    assert np.isfinite(exchange.reward)
    assert received_kilobytes(world)[student] == exchange.kilobytes > 0
    assert 0 <= exchange.items_kept <= exchange.items_sent


def test_who_sent_text_says_in_which_share_of_it_something_was_found():
    suspicious = Guardrail(rules=("canary",), canaries=("return",), high="block")
    world = small.world(AKD(num_steps=1), guardrail=suspicious)
    (exchange,) = small.one_round(Random(), world)
    teacher, _ = exchange.directive.pair
    found, sent = exchange.guardrail["blocked"], exchange.items_sent
    assert found > 0
    expected = [None] * 3
    expected[teacher] = found / (found + sent)
    assert [row.sier for row in world.rows(1, [exchange])] == expected
    assert [state.history.sier for state in world.states] == expected


def test_both_sides_vet_for_a_peer_may_have_no_guardrail():
    none, suspicious = Guardrail(rules=()), Guardrail(rules=("canary",), canaries=("return",))
    sides = [
        small.world(AKD(num_steps=1), guardrail=guardrail).runtime
        for guardrail in (none, suspicious)
    ]
    open_package = teach(sides[0], small.world(AKD()).states[0], 1, 0)
    kept, vetted = (receive(side, open_package, 1) for side in sides)
    holding = [text for text in kept.texts if "return" in text.completion]
    assert holding
    assert len(vetted.texts) == len(kept.texts) - len(holding)
    assert vetted.guardrail["blocked"] == len(holding)
    assert b"return" not in teach(sides[1], small.world(AKD()).states[0], 1, 0).text


def test_an_adapter_is_no_text_that_something_could_be_found_in():
    world = small.world(Adapter())
    (exchange,) = small.one_round(Random(), world)
    assert [row.sier for row in world.rows(1, [exchange])] == [None] * 3


@pytest.mark.parametrize("protocol", [Logits(num_steps=1), Adapter()], ids=lambda p: p.name)
def test_only_agents_with_enough_in_common_pair_where_that_is_needed(protocol):
    world = small.world(protocol)
    assert np.argwhere(world.admissible_NN).tolist() == [[0, 2], [2, 0]]
    (exchange,) = small.one_round(Random(), world)
    assert set(exchange.directive.pair) == {0, 2}
    stranger = replace(exchange.directive, teachers=(1,), students=(0,))
    with pytest.raises(ValueError, match="cannot serve agents 1 and 0"):
        carry_out(world, 1, (stranger,))
    row = regret_row(1, world.probe(1), (exchange.directive,))
    assert row.rewards[0][1] is None
    assert row.random is None
    assert row.best >= row.chosen == pytest.approx(exchange.reward)


@pytest.mark.parametrize(
    "protocol", [Logits(), Adapter(), AdapterAveraging()], ids=lambda p: p.name
)
def test_a_roster_without_any_admissible_pair_is_refused(protocol):
    roster = small.runtime().roster
    with pytest.raises(UserError, match=f"exchange={protocol.name} serves agents with the same"):
        small.world(protocol, roster=replace(roster, agents=roster.agents[:2]))


def test_an_adapter_moves_by_its_share_and_keeps_its_moments():
    world = small.world(Adapter(alpha=0.25))
    world.begin_round(1)
    before = list(world.states)
    plan = small.cpm(Random(), world).propose(1, world.profiles(), rng=np.random.default_rng(0))
    carry_out(world, 1, plan)
    ((teacher, student),) = [directive.pair for directive in plan]
    for name, tensor in world.states[student].adapter.items():
        expected = 0.75 * before[student].adapter[name] + 0.25 * before[teacher].adapter[name]
        assert torch.allclose(tensor, expected, atol=1e-7)
    assert world.states[student].optimizer == before[student].optimizer
    assert world.states[student].optimizer_steps == before[student].optimizer_steps


def test_both_of_a_pair_learn_from_the_snapshot():
    world = small.world(AKD(num_steps=1))
    both = small.one_round(Random(), world, mutual=True)
    assert [e.directive.pair for e in both] == [
        both[0].directive.pair,
        both[0].directive.pair[::-1],
    ]
    alone = small.world(AKD(num_steps=1))
    alone.begin_round(1)
    (one,) = carry_out(alone, 1, (both[1].directive,))
    assert one.reward == both[1].reward


def directives(protocol, *triples):
    return tuple(
        Directive(
            id=f"r1-{index}",
            teachers=(teacher,),
            students=(student,),
            protocol=protocol.name,
            topics=topics,
        )
        for index, (teacher, student, topics) in enumerate(triples)
    )


@pytest.mark.parametrize(
    ("protocol", "teachers"),
    [
        (AKD(num_steps=1), (1, 2)),
        (Similarity(num_steps=1), (1, 2)),
        (Logits(num_steps=1), (2, 2)),
        (Adapter(alpha=0.5), (2, 2)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_student_of_several_directives_learns_once_from_all_of_them(protocol, teachers):
    world = small.world(protocol)
    world.begin_round(1)
    # Asked by name about all twelve topics, where it can be, a teacher is another arm.
    topics = tuple(range(12)) if protocol.by_topic else None
    first, second = directives(protocol, (teachers[0], 0, None), (teachers[1], 0, topics))
    steps = world.states[0].optimizer_steps
    both = carry_out(world, 1, (first, second))
    assert both[0].reward == both[1].reward
    assert world.states[0].optimizer_steps - steps == protocol.steps_per_exchange
    assert received_kilobytes(world)[0] == pytest.approx(sum(e.kilobytes for e in both))
    alone = small.world(protocol)
    alone.begin_round(1)
    (one,) = carry_out(alone, 1, (first,))
    if teachers[0] != teachers[1]:
        assert one.reward != both[0].reward
    learned = world.rows(1, both)[0].learn_loss
    assert (learned is None) == (protocol.steps_per_exchange == 0)


def test_a_directive_with_topics_asks_for_these_alone():
    protocol = AKD(num_steps=1)
    world = small.world(protocol)
    world.begin_round(1)
    topics = (world.runtime.benchmark.transfer[0].category,)
    (plan,) = [directives(protocol, (1, 0, topics))]
    (sent,) = world.packages(1, plan).values()
    asked = {p.task_id for p in world.runtime.benchmark.transfer if p.category in topics}
    answered = {item.task_id for item in decode(sent[1].parts[0]).items}
    assert answered
    assert answered <= asked
    (one,) = carry_out(world, 1, plan)
    assert one.items_sent == len(answered)
    assert one.kilobytes < world.taught(1, [1])[0][0].kilobytes


@pytest.mark.parametrize(
    "protocol", [Similarity(num_steps=1), Adapter()], ids=lambda protocol: protocol.name
)
def test_topics_are_refused_where_everything_is_taught_at_once(protocol):
    world = small.world(protocol)
    world.begin_round(1)
    with pytest.raises(UserError, match=f"exchange={protocol.name} teaches about everything"):
        carry_out(world, 1, directives(protocol, (2, 0, (3,))))


def test_trying_to_learn_changes_no_state():
    world = small.world(AKD(num_steps=1))
    world.begin_round(1)
    before = list(world.states)
    (plan,) = [directives(world.runtime.protocol, (1, 0, None))]
    trials = world.try_learning(1, plan)
    assert world.states == before
    assert trials[0].learning_tokens[0] > 0
    world.commit(1, trials)
    assert world.states[0] is not before[0]


def test_the_best_of_several_answers_is_the_first_that_passes(monkeypatch):
    world = small.world(AKDVerified(num_steps=1, num_candidates=3))
    problems = world.runtime.benchmark.transfer

    def answers(*_, **__):
        return [
            Answer(problem.task_id, completion, -0.1, 3)
            for problem in problems
            for completion in ("    pass\n", problem.canonical_solution, "    return 0\n")
        ]

    monkeypatch.setattr("knexa.agents.solve.answer", answers)
    package = teach(world.runtime, world.states[0], 1, 0)
    assert len(receive(world.runtime, package, 1).texts) == package.items_sent == len(problems)
    assert package.tokens_generated == 9 * len(problems)


def test_confident_answers_weigh_more():
    world = small.world(AKDConfident(num_steps=1))
    received = receive(world.runtime, teach(world.runtime, world.states[0], 1, 0), 1)
    weights = np.array([text.weight for text in received.texts])
    confidences = np.array([item.confidence for item in received.items])
    assert weights.mean() == pytest.approx(1.0)
    assert weights / weights[0] == pytest.approx(np.exp(confidences - confidences[0]))


def test_logits_of_another_text_are_refused():
    world = small.world(Logits(num_steps=1))
    packages = [teach(world.runtime, world.states[0], 1, 0) for _ in range(2)]
    shorter = replace(packages[0], payload=packages[0].payload[:-64])
    with pytest.raises(PackageError):
        receive(world.runtime, shorter, 1)
    swapped = teach(replace(world.runtime, num_rounds=1), world.states[0], 1, 0)
    received = receive(world.runtime, swapped, 1)
    assert len(received.soft) == len(received.texts) > 0
    for soft in received.soft:
        assert soft.probabilities_AS.sum(1) == pytest.approx(np.ones(len(soft.ids_AS)), rel=1e-4)


def test_peers_find_the_text_of_others_hard_and_pay_for_reading_it():
    world = small.world(AKD(num_steps=1))
    world.begin_round(1)
    losses_NN = world.peer_losses(1)
    assert np.isnan(losses_NN.diagonal()).all()
    assert (losses_NN[~np.eye(3, dtype=bool)] > 0).all()
    plan = small.cpm(PENS(), world).propose(
        1, world.profiles(), rng=np.random.default_rng(0), peer_losses=losses_NN
    )
    exchanges = carry_out(world, 1, plan)
    rows = world.rows(1, exchanges)
    sent = sum(package.kilobytes for package, _ in world.taught(1, EVERYONE)) * (len(EVERYONE) - 1)
    alive = {"present": True, "busy": False, "copies_ignored": 0, "clock_s": 0.0}
    total = costs_of(
        [RoundRow.of(row, **alive) for row in rows],
        [exchange_row(kilobytes=e.kilobytes, server=e.server) for e in exchanges],
    )
    assert total.kilobytes == pytest.approx(sent)
    assert all(row.tokens_generated > 0 for row in rows)


# Rewards and profiles


@pytest.mark.parametrize("reward", [TransferLoss(delta=0.0), TransferPass(delta=0.0)])
def test_rewards_measure_what_they_are_named_after(reward, monkeypatch):
    world = small.world(AKD(num_steps=1), reward=reward)
    if isinstance(reward, TransferPass):
        solved = iter([[True, False, None, False], [True, True, None, False]])
        monkeypatch.setattr("knexa.agents.scoring.solve.solved", lambda *_: next(solved))
    (exchange,) = small.one_round(Random(), world)
    student = exchange.directive.students[0]
    arm = (((exchange.directive.teachers, Question()),), student)
    learned = world._cache.trials[arm][1]
    assert exchange.reward == reward.reward(
        before=learned.before.value, after=learned.after.value, kilobytes=0.0
    )
    if isinstance(reward, TransferPass):
        assert exchange.reward == pytest.approx(1 / 3)
    else:
        assert learned.before.value != learned.before.loss


def test_skills_are_measured_where_profiles_show_them(monkeypatch):
    world = small.world(AKD(num_steps=1), measures_skills=True)
    problems = world.runtime.benchmark.transfer
    known = {problems[0].category, problems[5].category}
    monkeypatch.setattr(
        "knexa.agents.scoring.solve.solved",
        lambda runtime, state, asked: [problem.category in known for problem in asked],
    )
    world.begin_round(1)
    skills = world.states[0].history.skills
    assert [category for category, skill in enumerate(skills) if skill == 1.0] == sorted(known)
    assert len(skills) == 12
    plain = small.world(AKD(num_steps=1))
    plain.begin_round(1)
    assert plain.states[0].history.skills == ()


# Many as one


@pytest.mark.parametrize(
    "settings", [{}, {"vote": True}, {"verify": True}], ids=["scored", "vote", "verify"]
)
def test_central_kd_teaches_everybody_as_one(settings):
    world = small.world(Ensemble(num_steps=1, **settings))
    (exchange,) = small.one_round(central_kd.CentralKD(), world)
    assert exchange.directive.teachers == exchange.directive.students == EVERYONE
    packages = [package for package, _ in world.taught(1, EVERYONE)]
    down = received_kilobytes(world)
    uploads = sum(package.kilobytes for package in packages)
    scores = exchange.kilobytes - uploads - sum(down)
    assert len(set(down)) == 1
    assert scores == pytest.approx(0.0) if settings.get("vote") else scores > 0
    delivery = world._cache.transfers[EVERYONE, Question()]
    weights = [text.weight for text in delivery.received.texts]
    assert not weights or np.mean(weights) == pytest.approx(1.0)
    if settings.get("vote"):
        tasks = [text.task_id for text in delivery.received.texts]
        assert len(set(tasks)) == len(tasks)
    histories = [state.history for state in world.states]
    assert np.mean([h.learn_rewards[-1] for h in histories]) == pytest.approx(exchange.reward)


def test_fedavg_averages_inside_a_group_by_training_set_size():
    world = small.world(AdapterAveraging())
    world.begin_round(1)
    before = list(world.states)
    plan = small.cpm(fedavg.FedAvg(), world).propose(
        1, world.profiles(), rng=np.random.default_rng(0)
    )
    (exchange,) = carry_out(world, 1, plan)
    assert exchange.directive.students == (0, 2)
    sizes = [len(split.train) for split in world.runtime.splits]
    share = sizes[0] / (sizes[0] + sizes[2])
    for name, tensor in world.states[0].adapter.items():
        expected = share * before[0].adapter[name] + (1 - share) * before[2].adapter[name]
        assert torch.allclose(tensor, expected, atol=1e-6)
        assert torch.equal(tensor, world.states[2].adapter[name])
    assert world.states[1] is before[1]
    assert world.states[0].optimizer == before[0].optimizer
    uploads = sum(package.kilobytes for package, _ in world.taught(1, (0, 2)))
    down = received_kilobytes(world)
    assert exchange.kilobytes == pytest.approx(uploads + down[0] + down[2])


def weight_of(batches, key="weight_BT"):
    """The weight of each row of the first batch."""
    return batches[0][key].sum(1)


def test_fedid_trains_on_its_published_losses(monkeypatch):
    """L_s = sum_k w_k c_k CE(text_k); L_k = (1 - a) private + a (target + w_k delta own)."""
    world = fedid_world()
    fitted = {}

    def record(loaded, state, batches, **_):
        fitted[state.index] = batches
        return state, FitReport(1.0, 1, 1)

    losses = iter([2.0, 1.5])  # the server's, on the query split
    monkeypatch.setattr(learning, "fit", record)
    measured = scoring.mean_loss

    def mean_loss(runtime, state, examples):
        return next(losses) if state.index == 3 else measured(runtime, state, examples)

    monkeypatch.setattr(scoring, "mean_loss", mean_loss)
    (exchange,) = small.one_round(fedid.FedID(), world)
    assert exchange.server.delta == 0.5
    taught = world.taught(1, EVERYONE)
    sizes = np.array([len(split.train) for split in world.runtime.splits], dtype=float)
    shares = sizes / sizes.sum()
    for client in EVERYONE:
        own = taught[client][1].texts
        expected = 0.5 + 0.5 * bool(world._cache.transfers[EVERYONE, Question()].received.texts)
        expected += 0.5 * shares[client] * 0.5 * bool(own)
        assert float(weight_of(fitted[client]).sum()) == pytest.approx(expected, rel=1e-4)
    candidates = pool([taught[client][1].items for client in EVERYONE])
    expected = mean_one(confident_votes(candidates, shares))
    assert [text.weight for text in what_the_server_learns(world)] == pytest.approx(expected)


def what_the_server_learns(world):
    texts = []

    class RoundContext:
        runtime, states, round_number = world.runtime, world.states, 1

        def map(self, phase, tasks, keys):
            if phase is fedid_protocol.learn_centrally:
                texts.extend(tasks[0][1])
                return [(tasks[0][0], FitReport(1.0, 1, 1), 0.0)]
            return world.pool.map(phase, tasks, keys)

        def taught(self, teachers):
            return world.taught(1, teachers)

    world.runtime.protocol.deliver(RoundContext(), EVERYONE, (3, *EVERYONE))
    return texts


@pytest.mark.parametrize("target", ["server", "vote"])
def test_fedids_server_learns_and_its_queries_are_never_taught(target):
    world = fedid_world(target=target)
    untrained = world.states[3].adapter
    (exchange,) = small.one_round(fedid.FedID(), world)
    assert exchange.directive.students == (3, *EVERYONE)
    assert any(not torch.equal(t, untrained[n]) for n, t in world.states[3].adapter.items())
    queries = {problem.task_id for problem in world.runtime.protocol.query_problems(world.runtime)}
    assert len(queries) == 3
    for _, received in world.taught(1, EVERYONE):
        assert not queries & {item.task_id for item in received.items}
    assert not queries & {
        text.task_id for text in world._cache.transfers[EVERYONE, Question()].received.texts
    }
    assert exchange.server.optimizer_steps == 1
    assert (exchange.server.tokens_generated > 0) == (target == "server")
    assert len(world.rows(1, [exchange])) == len(world.final_samples()) // 12 == 3


def test_fedskd_teaches_both_ways():
    world = small.world(Similarity(num_steps=1))
    there, back = small.one_round(fedskd.FedSKD(), world)
    assert there.directive.pair == back.directive.pair[::-1]
    assert there.directive.protocol == "similarity"


def test_a_probe_leaves_exchanges_as_they_are():
    probed, plain = (small.world(AKD(num_steps=1)) for _ in range(2))
    probed.begin_round(1)
    rewards_NN = probed.probe(1).rewards
    (exchange,) = small.one_round(Random(), plain)
    assert rewards_NN[exchange.directive.pair] == exchange.reward


# A server agent through checkpoints


def run(folder, last_round):
    """Run FedID up to ``last_round``, going on from the folder's checkpoint."""
    with RunDirectory(folder) as run_dir:
        world = fedid_world()
        checkpoint = run_dir.latest_checkpoint()
        run_dir.truncate_after(checkpoint[0] if checkpoint else -1)
        cpm = small.cpm(fedid.FedID(), world)
        scheduler = EventScheduler(faults=Faults(), sync=Sync(), seed=small.SEED, num_agents=3)
        if checkpoint:
            restore(world, cpm, scheduler, checkpoint[1])
        run_rounds(
            world,
            cpm,
            scheduler,
            Tracker(run_dir),
            seed=small.SEED,
            num_rounds=last_round,
            regret=Regret(every=0),
            last_round=checkpoint[0] if checkpoint else None,
        )


def test_a_run_with_a_server_agent_resumes_to_the_same_bytes(tmp_path):
    run(tmp_path / "whole", 2)
    run(tmp_path / "cut", 1)
    run(tmp_path / "cut", 2)
    for name in ("rounds.jsonl", "exchanges.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    servers = [
        RunDirectory(tmp_path / name).latest_checkpoint()[1] / "agents" / "3.safetensors"
        for name in ("cut", "whole")
    ]
    assert servers[0].read_bytes() == servers[1].read_bytes()


def test_nobody_pays_for_a_plan_without_exchanges():
    world = small.world(AKD(num_steps=1))
    assert small.one_round(LocalOnly(), world) == []
    assert received_kilobytes(world) == [0.0] * 3
