"""The matchmaker's side of the rounds: who is there, what each is to do, what came of it.

A round gathers profiles, then exchanges. Nothing here knows of gRPC or waits: calls come in with
the caller's name, which the transport took from its certificate, and time comes from ``now``. What
a restart must not lose is saved before anybody is told of it. A round's feedback reaches the CPM
when the round ends and in its plan's order, as in one process, so the results are equal.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import ceil, isfinite
from typing import Any, Final, Literal

import numpy as np

from knexa.matchmaking.base import Directive, Feedback
from knexa.matchmaking.cpm import CPM, check_profiles
from knexa.network.errands import (
    GUARDRAIL_KINDS,
    Answer,
    Errand,
    Member,
    Terms,
    Todo,
    exchange_row,
)
from knexa.network.refusals import RefusedError
from knexa.network.timing import Liveness
from knexa.seeding import derive_rng
from knexa.tracking.rows import ExchangeRow

log = logging.getLogger(__name__)

Phase = Literal["gather", "exchange", "finished"]
_MOST_ITEMS: Final = 1 << 20


class Coordinator:
    """The rounds of one federation; the caller sees to it that one thread calls at a time.

    Args:
        terms: What the rounds go by.
        cpm: The matchmaker.
        now: A monotonic clock, in seconds.
        save: Makes ``state_dict()`` durable, and ``rows`` with it.
    """

    def __init__(
        self,
        terms: Terms,
        cpm: CPM,
        *,
        now: Callable[[], float],
        save: Callable[["Coordinator", Sequence[ExchangeRow]], None],
    ) -> None:
        self.terms, self.cpm = terms, cpm
        self._now, self._save = now, save
        self._liveness = Liveness(terms.patience)
        self.members: dict[str, Member] = {}
        self.errands: dict[str, Errand] = {}
        self.round = 1
        self.phase: Phase = "gather"
        self._began_s = now()
        self._told: set[str] = set()

    # What agents call

    def register(
        self, name: str, *, address: str, session: str, agreement: str, profile: Sequence[float]
    ) -> None:
        """Take an agent in, or back.

        Raises:
            RefusedError: It is not on the roster, is configured otherwise, or its profile is none.
        """
        self._check_known(name)
        if agreement != self.terms.agreement:
            raise RefusedError("disagreement", f"{name} runs another configuration than the cpm")
        if not 0 < len(address) <= 255:
            raise RefusedError("malformed", "an address has 1 to 255 characters")
        checked, known = self._checked(profile), self.members.get(name)
        self._liveness.arrive(name, self._now())
        if known is None:
            self.members[name] = Member(address=address, session=session, profile=checked)
        elif known.session != session:
            known.address, known.session = address, session
            for errand in self._open(name):
                if errand.student == name:
                    errand.attempt, errand.received = errand.attempt + 1, False
        self._save(self, ())
        self.tick()

    def beat(self, name: str, session: str) -> None:
        """Note that an agent is there.

        Raises:
            RefusedError: It has not registered, or a newer process of it has.
        """
        self._member(name, session)
        self._liveness.beat(name, self._now())

    def order(self, name: str, session: str, prepared_round: int, received: Sequence[str]) -> Todo:
        """Return what the agent is to do, given what it has done.

        Raises:
            RefusedError: It has not registered, or a newer process of it has.
        """
        member = self._member(name, session)
        for errand in self._open(name):
            if errand.student == name and errand.directive.id in received:
                errand.received = True
        self.tick()
        if prepared_round < member.prepared_round and self.phase != "finished":
            # It is back on an older checkpoint, and must not teach from that state.
            return Todo(kind="prepare", round=member.prepared_round, results=dict(member.results))
        busy = self._open(name)
        errands = tuple(e for e in busy if e.student == name or not e.received)
        if errands:
            return Todo(kind="exchange", round=self.round, errands=errands)
        if busy:
            return Todo(kind="wait", round=self.round)  # what it has taught is being learned
        if self.phase == "finished":
            self._told.add(name)
            return Todo(kind="finished", round=self.round, results=dict(member.results))
        # Where a restart forgot a profile, the agent is asked again and shows the one it has.
        if self.phase == "gather" and member.prepared_round < self.round:
            return Todo(kind="prepare", round=self.round, results=dict(member.results))
        return Todo(kind="wait", round=self.round)

    def submit_profile(
        self,
        name: str,
        session: str,
        round_number: int,
        profile: Sequence[float],
        noted: Sequence[str],
    ) -> None:
        """Take a round's profile; one that is too late for its round is nothing wrong.

        Raises:
            RefusedError: The agent has not registered, a newer process of it has, or the profile
                is none.
        """
        member = self._member(name, session)
        checked = self._checked(profile)
        for id_ in noted:
            member.results.pop(id_, None)
        if round_number == self.round and self.phase == "gather":
            member.profile, member.prepared_round = checked, round_number
        self.tick()

    def submit_feedback(self, name: str, session: str, directive_id: str, answer: Answer) -> bool:
        """Take what came of a directive; return whether it counts: it may be given up already.

        Raises:
            RefusedError: The agent has not registered, a newer process of it has, or it is not the
                agent's to answer, was answered otherwise, or is implausible.
        """
        member = self._member(name, session)
        errand = self.errands.get(directive_id)
        if errand is None:  # of a round that is over
            return member.learned == directive_id
        if errand.student != name:
            raise RefusedError("identity", f"{name} is not the student of {directive_id:.40}")
        if errand.answer is not None:
            if errand.answer == answer:
                return answer.outcome == "learned"  # said twice
            if errand.answer.outcome in ("dropped", "lost"):
                return False
            raise RefusedError("feedback", f"{directive_id:.40} was answered otherwise before")
        self._check_answer(answer)
        errand.answer = answer
        if answer.outcome == "learned":
            member.learned = directive_id
        self._save(self, ())
        self.tick()
        return answer.outcome == "learned"

    # Time

    def tick(self) -> bool:
        """Do what is due; return whether anything was."""
        before = (self.round, self.phase)
        self._give_up()
        if self.phase == "gather" and self._is_gathered():
            self._issue()
        if self.phase == "exchange" and self._is_exchanged():
            self._end_round()
        return before != (self.round, self.phase)

    @property
    def is_over(self) -> bool:
        """Whether the last round is over and everybody who is there knows."""
        if self.phase != "finished":
            return False
        return all(name in self._told for name in self.members if self._is_alive(name))

    def _is_alive(self, name: str) -> bool:
        return self._liveness.is_alive(name, self._now())

    def _is_gathered(self) -> bool:
        """Return whether the round's exchange may begin: with all who are there, or in time."""
        idle = [name for name in self.terms.names if not any(self._open(name))]
        ready = [name for name in idle if self._is_ready(name)]
        if len(ready) < 2:
            return False  # nobody to meet: the round waits for those who are away or busy
        if self._is_time_up():
            return True
        newcomers = [n for n in idle if n not in self.members] if self.round == 1 else []
        awaited = [*newcomers, *(name for name in idle if self._is_alive(name))]
        return len(ready) == len(awaited)

    def _is_time_up(self) -> bool:
        """Return whether the timer of rounds that have one ended this half of the round."""
        sync = self.terms.sync
        return sync.mode == "async" and self._now() - self._began_s >= sync.timer_s

    def _is_ready(self, name: str) -> bool:
        member = self.members.get(name)
        return member is not None and member.prepared_round == self.round and self._is_alive(name)

    def _issue(self) -> None:
        """Ask the matchmaker for the round's plan."""
        names = self.terms.names
        available_N = np.array([self._is_ready(n) and not any(self._open(n)) for n in names])
        unknown = [0.0] * self.terms.num_features
        profiles_NF = np.array(
            [self.members[n].profile if n in self.members else unknown for n in names]
        )
        plan = self.cpm.propose(
            self.round,
            profiles_NF,
            rng=derive_rng(self.terms.seed, "matchmaker", self.round),
            available_N=None if available_N.all() else available_N,
        )
        for index, directive in enumerate(plan):
            assert directive.pair is not None  # what is served here teaches in pairs
            teacher, student = directive.pair
            self.errands[directive.id] = Errand(
                directive=directive,
                round=self.round,
                index=index,
                teacher=names[teacher],
                student=names[student],
                issued_s=self._now(),
            )
        self.phase, self._began_s = "exchange", self._now()
        self._save(self, ())
        log.info("round %d: %d directives to %d agents", self.round, len(plan), available_N.sum())

    def _give_up(self) -> None:
        """Answer for those who will not."""
        for errand in self.errands.values():
            if errand.answer is not None:
                continue
            teaches = errand.received or self._is_alive(errand.teacher)
            if not teaches or not self._is_alive(errand.student):
                errand.answer = Answer(outcome="dropped")
            elif self._now() - errand.issued_s > self.terms.exchange_s:
                errand.answer = Answer(outcome="lost")

    def _is_exchanged(self) -> bool:
        sync = self.terms.sync
        settled = sum(errand.answer is not None for errand in self.errands.values())
        if sync.mode == "lockstep" or self.round == self.terms.num_rounds:
            return settled == len(self.errands)
        return (
            self._is_time_up()
            or settled >= max(1, ceil(sync.quorum * len(self.errands)))
            or not self.errands
        )

    def _end_round(self) -> None:
        """Let the matchmaker learn what has come in, in the order of the plans."""
        ended = sorted(
            (e for e in self.errands.values() if e.answer), key=lambda e: (e.round, e.index)
        )
        taken = [(e, e.answer) for e in ended if e.answer and e.answer.outcome == "learned"]
        feedbacks = [Feedback(directive_id=e.directive.id, reward=a.reward) for e, a in taken]
        rewards = self.cpm.receive(feedbacks)
        normalised = {f.directive_id: r for f, r in zip(feedbacks, rewards, strict=True)}
        rows = []
        for errand in ended:
            id_, answer = errand.directive.id, errand.answer
            assert answer is not None
            if id_ not in normalised:
                self.cpm.expire(id_, answer.outcome)
            else:
                self.members[errand.teacher].results[id_] = {
                    "reward": answer.reward,
                    "items_kept": answer.items_kept,
                }
            rows.append(exchange_row(self.round, errand, answer, normalised.get(id_)))
            del self.errands[id_]
        if self.round == self.terms.num_rounds:
            self.phase = "finished"
        else:
            self.round, self.phase = self.round + 1, "gather"
        self._began_s = self._now()
        self._save(self, rows)

    # Checks

    def _open(self, name: str) -> list[Errand]:
        """Return the directives that keep an agent busy."""
        return [
            errand
            for errand in self.errands.values()
            if errand.answer is None and name in (errand.teacher, errand.student)
        ]

    def _check_known(self, name: str) -> None:
        if name not in self.terms.names:
            raise RefusedError("identity", f"{name:.64} is not on this federation's roster")

    def _member(self, name: str, session: str) -> Member:
        self._check_known(name)
        member = self.members.get(name)
        if member is None:
            raise RefusedError("unexpected", f"{name} has not registered")
        if member.session != session:
            raise RefusedError("identity", f"a newer process speaks for {name}")
        return member

    def _checked(self, profile: Sequence[float]) -> list[float]:
        if len(profile) != self.terms.num_features:
            raise RefusedError("profile", f"a profile has {self.terms.num_features} features")
        try:
            check_profiles(np.array([list(profile)]), self.terms.num_features)
        except ValueError as error:
            raise RefusedError("profile", str(error)) from None
        return [float(feature) for feature in profile]

    def _check_answer(self, answer: Answer) -> None:
        largest = self.terms.largest_reward
        if not (isfinite(answer.reward) and abs(answer.reward) <= largest):
            raise RefusedError("feedback", f"a reward is at most {largest:g} in magnitude")
        if not (isfinite(answer.kilobytes) and 0 <= answer.kilobytes < 1e9):
            raise RefusedError("feedback", "no package has so many kilobytes")
        counts = [answer.items_sent, answer.items_kept, *answer.guardrail.values()]
        if not all(0 <= count <= _MOST_ITEMS for count in counts) or not set(
            answer.guardrail
        ).issubset(GUARDRAIL_KINDS):
            raise RefusedError("feedback", "the counts of a package are implausible")

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return all that a restarted matchmaker goes on from, as plain values and arrays."""
        return {
            "round": self.round,
            "phase": self.phase,
            "members": {name: asdict(member) for name, member in self.members.items()},
            "errands": [asdict(errand) for errand in self.errands.values()],
            "cpm": self.cpm.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; everybody known is given time to be heard again."""
        self.cpm.load_state_dict(state["cpm"])
        self.round, self.phase = int(state["round"]), state["phase"]
        self.members = {name: Member(**fields) for name, fields in state["members"].items()}
        self.errands = {}
        for fields in state["errands"]:
            roles = {role: tuple(fields["directive"][role]) for role in ("teachers", "students")}
            directive = Directive(**{**fields["directive"], **roles})
            answer = None if fields["answer"] is None else Answer(**fields["answer"])
            read = {"directive": directive, "answer": answer, "issued_s": self._now()}
            restored = Errand(**{**fields, **read})
            self.errands[directive.id] = restored
        self._began_s = self._now()
        for name in self.members:
            self._liveness.arrive(name, self._began_s)
