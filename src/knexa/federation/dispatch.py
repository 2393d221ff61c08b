"""When things happen: the virtual clock, who is free, what is under way, and what has come of it.

Nothing here measures time. An update, a lesson and a package take as long as their tokens and
kilobytes take at the agents' speeds and links, so equal runs have equal clocks. An agent is busy
from its update to the end of its exchange; what is under way holds no results, since the states it
is computed from stay as they are until it ends. Axes: N agents.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from math import ceil
from typing import Any, Literal

import numpy as np

from knexa.federation.faults import Faults, Schedule
from knexa.federation.transit import Inbox, Outcome, Sent, Stray, Transit, send, without
from knexa.federation.world import Package, World
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.base import Directive, Plan


@dataclass(frozen=True, kw_only=True)
class Sync:
    """When a round ends.

    Attributes:
        mode: ``lockstep``: when everything that was begun has ended. ``async``: when enough of it
            has, or a timer has run out.
        quorum: Enough, as a share of the directives under way.
        timer_s: The timer, in virtual seconds.
    """

    mode: Literal["lockstep", "async"] = "lockstep"
    quorum: float = 0.5
    timer_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """Who is there at the beginning of a round, and who of them is free."""

    present_N: Mask
    free_N: Mask

    @property
    def active(self) -> Mask | None:
        """Who may take part, active_N; None is everybody."""
        return None if self.free_N.all() else self.free_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """What ended in a round: transits in the order of their plans, and copies that were ignored."""

    ended: tuple[Transit, ...]
    ignored: dict[int, int] = field(default_factory=dict)
    clock_s: float

    def delivered(self) -> list[tuple[int, list[Transit]]]:
        """Return the transits that take effect, by the round whose plan they are from."""
        by_round: dict[int, list[Transit]] = defaultdict(list)
        for transit in self.ended:
            if transit.outcome == "delivered":
                by_round[transit.issued_round].append(transit)
        return sorted(by_round.items())


class Dispatch:
    """Sends plans out and says what has come back, round by round.

    A round is: ``begin_round``, ``issue``, ``end_round``.
    """

    def __init__(self, *, faults: Faults, sync: Sync, seed: int, num_agents: int) -> None:
        self.faults, self.sync, self.num_agents = faults, sync, num_agents
        self.schedule = Schedule(faults, seed, num_agents)
        self._speeds_N, self._links_N = self.schedule.speeds(), self.schedule.links()
        self.clock_s = 0.0
        self._ready_N: Array = np.zeros(num_agents)
        self._flights: list[list[Transit]] = []
        self._inbox, self._strays = Inbox(), list[Stray]()
        self._dropped: list[Transit] = []

    def attendance(self, round_number: int) -> Attendance:
        """Return who is there and free; busy agents that have left are neither."""
        present_N = self.schedule.present(round_number)
        return Attendance(present_N=present_N, free_N=present_N & (self._ready_N <= self.clock_s))

    def begin_round(self, round_number: int) -> Attendance:
        """Give up what agents that have left were busy with, and return who takes part."""
        present_N = self.schedule.present(round_number)
        absent = frozenset(np.flatnonzero(~present_N).tolist())
        self._dropped = []
        for flight in self._flights:
            for place, transit in enumerate(flight):
                if self._is_broken(transit, absent):
                    flight[place] = replace(
                        transit,
                        outcome="dropped",
                        finished_s=self.clock_s,
                        faults={**transit.faults, "left": 1},
                    )
        self._dropped = self._land(self.clock_s)
        released = self._agents_of(self._dropped)
        self._ready_N[released] = np.minimum(self._ready_N[released], self.clock_s)
        # Who left while its package was being learned from stays busy: the lesson is not over.
        idle_N = ~present_N
        idle_N[self._agents_of([t for flight in self._flights for t in flight])] = False
        self._ready_N[idle_N] = self.clock_s
        return self.attendance(round_number)

    def _is_broken(self, transit: Transit, absent: frozenset[int]) -> bool:
        """Return whether the transit needs somebody who is absent: a teacher until it has sent."""
        directive = transit.directive
        still_needed = set(directive.students)
        if transit.arrived_s is None or transit.arrived_s > self.clock_s:
            still_needed.update(directive.teachers)
        return bool(still_needed & absent)

    # Sending

    def issue(self, round_number: int, plan: Plan, world: World, attendance: Attendance) -> None:
        """Send the round's plan out; virtual time passes in ``end_round``."""
        seconds_N = np.array(world.update_tokens()) / (self.faults.train_tokens_s * self._speeds_N)
        free_N = attendance.free_N
        self._ready_N[free_N] = self.clock_s + seconds_N[free_N]
        packages, leaving = world.packages(round_number, plan), self.schedule.leaving(round_number)
        sent_before: Counter[int] = Counter()
        transits = []
        for index, directive in enumerate(plan):
            transit = self._send(round_number, index, directive, packages, leaving, sent_before)
            transits.append(transit)
        going = [transit for transit in transits if transit.outcome == "delivered"]
        tokens = world.learning_tokens(round_number, tuple(t.directive for t in going))
        for flight in _together(transits):
            timed = [self._timed(transit, tokens) for transit in flight]
            self._flights.append(timed)
            busy = self._agents_of(timed)
            end = max(t.finished_s for t in timed)
            self._ready_N[busy] = np.maximum(self._ready_N[busy], end)

    def _send(
        self,
        round_number: int,
        index: int,
        directive: Directive,
        packages: dict[int, Package],
        leaving: frozenset[int],
        sent_before: Counter[int],
    ) -> Transit:
        """Return the directive with what became of its packages; when it ends is not known yet."""
        carried = without(directive, leaving)
        sent: dict[int, Sent] = {}
        student = min((i for i in carried.students if i < self.num_agents), default=None)
        for teacher in carried.teachers if student is not None else ():
            package, rate = packages[teacher], self.faults.generate_tokens_s * self._speed(teacher)
            copies = self.schedule.copies(round_number, teacher, sent_before[teacher])
            sent_before[teacher] += 1
            link = min(self._link(teacher), min(self._link(i) for i in carried.students))
            sent[teacher] = send(
                package,
                copies,
                self._inbox,
                directive_id=directive.id,
                teacher=teacher,
                student=student if student is not None else teacher,
                sent_s=self._ready(teacher) + package.tokens_generated / rate,
                travel_s=self.faults.latency_s + package.kilobytes / link,
                timeout_s=self.faults.timeout_s,
            )
            self._strays += sent[teacher].strays
        missing = frozenset(t for t, outcome in sent.items() if outcome.arrived_s is None)
        faults = sum((outcome.faults for outcome in sent.values()), Counter[str]())
        involved = {*directive.teachers, *directive.students}
        faults["left"] += len(involved & leaving)
        arrivals = [s.arrived_s for s in sent.values() if s.arrived_s is not None]
        uploads = [packages[teacher] for teacher in sent]
        return Transit(
            directive=replace(
                carried, teachers=tuple(t for t in carried.teachers if t not in missing)
            )
            if arrivals
            else directive,
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
            kilobytes_missed=sum(packages[teacher].kilobytes for teacher in sorted(missing)),
            items_sent=sum(package.items_sent for package in uploads),
            guardrail=_summed(uploads),
            faults={kind: count for kind, count in sorted(faults.items()) if count},
        )

    def _timed(self, transit: Transit, tokens: dict[int, int]) -> Transit:
        """Return the transit with the time at which its last student has learned."""
        if transit.arrived_s is None or transit.outcome != "delivered":
            return transit
        arrived_s, rate = transit.arrived_s, self.faults.train_tokens_s
        ends = [
            max(arrived_s, self._ready(i)) + tokens.get(i, 0) / (rate * self._speed(i))
            for i in transit.directive.students
        ]
        return replace(transit, finished_s=max(ends))

    def _agents_of(self, transits: Sequence[Transit]) -> list[int]:
        """Return the agents that the transits keep busy; servers are never too busy."""
        return sorted({i for t in transits for i in t.agents if i < self.num_agents})

    # Servers follow the agents, are always there, and are as fast as a machine at full speed.

    def _ready(self, agent: int) -> float:
        return float(self._ready_N[agent]) if agent < self.num_agents else self.clock_s

    def _speed(self, agent: int) -> float:
        return float(self._speeds_N[agent]) if agent < self.num_agents else 1.0

    def _link(self, agent: int) -> float:
        return float(self._links_N[agent]) if agent < self.num_agents else self.faults.link_kb_s

    # Time passes

    def end_round(self, attendance: Attendance, *, last: bool) -> Arrivals:
        """Move the clock to the round's end and return what has ended; ``last`` waits for all."""
        self.clock_s = max(self.clock_s, self._round_end(attendance, last))
        ended = sorted(
            [*self._dropped, *self._land(self.clock_s)], key=lambda t: (t.issued_round, t.index)
        )
        self._dropped = []
        here = [stray for stray in self._strays if stray.arrives_s <= self.clock_s]
        self._strays = [stray for stray in self._strays if stray.arrives_s > self.clock_s]
        ignored = Counter(
            stray.student for stray in here if not self._inbox.take(stray.address, stray.digest)
        )
        for transit in ended:
            self._inbox.close(transit.directive.id)
        return Arrivals(ended=tuple(ended), ignored=dict(ignored), clock_s=self.clock_s)

    def _round_end(self, attendance: Attendance, last: bool) -> float:
        ends = sorted((max(t.finished_s for t in flight), len(flight)) for flight in self._flights)
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

    def _land(self, until_s: float) -> list[Transit]:
        """Take the flights that have ended out of the air."""
        landed: list[Transit] = []
        flying: list[list[Transit]] = []
        for flight in self._flights:
            if max(transit.finished_s for transit in flight) <= until_s:
                landed += flight
            else:
                flying.append(flight)
        self._flights = flying
        return landed

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the clock and what is under way."""
        return {
            "clock_s": self.clock_s,
            "ready": self._ready_N,
            "flights": [[transit.state_dict() for transit in f] for f in self._flights],
            "awaited": self._inbox.awaited,
            "strays": [list(astuple(stray)) for stray in self._strays],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.clock_s = float(state["clock_s"])
        self._ready_N = np.array(state["ready"], dtype=np.float64)
        self._flights = [[Transit.from_state(t) for t in flight] for flight in state["flights"]]
        self._inbox = Inbox({id_: dict(digests) for id_, digests in state["awaited"].items()})
        self._strays = [Stray(*stray) for stray in state["strays"]]
        self._dropped = []


def _together(transits: Sequence[Transit]) -> list[list[Transit]]:
    """Group the transits that share agents: two peers that teach each other end as one.

    Otherwise the first of the two exchanges would change what the second is computed from.
    """
    groups: list[tuple[set[int], list[Transit]]] = []
    group_of: dict[int, int] = {}
    for transit in transits:
        known = [group_of[agent] for agent in transit.agents if agent in group_of]
        place = known[0] if known else len(groups)
        if not known:
            groups.append((set(), []))
        for other in sorted(set(known[1:]) - {place}):
            agents, moved = groups[other]
            groups[place][0].update(agents)
            groups[place][1].extend(moved)
            group_of.update(dict.fromkeys(agents, place))
            groups[other] = (set(), [])
        groups[place][0].update(transit.agents)
        groups[place][1].append(transit)
        group_of.update(dict.fromkeys(transit.agents, place))
    return [members for _, members in groups if members]


def _outcome(sent: dict[int, Sent]) -> Outcome:
    if not sent:
        return "dropped"
    if any(outcome.arrived_s is not None for outcome in sent.values()):
        return "delivered"
    return "refused" if any(outcome.damaged for outcome in sent.values()) else "lost"


def _summed(packages: Sequence[Package]) -> dict[str, int]:
    total = {"blocked": 0, "redacted": 0, "counted": 0}
    for package in packages:
        for kind, count in package.guardrail.items():
            total[kind] = total.get(kind, 0) + count
    return total
