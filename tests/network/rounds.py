"""A coordinator on a clock that the test moves, and agents that answer at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from knexa.federation.simulated_network.scheduler import Sync
from knexa.matchmaking.answers import NO_TOPICS, TopicAnswers, TransferTopics
from knexa.matchmaking.contexts import Concat
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.linucb import LinUCB
from knexa.matchmaking.matchings import Exact
from knexa.matchmaking.plans import Feedback
from knexa.matchmaking.rewards import LocalLoss, NewAnswers
from knexa.matchmaking.selections import Routed
from knexa.matchmaking.topic_contexts import TopicPast
from knexa.network.assignments import CoordinatorConfig, Order
from knexa.network.coordinator import Coordinator
from knexa.network.reports import StudentReport
from knexa.network.timing import HeartbeatPolicy
from knexa.seeding import derive_rng
from knexa.tracking.rows import ExchangeRow

NUM_FEATURES = 4
TOPICS = TransferTopics(categories=(0, 3), sizes=(4, 2))
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
        "reward": LocalLoss(),
        "sync": Sync(),
        "exchange_s": 100.0,
        "heartbeat_policy": HEARTBEAT_POLICY,
        "agreement": "alike",
    }
    return CoordinatorConfig(**(values | changes))


def cpm(*, mutual: bool = False, routed: bool = False) -> CPM:
    return CPM(
        matchmaker=LinUCB(),
        context=TopicPast() if routed else Concat(),
        matching=Routed() if routed else Exact(),
        reward=NewAnswers() if routed else LocalLoss(),
        protocol="akd",
        num_profile_features=NUM_FEATURES,
        mutual=mutual,
        topics=TOPICS if routed else NO_TOPICS,
    )


def profile(name: str, round_number: int) -> list[float]:
    return derive_rng(1, "profile", name, round_number).uniform(0, 1, NUM_FEATURES).tolist()


def reward(directive_id: str) -> float:
    return float(derive_rng(1, "reward", directive_id).normal(0.0, 0.1))


def answers(directive_id: str, topics: Sequence[int]) -> tuple[TopicAnswers, ...]:
    rng, counts = derive_rng(1, "answers", directive_id), []
    for category in topics:
        asked = TOPICS.size(category)
        right = int(rng.integers(asked + 1))
        new = int(rng.integers(right + 1))
        counts.append(TopicAnswers(category=category, asked=asked, right=right, new=new))
    return tuple(counts)


def report(directive_id: str, topics: Sequence[int] | None = None) -> StudentReport:
    """What a student reports that has learned."""
    if topics is None:
        return StudentReport(outcome="learned", reward=reward(directive_id), kilobytes=1.0)
    counts = answers(directive_id, topics)
    worth = NewAnswers().worth(counts, TOPICS)
    return StudentReport(outcome="learned", reward=worth, kilobytes=1.0, answers=counts)


class Harness:
    """A coordinator and what is on its disk."""

    def __init__(self, *, mutual: bool = False, routed: bool = False, **changes: Any) -> None:
        self.mutual, self.routed = mutual, routed
        if routed:
            changes["reward"] = NewAnswers()
        self.clock, self.rows, self.saved = Moved(), list[ExchangeRow](), dict[str, Any]()
        self.prepared = dict[str, int]()
        self.config = coordinator_config(**changes)
        self.coordinator = self._new()

    def _new(self) -> Coordinator:
        made = cpm(mutual=self.mutual, routed=self.routed)
        return Coordinator(self.config, made, now=self.clock, save=self._save)

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
        """Let students report of these directives (or all), each of its own together."""
        reports = dict[str, dict[str, StudentReport]]()
        for id_ in ids or list(self.coordinator.assignments):
            assignment = self.coordinator.assignments[id_]
            told = report(id_, assignment.directive.topics)
            told = told if outcome == "learned" else StudentReport(outcome=outcome)
            reports.setdefault(assignment.student, {})[id_] = told
        for student, mine in reports.items():
            self.coordinator.submit_feedback(student, "1", mine)

    def wait(self, seconds: float, *alive: str) -> None:
        """Let time pass; those who are alive say so every second."""
        for _ in range(int(seconds)):
            self.clock.time += 1.0
            for name in alive:
                self.coordinator.beat(name, "1")
        self.coordinator.tick()


def expected_rows(
    num_rounds: int = 3, *, mutual: bool = False, routed: bool = False
) -> list[tuple[Any, ...]]:
    """The same rounds without a network, as ``told`` tells them."""
    matchmaker, found = cpm(mutual=mutual, routed=routed), []
    for number in range(1, num_rounds + 1):
        profiles_NF = np.array([profile(f"a{i}", number) for i in range(4)])
        plan = matchmaker.propose(number, profiles_NF, rng=derive_rng(5, "matchmaker", number))
        told = [report(d.id, d.topics) for d in plan]
        feedbacks = [
            Feedback(directive_id=d.id, reward=r.reward, answers=r.answers)
            for d, r in zip(plan, told, strict=True)
        ]
        normalised = matchmaker.receive(feedbacks)
        found += [
            (d.id, d.teachers, d.students, f.reward, value, d.topics, _new(f))
            for d, f, value in zip(plan, feedbacks, normalised, strict=True)
        ]
    return found


def _new(feedback: Feedback) -> int | None:
    return sum(each.new for each in feedback.answers) if feedback.answers else None


def told(rows: Sequence[ExchangeRow]) -> list[tuple[Any, ...]]:
    """Id, teachers, students, raw and normalised reward, topics and new answers of each row."""
    return [
        (
            *(row.id, row.teachers, row.students, row.reward_raw, row.reward_normalised),
            *(row.topics, row.answers_new),
        )
        for row in rows
    ]
