"""The event scheduler: a virtual clock, the free agents, the directives in flight.

Nothing here measures time: the duration of updates, learning and packages is computed from tokens,
kilobytes and the agents' speeds, so equal runs have equal clocks. An agent is busy from its update
to the end of its exchange. A directive in flight holds no results; they are computed from states
that do not change until it ends. Axes: N agents.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from math import ceil
from typing import Any, Literal

import numpy as np

from knexa.agents.exchange_protocol import NOTHING_FOUND, summed
from knexa.federation.simulated_network.faults import Faults, Schedule
from knexa.federation.simulated_network.in_flight import (
    AwaitedPackages,
    InFlight,
    LateCopy,
    Outcome,
    Sent,
    send,
    without,
)
from knexa.federation.world import Package, Trial
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.plans import Directive, Plan


@dataclass(frozen=True, kw_only=True)
class Sync:
    """When a round ends.

    Attributes:
        mode: ``lockstep``: when all directives have ended. ``async``: when a quorum of them has, or
            a timer has run out.
        quorum: A share of the directives in flight.
        timer_s: The timer, in virtual seconds.
    """

    mode: Literal["lockstep", "async"] = "lockstep"
    quorum: float = 0.5
    timer_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """The agents present at the beginning of a round, and those of them that are free."""

    present_N: Mask
    free_N: Mask

    @property
    def active(self) -> Mask | None:
        """The agents that may take part, active_N; None is all."""
        return None if self.free_N.all() else self.free_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """The directives that ended in a round, in their plans' order, and the copies ignored."""

    ended: tuple[InFlight, ...]
    ignored: dict[int, int] = field(default_factory=dict)
    clock_s: float

    def delivered(self) -> list[tuple[int, Plan]]:
        """Return the directives that take effect, by the round of their plan."""
        by_round: dict[int, list[Directive]] = defaultdict(list)
        for flight in self.ended:
            if flight.outcome == "delivered":
                by_round[flight.issued_round].append(flight.directive)
        return [(number, tuple(plan)) for number, plan in sorted(by_round.items())]


class EventScheduler:
    """Sends the packages of plans and determines when directives take effect.

    A round is: ``begin_round``, ``send``, ``schedule``, ``end_round``.
    """

    def __init__(self, *, faults: Faults, sync: Sync, seed: int, num_agents: int) -> None:
        self.faults, self.sync, self.num_agents = faults, sync, num_agents
        self.fault_schedule = Schedule(faults, seed, num_agents)
        self._speeds_N, self._links_N = self.fault_schedule.speeds(), self.fault_schedule.links()
        self.clock_s = 0.0
        self._ready_N: Array = np.zeros(num_agents)
        self._groups: list[list[InFlight]] = []
        self._awaited, self._late_copies = AwaitedPackages(), list[LateCopy]()
        self._dropped: list[InFlight] = []

    def attendance(self, round_number: int) -> Attendance:
        """Return who is present, and who of them is free."""
        present_N = self.fault_schedule.present(round_number)
        free_N = present_N & (self._ready_N <= self.clock_s)
        free_N[sorted(self._flying)] = False
        return Attendance(present_N=present_N, free_N=free_N)

    @property
    def _flying(self) -> set[int]:
        """The agents that directives in flight keep busy."""
        return set(self._agents_of([flight for group in self._groups for flight in group]))

    def begin_round(self, round_number: int) -> Attendance:
        """Drop the directives of agents that have left, and return who takes part."""
        present_N = self.fault_schedule.present(round_number)
        absent = frozenset(np.flatnonzero(~present_N).tolist())
        self._dropped, groups = [], []
        for group in self._groups:
            broken = [flight for flight in group if self._is_broken(flight, absent)]
            self._dropped += [
                replace(
                    flight,
                    outcome="dropped",
                    finished_s=self.clock_s,
                    faults={**flight.faults, "left": 1},
                )
                for flight in broken
            ]
            # The others take effect at a round's end, from states that do not change until then.
            others = [flight for flight in group if flight not in broken]
            groups += [others] if others else []
            if broken:  # whoever is still in flight stays busy by that
                agents = self._agents_of(group)
                self._ready_N[agents] = np.minimum(self._ready_N[agents], self.clock_s)
        self._groups = groups
        # A teacher that left while its package is being learned from stays busy until the end.
        idle_N = ~present_N
        idle_N[sorted(self._flying)] = False
        self._ready_N[idle_N] = self.clock_s
        return self.attendance(round_number)

    def _is_broken(self, flight: InFlight, absent: frozenset[int]) -> bool:
        """Return whether an absent agent is still needed; teachers only until packages arrive."""
        directive = flight.directive
        still_needed = set(directive.students)
        if flight.arrived_s is None or flight.arrived_s > self.clock_s:
            still_needed.update(directive.teachers)
        return bool(still_needed & absent)

    # Sending

    def send(
        self,
        round_number: int,
        plan: Plan,
        attendance: Attendance,
        *,
        packages: Mapping[str, Mapping[int, Package]],
        update_tokens: Sequence[int],
    ) -> list[InFlight]:
        """Send the plan's packages after the agents' updates; the clock does not move yet.

        Args:
            round_number: The round.
            plan: Its plan.
            attendance: As ``begin_round`` returned it.
            packages: What is sent, by directive and teacher.
            update_tokens: Tokens that each agent trained on in its update.

        Returns:
            Every directive with the outcome of its packages, before learning is timed.
        """
        seconds_N = np.array(update_tokens) / (self.faults.train_tokens_s * self._speeds_N)
        free_N = attendance.free_N
        self._ready_N[free_N] = self.clock_s + seconds_N[free_N]
        leaving = self.fault_schedule.leaving(round_number)
        sent_before: Counter[int] = Counter()
        return [
            self._send(round_number, index, directive, packages, leaving, sent_before)
            for index, directive in enumerate(plan)
        ]

    def schedule(self, sent: Sequence[InFlight], trials: Sequence[Trial]) -> None:
        """Put the directives in flight; the trials' tokens determine how long learning takes."""
        tokens = {i: count for trial in trials for i, count in trial.learning_tokens.items()}
        for group in _together(sent):
            timed = [self._timed(flight, tokens) for flight in group]
            self._groups.append(timed)
            busy = self._agents_of(timed)
            end = max(flight.finished_s for flight in timed)
            self._ready_N[busy] = np.maximum(self._ready_N[busy], end)

    def _send(
        self,
        round_number: int,
        index: int,
        directive: Directive,
        packages: Mapping[str, Mapping[int, Package]],
        leaving: frozenset[int],
        sent_before: Counter[int],
    ) -> InFlight:
        """Return the directive with the outcome of its packages, before learning is timed."""
        carried, packages_by_teacher = without(directive, leaving), packages[directive.id]
        sent: dict[int, Sent] = {}
        student = min((i for i in carried.students if i < self.num_agents), default=None)
        for teacher in carried.teachers if student is not None else ():
            package = packages_by_teacher[teacher]
            rate = self.faults.generate_tokens_s * self._speed(teacher)
            copies = self.fault_schedule.copies(round_number, teacher, sent_before[teacher])
            sent_before[teacher] += 1
            link = min(self._link(teacher), min(self._link(i) for i in carried.students))
            sent[teacher] = send(
                package,
                copies,
                self._awaited,
                directive_id=directive.id,
                teacher=teacher,
                student=student if student is not None else teacher,
                sent_s=self._ready(teacher) + package.tokens_generated / rate,
                travel_s=self.faults.latency_s + package.kilobytes / link,
                timeout_s=self.faults.timeout_s,
            )
            self._late_copies += sent[teacher].late_copies
        arrived = tuple(t for t, outcome in sent.items() if outcome.arrived_s is not None)
        missing = sorted(set(sent).difference(arrived))
        faults = sum((outcome.faults for outcome in sent.values()), Counter[str]())
        involved = {*directive.teachers, *directive.students}
        faults["left"] += len(involved & leaving)
        arrivals = [s.arrived_s for s in sent.values() if s.arrived_s is not None]
        uploads = [packages_by_teacher[teacher] for teacher in sent]
        return InFlight(
            directive=replace(carried, teachers=arrived) if arrived else directive,
            agents=tuple(sorted(involved)),
            index=index,
            outcome=_outcome(sent),
            issued_round=round_number,
            issued_s=self.clock_s,
            arrived_s=max(arrivals, default=None),
            finished_s=max(
                (s.known_s for s in sent.values()), default=self.clock_s + self.faults.timeout_s
            ),
            kilobytes=sum(package.kilobytes for package in uploads),
            kilobytes_missed=sum(packages_by_teacher[teacher].kilobytes for teacher in missing),
            items_sent=sum(package.items_sent for package in uploads),
            guardrail=summed([NOTHING_FOUND, *(package.guardrail for package in uploads)]),
            faults={kind: count for kind, count in sorted(faults.items()) if count},
        )

    def _timed(self, flight: InFlight, tokens: dict[int, int]) -> InFlight:
        """Return the flight, finished when its last student has learned."""
        if flight.arrived_s is None or flight.outcome != "delivered":
            return flight
        arrived_s, rate = flight.arrived_s, self.faults.train_tokens_s
        ends = [
            max(arrived_s, self._ready(i)) + tokens.get(i, 0) / (rate * self._speed(i))
            for i in flight.directive.students
        ]
        return replace(flight, finished_s=max(ends))

    def _agents_of(self, flights: Sequence[InFlight]) -> list[int]:
        """Return the agents that the flights keep busy; servers are always free."""
        return sorted({i for t in flights for i in t.agents if i < self.num_agents})

    # Servers follow the agents, are always there, and are as fast as a machine at full speed.

    def _ready(self, agent: int) -> float:
        return float(self._ready_N[agent]) if agent < self.num_agents else self.clock_s

    def _speed(self, agent: int) -> float:
        return float(self._speeds_N[agent]) if agent < self.num_agents else 1.0

    def _link(self, agent: int) -> float:
        return float(self._links_N[agent]) if agent < self.num_agents else self.faults.link_kb_s

    # Time passes

    def end_round(self, attendance: Attendance, *, last: bool) -> Arrivals:
        """Move the clock to the round's end and return what ended; the last round waits for all."""
        self.clock_s = max(self.clock_s, self._round_end(attendance, last))
        ended = sorted(
            [*self._dropped, *self._land(self.clock_s)], key=lambda t: (t.issued_round, t.index)
        )
        self._dropped = []
        here = [copy for copy in self._late_copies if copy.arrives_s <= self.clock_s]
        self._late_copies = [copy for copy in self._late_copies if copy.arrives_s > self.clock_s]
        ignored = Counter(
            copy.student for copy in here if not self._awaited.take(copy.address, copy.digest)
        )
        for flight in ended:
            self._awaited.close(flight.directive.id)
        return Arrivals(ended=tuple(ended), ignored=dict(ignored), clock_s=self.clock_s)

    def _round_end(self, attendance: Attendance, last: bool) -> float:
        ends = sorted((max(f.finished_s for f in group), len(group)) for group in self._groups)
        if last or self.sync.mode == "lockstep":
            idle = [float(at) for at in self._ready_N[attendance.free_N]]
            return max([*idle, *(end for end, _ in ends)], default=self.clock_s)
        timer = self.clock_s + self.sync.timer_s
        if not ends:
            idle = [float(at) for at in self._ready_N[attendance.present_N]]
            return min(max(idle, default=timer), timer)
        needed = max(1, ceil(self.sync.quorum * sum(size for _, size in ends)))
        done = 0
        for end, size in ends:
            done += size
            if done >= needed:
                return min(end, timer)
        return timer

    def _land(self, until_s: float) -> list[InFlight]:
        """Remove and return the directives whose whole group has ended."""
        landed: list[InFlight] = []
        flying: list[list[InFlight]] = []
        for group in self._groups:
            if max(flight.finished_s for flight in group) <= until_s:
                landed += group
            else:
                flying.append(group)
        self._groups = flying
        return landed

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the clock and what is in flight."""
        return {
            "clock_s": self.clock_s,
            "ready": self._ready_N,
            "groups": [[flight.state_dict() for flight in group] for group in self._groups],
            "awaited": self._awaited.digests,
            "late_copies": [list(astuple(copy)) for copy in self._late_copies],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.clock_s = float(state["clock_s"])
        self._ready_N = np.array(state["ready"], dtype=np.float64)
        self._groups = [[InFlight.from_state(f) for f in group] for group in state["groups"]]
        awaited = {id_: dict(digests) for id_, digests in state["awaited"].items()}
        self._awaited = AwaitedPackages(awaited)
        self._late_copies = [LateCopy(*copy) for copy in state["late_copies"]]
        self._dropped = []


def _together(flights: Sequence[InFlight]) -> list[list[InFlight]]:
    """Group the flights that share agents, so that they take effect at the same time.

    Otherwise the first exchange of a mutual pair would change the states that the second is
    computed from.
    """
    group_of: dict[int, list[InFlight]] = {}
    for flight in flights:
        known = {id(g): g for agent in flight.agents if (g := group_of.get(agent)) is not None}
        group, *others = known.values() or [[]]
        added = [*(member for other in others for member in other), flight]
        group += added
        group_of |= {agent: group for member in added for agent in member.agents}
    return list({id(group): group for group in group_of.values()}.values())


def _outcome(sent: dict[int, Sent]) -> Outcome:
    if not sent:
        return "dropped"
    if any(outcome.arrived_s is not None for outcome in sent.values()):
        return "delivered"
    return "refused" if any(outcome.damaged for outcome in sent.values()) else "lost"
