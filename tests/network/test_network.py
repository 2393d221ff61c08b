"""Agents and matchmaker over real TLS: the rounds of one process, whatever happens in between."""

import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from knexa.matchmaking.self_taught import SelfTaught
from knexa.network.packages import NamedDirective
from knexa.network.timing import HeartbeatPolicy
from tests.network.rounds import expected_rows, told
from tests.network.small_network import SECRET, TIMEOUTS, Agent, Network, ToyBackend

NAMES = ("a0", "a1", "a2", "a3")
PATIENT = HeartbeatPolicy(
    beat_every_s=0.2, min_intervals=50.0, max_intervals=200.0
)  # slow machines vanish no agents


def test_rounds_over_the_network_are_those_of_one_process() -> None:
    with Network(heartbeat_policy=PATIENT) as network:
        agents = [Agent(network, name, forwarded=True).start() for name in NAMES]
        for agent in agents:
            agent.join()
        assert told(network.harness.rows) == expected_rows()
        assert network.service.tick()
        assert network.server.counts() == {}
        learned = sorted(id_ for agent in agents for id_ in agent.backend.learned)
        assert learned == sorted(row[0] for row in expected_rows())
        noted = {id_: r["reward"] for agent in agents for id_, r in agent.backend.noted.items()}
        assert noted == {row[0]: row[3] for row in expected_rows()}
        for agent in agents:
            assert agent.forwarder is not None
            assert agent.server.counts() == {}
            assert len(agent.forwarder.seen) > 100_000 * len(agent.backend.learned)
            assert SECRET not in agent.forwarder.seen
            assert b"private lesson" not in agent.forwarder.seen


def test_both_of_a_pair_may_teach_each_other() -> None:
    with Network(heartbeat_policy=PATIENT, mutual=True) as network:
        agents = [Agent(network, name).start() for name in NAMES]
        for agent in agents:
            agent.join()
        assert told(network.harness.rows) == expected_rows(mutual=True)
        assert [len(agent.backend.learned) for agent in agents] == [3, 3, 3, 3]


def test_a_student_of_many_teachers_learns_once_a_round() -> None:
    with Network(heartbeat_policy=PATIENT, routed=True) as network:
        agents = [Agent(network, name, forwarded=True).start() for name in NAMES]
        for agent in agents:
            agent.join()
        expected = expected_rows(routed=True)
        assert told(network.harness.rows) == expected
        assert network.server.counts() == {}
        for index, agent in enumerate(agents):
            of_rounds = [
                [row[0] for row in expected if row[2] == (index,) and row[0].startswith(f"r{n}-")]
                for n in (1, 2, 3)
            ]
            assert agent.backend.lessons == of_rounds
            assert agent.server.counts() == {}
            assert agent.forwarder is not None
            assert len(agent.forwarder.seen) > 100_000 * len(agent.backend.learned)
            assert SECRET not in agent.forwarder.seen


def test_of_many_teachers_one_that_is_cut_off_costs_its_own_packages_alone() -> None:
    timeouts = replace(TIMEOUTS, package_s=1.0)
    with Network(heartbeat_policy=PATIENT, routed=True, num_rounds=1) as network:
        agents = [Agent(network, name, timeouts=timeouts) for name in NAMES]
        victim = agents[expected_rows(1, routed=True)[0][1][0]]
        victim.loop._deliver = lambda directive, package: False  # type: ignore[method-assign]
        for agent in agents:
            agent.start()
        for agent in agents:
            agent.join()
        lost = [row for row in network.harness.rows if row.outcome == "lost"]
        assert {row.teachers for row in lost} == {(NAMES.index(victim.name),)}
        others = [row for row in network.harness.rows if row not in lost]
        assert {row.outcome for row in others} == {"delivered"}
        assert len(others) + len(lost) == len(expected_rows(1, routed=True))
        assert all(len(agent.backend.lessons) == 1 for agent in agents)


def test_who_teaches_itself_sends_nothing_and_learns() -> None:
    with Network(heartbeat_policy=PATIENT, num_rounds=2) as network:
        network.harness.coordinator.cpm.matchmaker = SelfTaught()
        agents = [Agent(network, name, forwarded=True).start() for name in NAMES]
        for agent in agents:
            agent.join()
            assert len(agent.backend.learned) == 2
            assert agent.forwarder is not None
            assert not agent.forwarder.seen
        assert [row.teachers for row in network.harness.rows] == [(0,), (1,), (2,), (3,)] * 2


def test_a_restarted_matchmaker_goes_on_where_it_was() -> None:
    with Network(heartbeat_policy=PATIENT) as network:
        restarted, lock = list[int](), threading.Lock()

        def restart(directive: NamedDirective) -> None:
            with lock:
                if directive.round in restarted:
                    return
                restarted.append(directive.round)
                network.server.stop()
                network.start_matchmaker()

        agents = [Agent(network, name) for name in NAMES]
        for agent in agents:
            agent.backend.before_learning = restart
            agent.start()
        for agent in agents:
            agent.join()
        assert restarted == [1, 2, 3]
        assert told(network.harness.rows) == expected_rows()


@pytest.mark.parametrize("when", ["before learning", "after learning", "before the verdict"])
def test_a_killed_agent_comes_back_and_the_rounds_are_the_same(when: str) -> None:
    with Network(heartbeat_policy=PATIENT) as network:
        agents = {name: Agent(network, name) for name in NAMES}
        died = threading.Event()

        class Killed(Exception):  # noqa: N818
            pass

        def die(directive: NamedDirective) -> None:
            if directive.round == 2 and not died.is_set():
                died.set()
                raise Killed(directive.student)

        def settle_dead(*, counts: bool, backend: ToyBackend, settle: Any) -> None:
            assert backend.pending is not None
            if min(backend.pending).startswith("r2-") and not died.is_set():
                died.set()
                raise Killed(backend.name)
            settle(counts=counts)

        for agent in agents.values():
            if when == "before learning":
                agent.backend.before_learning = die
            elif when == "before the verdict":
                backend = agent.backend
                settle = partial(settle_dead, backend=backend, settle=backend.settle)
                agent.backend.settle = settle  # type: ignore[method-assign]
            else:
                learn = agent.backend.learn

                def learn_and_die(directives, packages, learn=learn):  # type: ignore[no-untyped-def]
                    answer = learn(directives, packages)
                    die(directives[0])
                    return answer

                agent.backend.learn = learn_and_die  # type: ignore[method-assign]
            agent.start()
        assert died.wait(60.0)
        victim = next(a for a in agents.values() if _dies(a))
        victim.close()
        agents[victim.name] = Agent(network, victim.name, victim.backend).start()
        for agent in agents.values():
            agent.join()
        assert told(network.harness.rows) == expected_rows()
        learned = sorted(id_ for agent in agents.values() for id_ in agent.backend.learned)
        assert learned == sorted(row[0] for row in expected_rows())


def _dies(agent: Agent) -> bool:
    """Return whether the agent has died, once it is known which has."""
    agent._threads[0].join(timeout=0.3)
    return agent.error is not None


def test_a_link_that_is_cut_costs_the_round_of_its_pair_alone() -> None:
    with Network(heartbeat_policy=PATIENT, exchange_s=1.0) as network:
        agents = {name: Agent(network, name, forwarded=True) for name in NAMES}
        student = expected_rows()[0][2][0]
        cut = agents[f"a{student}"].forwarder
        assert cut is not None
        cut.cut()
        for agent in agents.values():
            agent.start()
        for agent in agents.values():
            agent.join()
        lost = [row for row in network.harness.rows if row.outcome == "lost"]
        assert all(row.students == (student,) for row in lost)
        assert (1, (student,)) in [(row.round, row.students) for row in lost]
        kept = [row for row in network.harness.rows if row.round == 1 and row not in lost]
        assert [row.outcome for row in kept] == ["delivered"]
        assert network.harness.coordinator.phase == "finished"


def test_an_agent_stays_as_it_was_where_its_directive_was_given_up() -> None:
    with Network(heartbeat_policy=PATIENT, exchange_s=0.5, num_rounds=1) as network:
        agents = [Agent(network, name) for name in NAMES]
        slow = threading.Event()

        def wait(directive: NamedDirective) -> None:
            while not network.harness.rows:
                network.service.tick()
                slow.wait(0.05)

        for agent in agents:
            agent.backend.before_learning = wait
            agent.start()
        for agent in agents:
            agent.join()
        assert {row.outcome for row in network.harness.rows} == {"lost"}
        assert [agent.backend.learned for agent in agents] == [[], [], [], []]
        assert all(isinstance(agent.backend, ToyBackend) for agent in agents)
