"""Coordinates the rounds: which agents are alive, what each is to do, what they report.

A round first gathers profiles, then exchanges packages. Nothing here knows of gRPC or waits: calls
come with the caller's name, which the transport read from its certificate, and time comes from
``now``. State is saved before anybody is told of it. A round's feedback reaches the CPM when the
round ends, in the order of its plan, as in a local run, so the results are equal.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any, Final, Literal

import numpy as np

from knexa.errors import UserError
from knexa.matchmaking.cpm import CPM, check_profiles
from knexa.matchmaking.plans import Directive, Feedback
from knexa.network.assignments import (
    Assignment,
    CoordinatorConfig,
    Member,
    Order,
    row_of_assignment,
)
from knexa.network.refusals import RefusedError
from knexa.network.reports import StudentReport, check_report
from knexa.network.timing import Liveness
from knexa.seeding import derive_rng
from knexa.tracking.rows import ExchangeRow

log = logging.getLogger(__name__)

Phase = Literal["gather", "exchange", "finished"]
_MAX_INCARNATION: Final = 64  # of hex
_ADDRESS: Final = re.compile(r"(?=.{1,255}\Z)([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
"""A host and a port: gRPC would take names of other kinds, such as a teacher's own sockets."""


class Coordinator:
    """The rounds of one federation. Not thread-safe: the caller holds a lock.

    Args:
        config: Its settings.
        cpm: The matchmaker.
        now: A monotonic clock, in seconds.
        save: Writes ``state_dict()`` and new rows of exchanges.jsonl durably.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        cpm: CPM,
        *,
        now: Callable[[], float],
        save: Callable[["Coordinator", Sequence[ExchangeRow]], None],
    ) -> None:
        self.config, self.cpm = config, cpm
        self._now, self._save = now, save
        self._liveness = Liveness(config.heartbeat_policy)
        self.members: dict[str, Member] = {}
        self.assignments: dict[str, Assignment] = {}
        self.round = 1
        self.phase: Phase = "gather"
        self._began_s = now()
        self._informed: set[str] = set()

    def register(
        self, name: str, *, address: str, incarnation: str, agreement: str, profile: Sequence[float]
    ) -> None:
        """Register an agent, or a restarted process of one.

        Raises:
            RefusedError: It is not on the roster, is configured otherwise, or its profile is bad.
        """
        self._check_known(name)
        if agreement != self.config.agreement:
            raise RefusedError("disagreement", f"{name} runs another configuration than the cpm")
        if _ADDRESS.fullmatch(address) is None:
            raise RefusedError("malformed", "an address is HOST:PORT, of at most 255 characters")
        if len(incarnation) > _MAX_INCARNATION:
            raise RefusedError("malformed", "an incarnation has at most 32 bytes")
        checked, known = self._checked(profile), self.members.get(name)
        self._liveness.arrive(name, self._now())
        if known is None:
            self.members[name] = Member(address=address, incarnation=incarnation, profile=checked)
        elif known.incarnation != incarnation:
            known.address, known.incarnation = address, incarnation
            for assignment in self._open(name):
                if assignment.student == name:
                    assignment.attempt, assignment.received = assignment.attempt + 1, False
        self._save(self, ())
        self.tick()

    def beat(self, name: str, incarnation: str) -> None:
        """Note an agent's heartbeat.

        Raises:
            RefusedError: It has not registered, or a newer process of it has.
        """
        self._member(name, incarnation)
        self._liveness.beat(name, self._now())

    def order(
        self, name: str, incarnation: str, prepared_round: int, received: Sequence[str]
    ) -> Order:
        """Return the agent's next order, given what it has done.

        Raises:
            RefusedError: It has not registered, or a newer process of it has.
        """
        member = self._member(name, incarnation)
        for assignment in self._open(name):
            if assignment.student == name and assignment.directive.id in received:
                assignment.received = True
        self.tick()
        if prepared_round < member.prepared_round and self.phase != "finished":
            # It restarted from an older checkpoint, and must not teach from that state.
            return Order(kind="prepare", round=member.prepared_round, results=dict(member.results))
        busy = self._open(name)
        assignments = tuple(e for e in busy if e.student == name or not e.received)
        if assignments:
            return Order(kind="exchange", round=self.round, assignments=assignments)
        if busy:
            return Order(kind="wait", round=self.round)  # its student is still learning
        if self.phase == "finished":
            self._informed.add(name)
            return Order(kind="finished", round=self.round, results=dict(member.results))
        # A profile lost in a restart is asked for again; the agent sends the same one.
        if self.phase == "gather" and member.prepared_round < self.round:
            return Order(kind="prepare", round=self.round, results=dict(member.results))
        return Order(kind="wait", round=self.round)

    def submit_profile(
        self,
        name: str,
        incarnation: str,
        round_number: int,
        profile: Sequence[float],
        noted: Sequence[str],
        missing: Sequence[int] = (),
    ) -> None:
        """Accept a round's profile, and the places of the transfer problems that the agent lacks.

        One that is late for its round is ignored.

        Raises:
            RefusedError: The agent has not registered, a newer process of it has, or the profile
                is invalid.
        """
        member = self._member(name, incarnation)
        checked = self._checked(profile)
        self._check_missing(missing)
        for id_ in noted:
            member.results.pop(id_, None)
        if round_number == self.round and self.phase == "gather":
            member.profile, member.prepared_round = checked, round_number
            member.missing = list(missing)
        self.tick()

    def submit_feedback(
        self, name: str, incarnation: str, reports: Mapping[str, StudentReport]
    ) -> bool:
        """Accept, all or none, what a student reports of directives that it learned from together.

        Returns:
            Whether what it learned counts. If any of the directives was given up, no report is
            accepted: the student learns again from those that are still open.

        Raises:
            RefusedError: The agent has not registered, a newer process of it has, it is not the
                student, it reported differently before, or a report is implausible.
        """
        member = self._member(name, incarnation)
        if not reports:
            raise RefusedError("feedback", "it reports of no directive")
        for id_, report in reports.items():
            if (assignment := self.assignments.get(id_)) is not None:
                self._check_report(name, assignment, report)
        learned = [id_ for id_, report in reports.items() if report.outcome == "learned"]
        answered = [self.assignments.get(id_) for id_ in reports]
        is_open = [each is not None and each.report is None for each in answered]
        if not all(is_open):  # a repeated call, or directives that were given up
            return bool(learned) and not any(is_open) and set(learned) <= set(member.learned)
        for id_, report in reports.items():
            self.assignments[id_].report = report
        member.learned = learned
        self._save(self, ())
        self.tick()
        return bool(learned)

    def tick(self) -> bool:
        """Advance round and phase where that is due; return whether they changed."""
        before = (self.round, self.phase)
        self._give_up()
        if self.phase == "gather" and self._is_gathered():
            self._issue()
        if self.phase == "exchange" and self._is_exchanged():
            self._end_round()
        return before != (self.round, self.phase)

    @property
    def is_over(self) -> bool:
        """Whether the last round is over and every live agent was told so."""
        if self.phase != "finished":
            return False
        return all(name in self._informed for name in self.members if self._is_alive(name))

    def _is_alive(self, name: str) -> bool:
        return self._liveness.is_alive(name, self._now())

    def _is_gathered(self) -> bool:
        """Return whether to begin the exchange: all live agents are ready, or the timer ended."""
        idle = [name for name in self.config.names if not any(self._open(name))]
        ready = [name for name in idle if self._is_ready(name)]
        if len(ready) < 2:
            return False  # no pair is possible: wait for absent or busy agents
        if self._is_time_up():
            return True
        newcomers = [n for n in idle if n not in self.members] if self.round == 1 else []
        awaited = [*newcomers, *(name for name in idle if self._is_alive(name))]
        return len(ready) == len(awaited)

    def _is_time_up(self) -> bool:
        """Return whether the timer of ``sync.mode=async`` has ended this phase of the round."""
        sync = self.config.sync
        return sync.mode == "async" and self._now() - self._began_s >= sync.timer_s

    def _is_ready(self, name: str) -> bool:
        member = self.members.get(name)
        return member is not None and member.prepared_round == self.round and self._is_alive(name)

    def _issue(self) -> None:
        """Issue the directives of the round's plan."""
        names = self.config.names
        available_N = np.array([self._is_ready(n) and not any(self._open(n)) for n in names])
        unknown = [0.0] * self.config.num_features
        profiles_NF = np.array(
            [self.members[n].profile if n in self.members else unknown for n in names]
        )
        plan = self.cpm.propose(
            self.round,
            profiles_NF,
            rng=derive_rng(self.config.seed, "matchmaker", self.round),
            available_N=None if available_N.all() else available_N,
        )
        for index, directive in enumerate(plan):
            if directive.pair is None:
                raise UserError(
                    f"{type(self.cpm.matchmaker).__name__}.propose: over a network a directive has "
                    "one teacher and one student; give each of them a directive of its own"
                )
            teacher, student = directive.pair
            self.assignments[directive.id] = Assignment(
                directive=directive,
                round=self.round,
                index=index,
                teacher=names[teacher],
                student=names[student],
                missing=self._asked(directive, names[student]),
                issued_s=self._now(),
            )
        self.phase, self._began_s = "exchange", self._now()
        self._save(self, ())
        log.info("round %d: %d directives to %d agents", self.round, len(plan), available_N.sum())

    def _asked(self, directive: Directive, student: str) -> tuple[int, ...] | None:
        """Return the transfer problems that the student asks about; None is all of the topics'."""
        categories, topics = self.config.categories, directive.topics
        if categories is None:
            return None
        missing = self.members[student].missing
        return tuple(each for each in missing if topics is None or categories[each] in topics)

    def _give_up(self) -> None:
        """Close directives whose agents are gone or whose time is up."""
        for assignment in self.assignments.values():
            if assignment.report is not None:
                continue
            teaches = assignment.received or self._is_alive(assignment.teacher)
            if not teaches or not self._is_alive(assignment.student):
                assignment.report = StudentReport(outcome="dropped")
            elif self._now() - assignment.issued_s > self.config.exchange_s:
                assignment.report = StudentReport(outcome="lost")

    def _is_exchanged(self) -> bool:
        sync = self.config.sync
        settled = sum(assignment.report is not None for assignment in self.assignments.values())
        if sync.mode == "lockstep" or self.round == self.config.num_rounds:
            return settled == len(self.assignments)
        return (
            self._is_time_up()
            or settled >= max(1, ceil(sync.quorum * len(self.assignments)))
            or not self.assignments
        )

    def _end_round(self) -> None:
        """Give the matchmaker the reports in the order of the plans; begin the next round."""
        ended = sorted(
            (e for e in self.assignments.values() if e.report), key=lambda e: (e.round, e.index)
        )
        taken = [(e, e.report) for e in ended if e.report and e.report.outcome == "learned"]
        feedbacks = [
            Feedback(directive_id=e.directive.id, reward=a.reward, answers=a.answers)
            for e, a in taken
        ]
        rewards = self.cpm.receive(feedbacks)
        normalised = {f.directive_id: r for f, r in zip(feedbacks, rewards, strict=True)}
        rows = []
        for assignment in ended:
            id_, report = assignment.directive.id, assignment.report
            assert report is not None
            if id_ not in normalised:
                self.cpm.expire(id_, report.outcome)
            else:
                self.members[assignment.teacher].results[id_] = {
                    "reward": report.reward,
                    "items_kept": report.items_kept,
                }
            rows.append(row_of_assignment(self.round, assignment, report, normalised.get(id_)))
            del self.assignments[id_]
        if self.round == self.config.num_rounds:
            self.phase = "finished"
        else:
            self.round, self.phase = self.round + 1, "gather"
        self._began_s = self._now()
        self._save(self, rows)

    def _open(self, name: str) -> list[Assignment]:
        """Return the open directives that an agent teaches or learns from."""
        return [
            assignment
            for assignment in self.assignments.values()
            if assignment.report is None and name in (assignment.teacher, assignment.student)
        ]

    def _check_known(self, name: str) -> None:
        if name not in self.config.names:
            raise RefusedError("identity", f"{name:.64} is not on this federation's roster")

    def _member(self, name: str, incarnation: str) -> Member:
        self._check_known(name)
        member = self.members.get(name)
        if member is None:
            raise RefusedError("unexpected", f"{name} has not registered")
        if member.incarnation != incarnation:
            raise RefusedError("identity", f"a newer process speaks for {name}")
        return member

    def _checked(self, profile: Sequence[float]) -> list[float]:
        if len(profile) != self.config.num_features:
            raise RefusedError("profile", f"a profile has {self.config.num_features} features")
        try:
            check_profiles(np.array([list(profile)]), self.config.num_features)
        except ValueError as error:
            raise RefusedError("profile", str(error)) from None
        return [float(feature) for feature in profile]

    def _check_missing(self, missing: Sequence[int]) -> None:
        """Raise RefusedError where these are not places of the transfer set, ascending."""
        places = range(len(self.config.categories or ()))
        if list(missing) != sorted(set(missing)) or not all(each in places for each in missing):
            raise RefusedError("profile", "what it lacks is no list of transfer problems in order")

    def _check_report(self, name: str, assignment: Assignment, report: StudentReport) -> None:
        """Raise RefusedError where a member cannot, or must not, report so of a directive."""
        id_, before = assignment.directive.id, assignment.report
        if assignment.student != name:
            raise RefusedError("identity", f"{name} is not the student of {id_}")
        if before is not None:
            if before != report and before.outcome not in ("dropped", "lost"):
                raise RefusedError("feedback", f"{id_} was answered otherwise before")
            return
        check_report(report, assignment.directive, self.cpm, self.config.reward)
        if assignment.missing is not None and self.config.categories is not None:
            of_topic = Counter(self.config.categories[each] for each in assignment.missing)
            if any(each.asked > of_topic[each.category] for each in report.answers):
                raise RefusedError("feedback", f"{id_} is counted on more than it asks about")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the rounds as plain values and arrays."""
        return {
            "round": self.round,
            "phase": self.phase,
            "members": {name: asdict(member) for name, member in self.members.items()},
            "assignments": [asdict(assignment) for assignment in self.assignments.values()],
            "cpm": self.cpm.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; every member's heartbeat timeout begins anew."""
        self.cpm.load_state_dict(state["cpm"])
        self.round, self.phase = int(state["round"]), state["phase"]
        self.members = {name: Member(**fields) for name, fields in state["members"].items()}
        self.assignments = {}
        for fields in state["assignments"]:
            plain: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in fields["directive"].items()
            }
            directive = Directive(**plain)
            report = None if fields["report"] is None else StudentReport.of(fields["report"])
            missing = None if fields["missing"] is None else tuple(fields["missing"])
            read = {"directive": directive, "report": report, "missing": missing}
            restored = Assignment(**{**fields, **read, "issued_s": self._now()})
            self.assignments[directive.id] = restored
        self._began_s = self._now()
        for name in self.members:
            self._liveness.arrive(name, self._began_s)
