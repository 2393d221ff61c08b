"""The federation of LoRA agents: what a round means when the agents are language models.

Data flow of a round: states -> local update (all agents) -> profiles -> the plan -> what each group
of teachers delivers -> learning -> states. A probe delivers and learns for every ordered pair from
the same snapshot; an exchange that was probed is not computed again, since a phase is a pure
function and the trial is the exchange.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knexa.agents import phases
from knexa.agents.learning import Learned, learn
from knexa.agents.lessons import Lesson, Received, receive, teach
from knexa.agents.privacy import Mechanism, NoPrivacy
from knexa.agents.scoring import Gauge, gauge, text_loss
from knexa.agents.session import Session
from knexa.agents.state import AgentState, load_state, save_state
from knexa.agents.training import FitReport
from knexa.engine.local import Pool
from knexa.engine.object_refs import bytes_or_digest, fetched
from knexa.exchange.package import decode
from knexa.federation.deliveries import Delivery, deliver_together, of_lesson
from knexa.federation.world import Exchange, Package
from knexa.matchmaking.base import Directive, Plan, Probe
from knexa.matchmaking.pair_scores import Array, Mask
from knexa.tracking.tree_file import load_tree, save_tree

Teachers = tuple[int, ...]

_SPOKEN = "spoken.safetensors"
_AT_ONCE = 32
"""Agents that are updated together: the states of all, old and new, would be memory twice over."""


class LLMWorld:
    """The agents and what has happened to them; implements ``federation.world.World``.

    Server agents have states as the others do, behind theirs; they are never updated on their own,
    profiled or evaluated.
    """

    def __init__(
        self,
        session: Session,
        pool: Pool,
        reward: Any,
        profile: Any,
        admissible_NN: Mask | None = None,
    ) -> None:
        self.session, self.pool, self.reward, self.profile = session, pool, reward, profile
        self.num_agents = len(session.roster.agents)
        self.protocol_name = session.protocol.name
        self.admissible_NN = admissible_NN
        self.privacy: Mechanism = NoPrivacy()
        members = range(len(session.members))
        self.states: list[AgentState] = pool.map(phases.start, [(i,) for i in members], members)
        self._lessons: dict[int, tuple[Lesson, Received]] = {}
        self._deliveries: dict[Teachers, Delivery] = {}
        self._gauges: dict[int, Gauge] = {}
        self._trials: dict[tuple[Teachers, int], tuple[AgentState, Learned]] = {}
        self._begin(0, range(self.num_agents))

    def _begin(self, round_number: int, active: Sequence[int]) -> None:
        """Forget the round before, but for what rests on agents that are not active now.

        Their states stay as they are, so an exchange that ends later need not be computed again
        (after a resume it is, and gives the same).
        """
        self._round, self._active = round_number, list(active)
        idle = set(range(self.num_agents)).difference(active)
        self._lessons = {j: made for j, made in self._lessons.items() if j in idle}
        self._deliveries = {t: made for t, made in self._deliveries.items() if idle.issuperset(t)}
        self._gauges = {i: made for i, made in self._gauges.items() if i in idle}
        self._trials = {
            (teachers, i): made
            for (teachers, i), made in self._trials.items()
            if idle.issuperset((*teachers, i))
        }
        nothing = [0.0] * self.num_agents
        self._updates: list[FitReport | None] = [None] * self.num_agents
        self._learned: dict[int, Learned] = {}
        self._received, self._scouted = list(nothing), list(nothing)
        self._generated = [0] * self.num_agents
        self._sier: list[float | None] = [None] * self.num_agents

    # The round, step by step

    def begin_round(self, round_number: int, active_N: Mask | None = None) -> None:
        """Update the active agents on private data and measure them on their validation splits."""
        everyone = range(self.num_agents)
        active = [i for i in everyone if active_N is None or active_N[i]]
        self._begin(round_number, active)
        for begin in range(0, len(active), _AT_ONCE):
            some = active[begin : begin + _AT_ONCE]
            tasks = [(self.states[i], round_number) for i in some]
            sizes = [len(self.session.splits[i].train) for i in some]
            results = self.pool.map(phases.update_locally, tasks, some, sizes)
            for i, (state, report) in zip(some, results, strict=True):
                self.states[i], self._updates[i] = state, report

    def update_tokens(self) -> list[int]:
        """Return how many tokens each agent trained on in this round's update."""
        return [0 if update is None else update.tokens for update in self._updates]

    def packages(self, round_number: int, plan: Plan) -> dict[int, Package]:
        """Return what the plan's teachers send; what they generated for it counts from here on."""
        teachers = sorted({teacher for directive in plan for teacher in directive.teachers})
        lessons = {j: lesson for j, (lesson, _) in self.lessons(round_number, teachers).items()}
        for teacher in teachers:
            self._generated[teacher] = lessons[teacher].tokens_generated
        return {
            teacher: Package(
                parts=(
                    bytes_or_digest(lessons[teacher].text),
                    bytes_or_digest(lessons[teacher].tensors),
                ),
                kilobytes=lessons[teacher].kilobytes,
                tokens_generated=lessons[teacher].tokens_generated,
                items_sent=lessons[teacher].items_sent,
                guardrail=lessons[teacher].guardrail,
            )
            for teacher in teachers
        }

    def learning_tokens(self, round_number: int, plan: Plan) -> dict[int, int]:
        """Return how many tokens learning takes, by trying it."""
        trials = [(directive.teachers, i) for directive in plan for i in directive.students]
        self._try(round_number, trials)
        return {i: self._trials[teachers, i][1].fit.tokens for teachers, i in trials}

    def profiles(self) -> Array:
        """Return profiles_NF of the states as they stand, or as liars have them."""
        profiles_NF = np.stack(
            [
                self.profile.build(
                    state,
                    family=self.session.roster.backbone_of(state.index).family,
                    train=self.session.private(state.index),
                )
                for state in self.states[: self.num_agents]
            ]
        )
        shown_NF = self.privacy.release(profiles_NF, self._round)
        return self.session.liars.show(shown_NF, self.profile.feature_names)

    def probe(self, round_number: int) -> Probe:
        """Try every admissible ordered pair and the no-teacher arm from the round's snapshot."""
        everyone = self._active
        pairs = [(j, i) for i in everyone for j in everyone if i != j and self._admits(j, i)]
        trials = [((j,), i) for j, i in pairs]
        self._deliver(round_number, trials)
        self._gauge(everyone)
        alone = self.pool.map(
            learn,
            [(self.states[i], None, round_number, self._gauges[i]) for i in everyone],
            everyone,
        )
        self._try(round_number, trials)
        rewards_NN = np.full((self.num_agents, self.num_agents), -np.inf)
        np.fill_diagonal(rewards_NN, np.nan)
        for teacher, student in pairs:
            rewards_NN[teacher, student] = self._reward((teacher,), student)
        no_teacher_N = np.zeros(self.num_agents)
        no_teacher_N[everyone] = [self._raw(learned, kilobytes=0.0) for _, learned in alone]
        return Probe(rewards_NN=rewards_NN, no_teacher_N=no_teacher_N)

    def peer_losses(self, round_number: int) -> Array:
        """Return every student's loss on every teacher's text, diagonal NaN.

        All agents send their lesson to all others, which the round's rows count as scouting.
        """
        everyone = self._active
        lessons = self.lessons(round_number, everyone)
        pairs = [(j, i) for i in everyone for j in everyone if i != j]
        tasks = [(self.states[i], lessons[j][1].texts) for j, i in pairs]
        losses_NN = np.full((self.num_agents, self.num_agents), np.nan)
        for (teacher, student), loss in zip(
            pairs, self.pool.map(text_loss, tasks, [i for _, i in pairs]), strict=True
        ):
            losses_NN[teacher, student] = loss
            self._scouted[student] += lessons[teacher][0].kilobytes
        for teacher in everyone:
            self._generated[teacher] = lessons[teacher][0].tokens_generated
            self._sier[teacher] = lessons[teacher][0].sier
        return losses_NN

    def exchange(self, round_number: int, plan: Plan) -> list[Exchange]:
        """Carry the plan out; students learn from the snapshot, so the order does not matter.

        Raises:
            ValueError: The plan teaches an agent twice, or the protocol cannot serve a directive.
        """
        self._check(plan)
        late = round_number < self._round  # its plan's round has counted what was generated
        trials = [(directive.teachers, i) for directive in plan for i in directive.students]
        self._try(round_number, trials)
        states = list(self.states)
        for teachers, student in trials:
            sier = states[student].history.sier  # what was noted of a student that was busy
            state, learned = self._trials[teachers, student]
            states[student] = state.with_history(sier=sier)
            if student < self.num_agents:
                self._learned[student] = learned
                self._count_received(teachers, student)
        exchanges = [self._exchange(directive, late=late) for directive in plan]
        self.states = states
        self._remember(exchanges)
        return exchanges

    def _check(self, plan: Plan) -> None:
        students = [student for directive in plan for student in directive.students]
        if len(set(students)) < len(students):
            raise ValueError("the plan teaches an agent twice in one round")
        for directive in plan:
            if directive.pair is None and self.session.protocol.pairs:
                raise ValueError(f"{self.protocol_name} teaches in pairs only")
            for teacher in directive.teachers:
                for student in directive.students:
                    if teacher != student and not self._admits(teacher, student):
                        raise ValueError(
                            f"{self.protocol_name} cannot serve agents {teacher} and {student}"
                        )

    def _admits(self, teacher: int, student: int) -> bool:
        return self.admissible_NN is None or bool(self.admissible_NN[teacher, student])

    def _count_received(self, teachers: Teachers, student: int) -> None:
        kilobytes = self._deliveries[teachers].kilobytes
        self._received[student] += kilobytes
        if self._scouted[student]:
            self._scouted[student] -= kilobytes  # the package that came already is not sent again

    def _exchange(self, directive: Directive, *, late: bool) -> Exchange:
        """Return the record of a directive whose students have learned."""
        teachers = directive.teachers
        delivery = self._deliveries[teachers]
        agents = [i for i in directive.students if i < self.num_agents]
        for teacher, tokens in delivery.tokens_generated.items():
            if not late:
                self._generated[teacher] = tokens
            self._sier[teacher] = self._lessons[teacher][0].sier
        return Exchange(
            directive=directive,
            reward=float(np.mean([self._report(teachers, student) for student in agents])),
            kilobytes=delivery.shared_kilobytes + delivery.kilobytes * len(agents),
            items_sent=delivery.items_sent,
            items_kept=delivery.items_kept,
            guardrail=delivery.guardrail,
            tokens_generated=sum(delivery.tokens_generated.values()),
            server=delivery.server,
        )

    # Lessons, deliveries and trials: made once a round, whoever asks

    def map(self, phase: Callable[..., Any], tasks: Sequence[Any], keys: Sequence[int]) -> Any:
        """Run a phase of the exchange over agents."""
        return self.pool.map(phase, tasks, keys)

    def lessons(
        self, round_number: int, teachers: Iterable[int]
    ) -> dict[int, tuple[Lesson, Received]]:
        """Return every lesson of the round so far, these teachers' among them."""
        missing = [teacher for teacher in teachers if teacher not in self._lessons]
        speaker = self.session.liars.speaker
        tasks = [(self.states[speaker(j)], round_number, j) for j in missing]
        lessons = self.pool.map(teach, tasks, missing)
        received = self.pool.map(receive, [(lesson, round_number) for lesson in lessons], missing)
        self._lessons.update(zip(missing, zip(lessons, received, strict=True), strict=True))
        return self._lessons

    def _gauge(self, students: Iterable[int]) -> None:
        missing = [student for student in students if student not in self._gauges]
        results = self.pool.map(gauge, [(self.states[i],) for i in missing], missing)
        self._gauges.update(zip(missing, results, strict=True))

    def _deliver(self, round_number: int, trials: Sequence[tuple[Teachers, int]]) -> None:
        missing: dict[Teachers, list[int]] = {}
        for teachers, student in trials:
            if teachers not in self._deliveries:
                missing.setdefault(teachers, []).append(student)
        if not self.session.protocol.pairs:
            for teachers, students in missing.items():
                self._deliveries[teachers] = deliver_together(
                    self, round_number, teachers, students
                )
            return
        lessons = self.lessons(round_number, sorted({teacher for (teacher,) in missing}))
        for (teacher,) in missing:
            self._deliveries[teacher,] = of_lesson(*lessons[teacher])

    def _try(self, round_number: int, trials: Sequence[tuple[Teachers, int]]) -> None:
        """Let every student learn from its teachers, unless a trial of this round has done so."""
        missing = [trial for trial in trials if trial not in self._trials]
        self._deliver(round_number, missing)
        learned = [(t, self._deliveries[t[0]].learned.get(t[1])) for t in missing]
        self._trials.update({trial: done for trial, done in learned if done is not None})
        missing = [trial for trial in missing if trial not in self._trials]
        students = [student for _, student in missing]
        self._gauge(dict.fromkeys(students))
        tasks = [
            (self.states[i], self._deliveries[t].for_student(i), round_number, self._gauges[i])
            for t, i in missing
        ]
        self._trials.update(zip(missing, self.pool.map(learn, tasks, students), strict=True))

    def _reward(self, teachers: Teachers, student: int) -> float:
        return self._raw(self._trials[teachers, student][1], self._deliveries[teachers].kilobytes)

    def _report(self, teachers: Teachers, student: int) -> float:
        """Return what the student says that it earned: the reward, where it does not lie."""
        return self.session.liars.report(teachers, student, self._reward(teachers, student))

    def _raw(self, learned: Learned, kilobytes: float) -> float:
        return float(
            self.reward.reward(
                before=learned.before.value, after=learned.after.value, kilobytes=kilobytes
            )
        )

    def _remember(self, exchanges: list[Exchange]) -> None:
        """Write the exchanges into the histories that the next profiles are made from."""
        for agent, sier in enumerate(self._sier):
            if sier is not None:
                self.states[agent] = self.states[agent].with_history(sier=sier)
        for exchange in exchanges:
            teachers = exchange.directive.teachers
            if exchange.directive.pair is not None:
                taught = self.states[teachers[0]]
                self.states[teachers[0]] = taught.with_lesson_taught(
                    items_kept=exchange.items_kept,
                    items_sent=exchange.items_sent,
                    reward=exchange.reward,
                )
            for student in exchange.directive.students:
                if student < self.num_agents:
                    pupil, reward = self.states[student], self._report(teachers, student)
                    self.states[student] = pupil.with_lesson_learned(reward)

    # What the run records

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[dict[str, Any]]:
        """Return one row an agent for rounds.jsonl, measured on the test set where that is due."""
        everyone = range(self.num_agents)
        due = self.session.evaluation.due(round_number, self.session.num_rounds)
        tasks = [(self.states[i],) for i in everyone]
        scores = self.pool.map(phases.evaluate, tasks, everyone) if due else [{}] * self.num_agents
        return [self._row(round_number, index, scores[index]) for index in everyone]

    def _row(self, round_number: int, index: int, score: dict[str, Any]) -> dict[str, Any]:
        agent, update = self.session.roster.agents[index], self._updates[index]
        learned = self._learned.get(index)
        fits = [fit for fit in (update, learned.fit if learned else None) if fit is not None]
        perplexity = self.states[index].history.perplexity
        validation = float(np.log(perplexity[-1])) if perplexity else None
        return {
            "round": round_number,
            "agent": index,
            "name": agent.name,
            "backbone": agent.backbone,
            "train_loss": update.loss if update else None,
            "validation_loss": learned.after.loss if learned else validation,
            "learn_loss": learned.fit.loss if learned else None,
            "pass@1_greedy": score.get("pass_at_1"),
            "codebleu_compat": score.get("codebleu_compat"),
            "codebleu_fixed": score.get("codebleu_fixed"),
            "tokens_trained": sum(fit.tokens for fit in fits),
            "tokens_generated": self._generated[index],
            "optimizer_steps": sum(fit.optimizer_steps for fit in fits),
            "kilobytes_received": self._received[index],
            "kilobytes_scouted": self._scouted[index],
            "sier": self._sier[index],
        }

    def final_samples(self) -> list[dict[str, Any]]:
        """Return every agent's final completions of the test set with their outcomes."""
        everyone = range(self.num_agents)
        tasks = [(self.states[i],) for i in everyone]
        rows = self.pool.map(phases.answer_finally, tasks, everyone)
        return [row for agent_rows in rows for row in agent_rows]

    # Checkpoints

    def save(self, folder: Path) -> None:
        """Write every agent's state, the servers' too, to ``folder/agents``.

        What a sybil spoke for another is written as well: its state does not wait for the other's
        exchange to end, so the text could not be made again.
        """
        (folder / "agents").mkdir()
        for state in self.states:
            save_state(folder / "agents" / f"{state.index}.safetensors", fetched(state))
        speaker = self.session.liars.speaker
        spoken = {
            str(agent): _plain(fetched(lesson))
            for agent, (lesson, _) in sorted(self._lessons.items())
            if speaker(agent) != agent
        }
        if spoken:
            save_tree(folder / _SPOKEN, spoken)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
        self.states = [
            replace(load_state(folder / "agents" / f"{index}.safetensors"), index=index)
            for index in range(len(self.session.members))
        ]
        self._begin(0, range(self.num_agents))
        spoken = load_tree(folder / _SPOKEN) if (folder / _SPOKEN).exists() else {}
        lessons = {int(agent): _lesson(fields) for agent, fields in spoken.items()}
        tasks = [(lesson, decode(lesson.text).round) for lesson in lessons.values()]
        received = self.pool.map(receive, tasks, list(lessons))
        self._lessons = dict(
            zip(lessons, zip(lessons.values(), received, strict=True), strict=True)
        )


def _plain(lesson: Lesson) -> dict[str, Any]:
    """Return a lesson of text as plain values."""
    fields = {field.name: getattr(lesson, field.name) for field in dataclasses.fields(lesson)}
    del fields["tensors"]
    return fields | {"text": lesson.text.decode()}


def _lesson(fields: dict[str, Any]) -> Lesson:
    """Return what ``_plain`` was given."""
    return Lesson(**fields | {"text": fields["text"].encode()})
