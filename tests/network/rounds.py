"""A coordinator on a clock that the test moves, and agents that answer at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from knexa.federation.simulated_network.scheduler import Sync
from knexa.matchmaking.base import Feedback
from knexa.matchmaking.contexts import Concat
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.rewards import LocalLoss
from knexa.network.assignments import CoordinatorConfig, Order, StudentReport
from knexa.network.coordinator import Coordinator
from knexa.network.timing import HeartbeatPolicy
from knexa.seeding import derive_rng
from knexa.tracking.rows import ExchangeRow

NUM_FEATURES = 4
HEARTBEAT_POLICY = HeartbeatPolicy(beat_every_s=1.0, min_intervals=4.0, max_intervals=20.0)


class Moved:
    """A clock."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def coordinator_config(
    num_agents: int = 4, num_rounds: int = 3, **changes: Any
) -> CoordinatorConfig:
    values: dict[str, Any] = {
        "names": tuple(f"a{i}" for i in range(num_agents)),
        "seed": 5,
        "num_rounds": num_rounds,
        "num_features": NUM_FEATURES,
        "largest_reward": LocalLoss().largest,
        "sync": Sync(),
        "exchange_s": 100.0,
        "heartbeat_policy": HEARTBEAT_POLICY,
        "agreement": "alike",
    }
    return CoordinatorConfig(**(values | changes))


def cpm(*, mutual: bool = False) -> CPM:
    return CPM(
        matchmaker=LinUCB(),
        context=Concat(),
        matching=Exact(),
        reward=LocalLoss(),
        protocol="akd",
        num_profile_features=NUM_FEATURES,
        mutual=mutual,
    )


def profile(name: str, round_number: int) -> list[float]:
    return derive_rng(1, "profile", name, round_number).uniform(0, 1, NUM_FEATURES).tolist()


def reward(directive_id: str) -> float:
    return float(derive_rng(1, "reward", directive_id).normal(0.0, 0.1))


class Harness:
    """A coordinator and what is on its disk."""

    def __init__(self, *, mutual: bool = False, **changes: Any) -> None:
        self.mutual = mutual
        self.clock, self.rows, self.saved = Moved(), list[ExchangeRow](), dict[str, Any]()
        self.prepared = dict[str, int]()
        self.config = coordinator_config(**changes)
        self.coordinator = self._new()

    def _new(self) -> Coordinator:
        return Coordinator(self.config, cpm(mutual=self.mutual), now=self.clock, save=self._save)

    def _save(self, coordinator: Coordinator, rows: Sequence[ExchangeRow]) -> None:
        self.rows += rows
        self.saved = coordinator.state_dict()

    def restart(self) -> None:
        state = self.saved
        self.coordinator = self._new()
        self.coordinator.load_state_dict(state)

    def register(self, *names: str, incarnation: str = "1") -> None:
        for name in names or self.config.names:
            self.coordinator.register(
                name,
                address=f"{name}:1",
                incarnation=incarnation,
                agreement="alike",
                profile=profile(name, 0),
            )

    def order(self, name: str, received: Sequence[str] = (), incarnation: str = "1") -> Order:
        return self.coordinator.order(name, incarnation, self.prepared.get(name, 0), received)

    def prepare(self, *names: str) -> None:
        for name in names or self.config.names:
            order = self.order(name)
            assert order.kind == "prepare", (name, order)
            self.coordinator.submit_profile(
                name, "1", order.round, profile(name, order.round), list(order.results)
            )
            self.prepared[name] = order.round

    def answer(self, *ids: str, outcome: str = "learned") -> None:
        for id_ in ids or list(self.coordinator.assignments):
            assignment = self.coordinator.assignments[id_]
            answer = StudentReport(outcome=outcome, reward=reward(id_), kilobytes=1.0)
            self.coordinator.submit_feedback(assignment.student, "1", id_, answer)

    def wait(self, seconds: float, *alive: str) -> None:
        """Let time pass; those who are alive say so every second."""
        for _ in range(int(seconds)):
            self.clock.time += 1.0
            for name in alive:
                self.coordinator.beat(name, "1")
        self.coordinator.tick()


def expected_rows(num_rounds: int = 3, *, mutual: bool = False) -> list[tuple[Any, ...]]:
    """The same rounds without a network: id, raw and normalised reward."""
    matchmaker, found = cpm(mutual=mutual), []
    for number in range(1, num_rounds + 1):
        profiles_NF = np.array([profile(f"a{i}", number) for i in range(4)])
        plan = matchmaker.propose(number, profiles_NF, rng=derive_rng(5, "matchmaker", number))
        feedbacks = [Feedback(directive_id=d.id, reward=reward(d.id)) for d in plan]
        normalised = matchmaker.receive(feedbacks)
        found += [
            (d.id, d.teachers, d.students, f.reward, value)
            for d, f, value in zip(plan, feedbacks, normalised, strict=True)
        ]
    return found


def told(rows: Sequence[ExchangeRow]) -> list[tuple[Any, ...]]:
    return [
        (row.id, row.teachers, row.students, row.reward_raw, row.reward_normalised) for row in rows
    ]
