"""The federation of LoRA agents: the steps of a round when the agents are language models.

Data flow of a round: states -> local update (all agents) -> profiles -> the plan -> packages ->
trials of learning (``round_cache``) -> commit -> states. A probe tries every ordered pair from the
same snapshot.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeRuntime,
    Learned,
    OutgoingPackage,
    Taught,
    Topics,
    sier_of,
)
from knexa.agents.scoring import text_loss
from knexa.agents.solve import Score
from knexa.agents.state import AgentState, load_state, save_state
from knexa.agents.training import FitReport
from knexa.engine.local import Pool
from knexa.engine.object_refs import bytes_or_digest, fetched
from knexa.errors import UserError
from knexa.federation.llm.answers import AnswerCounts, Counts, right_answers, summed_answers
from knexa.federation.llm.round_cache import Arm, Asked, RoundCache, Source, in_order
from knexa.federation.world import Exchange, Package, Trial
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.base import Directive, Plan, Probe
from knexa.matchmaking.rewards import Reward
from knexa.profiles.build import Profile
from knexa.profiles.byzantine import shown
from knexa.profiles.privacy import Mechanism, NoPrivacy
from knexa.tracking.rows import AgentRow, SampleRow
from knexa.tracking.tree_file import load_tree, save_tree

_SYBIL_PACKAGES = "spoken.safetensors"
_UPDATE_BATCH = 32
"""Agents that are updated together: old and new states of all would take twice the memory."""


class LLMWorld:
    """The agents' states and the round's results; implements ``federation.world.World``.

    The states of server agents follow the others'; servers are neither updated locally nor profiled
    nor evaluated.
    """

    def __init__(
        self,
        runtime: ExchangeRuntime,
        pool: Pool,
        reward: Reward,
        profile: Profile,
        admissible_NN: Mask | None = None,
    ) -> None:
        self.runtime, self.pool, self.reward, self.profile = runtime, pool, reward, profile
        self.num_agents = len(runtime.roster.agents)
        self.protocol_name = runtime.protocol.name
        self.admissible_NN = admissible_NN
        self.privacy: Mechanism = NoPrivacy()
        members = range(len(runtime.members))
        self.states: list[AgentState] = pool.map(phases.start, [(i,) for i in members], members)
        self._cache = RoundCache(runtime, pool, self.states)
        self._answers = AnswerCounts(runtime, self.states)
        self.topics = self._answers.topics
        self._begin(0, range(self.num_agents))

    def _begin(self, round_number: int, active: Sequence[int]) -> None:
        """Forget the previous round's counts, and results computed from states that change."""
        self._round, self._active = round_number, list(active)
        self._cache.begin_round(set(range(self.num_agents)).difference(active))
        nothing = [0.0] * self.num_agents
        self._updates: list[FitReport | None] = [None] * self.num_agents
        self._learned: dict[int, Learned] = {}
        self._received, self._scouted = list(nothing), list(nothing)
        self._scouted_topics: list[Topics] = []
        self._generated: dict[Asked, int] = {}
        self._sier: list[float | None] = [None] * self.num_agents

    # The round, step by step

    def begin_round(self, round_number: int, active_N: Mask | None = None) -> None:
        """Update the active agents on private data and measure them on their validation splits."""
        everyone = range(self.num_agents)
        active = [i for i in everyone if active_N is None or active_N[i]]
        self._begin(round_number, active)
        for begin in range(0, len(active), _UPDATE_BATCH):
            some = active[begin : begin + _UPDATE_BATCH]
            tasks = [(self.states[i], round_number) for i in some]
            sizes = [len(self.runtime.splits[i].train) for i in some]
            results = self.pool.map(phases.update_locally, tasks, some, sizes)
            for i, (state, report) in zip(some, results, strict=True):
                self.states[i], self._updates[i] = state, report

    def update_tokens(self) -> list[int]:
        """Return how many tokens each agent trained on in this round's update."""
        return [0 if update is None else update.tokens for update in self._updates]

    def profiles(self) -> Array:
        """Return profiles_NF of the states, with privacy noise and Byzantine claims."""
        profiles_NF = np.stack(
            [
                self.profile.build(
                    state,
                    family=self.runtime.roster.backbone_of(state.index).family,
                    train=self.runtime.private(state.index),
                )
                for state in self.states[: self.num_agents]
            ]
        )
        shown_NF = self.privacy.release(profiles_NF, self._round)
        return shown(shown_NF, self.profile.feature_names, self.runtime.byzantine)

    def probe(self, round_number: int, *, by_topic: bool = False) -> Probe:
        """Return what every arm would earn from the round's snapshot.

        Under a reward of answers all agents answer all topics, and nobody is trained. Else every
        admissible ordered pair and the no-teacher arm are tried.
        """
        if self.reward.of_answers:
            return self._probe_answers(round_number, by_topic)
        assert not by_topic  # the config's check refuses it
        cache, everyone = self._cache, self._active
        pairs = [(j, i) for i in everyone for j in everyone if i != j and self._admits(j, i)]
        arms: list[Arm] = [((((j,), None),), i) for j, i in pairs]
        cache.deliver(round_number, arms)
        cache.measure(everyone)
        tasks = [(self.states[i], None, round_number, cache.measured[i]) for i in everyone]
        alone = self.pool.map(phases.learn, tasks, everyone)
        cache.learn(round_number, arms)
        rewards_NN = np.full((self.num_agents, self.num_agents), -np.inf)
        np.fill_diagonal(rewards_NN, np.nan)
        for pair, arm in zip(pairs, arms, strict=True):
            rewards_NN[pair] = self._reward(arm)
        no_teacher_N = np.zeros(self.num_agents)
        no_teacher_N[everyone] = [self._raw(learned, kilobytes=0.0) for _, learned in alone]
        return Probe(rewards=rewards_NN, no_teacher_N=no_teacher_N)

    def _probe_answers(self, round_number: int, by_topic: bool) -> Probe:
        """Return the worth of every arm, rewards [N, N] or [N, N, T]."""
        everyone = self._active
        asked: list[Topics] = self._asked_by_topic() if by_topic else [None]
        self._cache.receive(round_number, [(j, topics) for j in everyone for topics in asked])
        rewards = np.full((self.num_agents, self.num_agents, len(asked)), -np.inf)
        known = {i: self._answers.kept(i) for i in everyone}
        for teacher in everyone:
            for place, topics in enumerate(asked):
                right = right_answers(self._cache.received[teacher, topics])
                for student in everyone:
                    if student != teacher and self._admits(teacher, student):
                        rewards[teacher, student, place] = self.reward.worth(
                            self._answers.count(round_number, topics, right, known[student]),
                            self.topics,
                        )
        rewards[range(self.num_agents), range(self.num_agents)] = np.nan
        return Probe(
            rewards=rewards if by_topic else rewards[:, :, 0],
            no_teacher_N=np.zeros(self.num_agents),
        )

    def peer_losses(self, round_number: int, *, by_topic: bool = False) -> Array:
        """Return every student's loss on every teacher's text (see ``World``).

        All agents send their text to all others, which the round's rows count as scouting.
        """
        everyone = self._active
        asked: list[Topics] = self._asked_by_topic() if by_topic else [None]
        self._cache.receive(round_number, [(j, topics) for j in everyone for topics in asked])
        packages, received = self._cache.packages, self._cache.received
        arms = [(j, i, t) for i in everyone for j in everyone if i != j for t in range(len(asked))]
        tasks = [(self.states[i], received[j, asked[t]].texts) for j, i, t in arms]
        found = self.pool.map(text_loss, tasks, [i for _, i, _ in arms])
        losses = np.full((self.num_agents, self.num_agents, len(asked)), np.nan)
        for arm, loss in zip(arms, found, strict=True):
            teacher, student, place = arm
            losses[arm] = loss
            self._scouted[student] += packages[teacher, asked[place]].kilobytes
        for teacher in everyone:
            sent = [(teacher, topics) for topics in asked]
            self._generated.update({each: packages[each].tokens_generated for each in sent})
            self._sier[teacher] = sier_of([packages[each].findings for each in sent])
        self._scouted_topics = asked
        return losses if by_topic else losses[:, :, 0]

    def _asked_by_topic(self) -> list[Topics]:
        return [(category,) for category in self.topics.categories]

    def taught(self, round_number: int, teachers: Iterable[int]) -> list[Taught]:
        """Return what these teachers send on all topics, and what students keep of it."""
        return self._cache.taught(round_number, None, teachers)

    def packages(self, round_number: int, plan: Plan) -> dict[str, dict[int, Package]]:
        """Return the packages of the plan's teachers, and count the tokens generated for them."""
        asked = sorted({(j, each.topics) for each in plan for j in each.teachers}, key=in_order)
        self._cache.make_packages(round_number, asked)
        made = self._cache.packages
        self._generated.update({each: made[each].tokens_generated for each in asked})
        return {
            directive.id: {
                teacher: _as_sent(self._cache.packages[teacher, directive.topics])
                for teacher in directive.teachers
            }
            for directive in plan
        }

    def try_learning(self, round_number: int, plan: Plan) -> list[Trial]:
        """Let each student learn once, from the snapshot and all that the plan brings it.

        Raises:
            ValueError: The protocol cannot serve a directive.
        """
        self._check(plan)
        arms = _arms(plan)
        self._cache.learn(round_number, list(arms.values()))
        return [
            Trial(
                directive=directive,
                learning_tokens={
                    i: self._cache.trials[arms[i]][1].fit.tokens for i in directive.students
                },
            )
            for directive in plan
        ]

    def commit(self, round_number: int, trials: Sequence[Trial]) -> list[Exchange]:
        """Replace the students' states by the learned ones; the order does not matter."""
        plan = tuple(trial.directive for trial in trials)
        arms = _arms(plan)
        counts = self._counts(round_number, plan)
        self._count_findings(plan)
        for student, arm in arms.items():
            sier = self.states[student].history.sier  # may be newer than the trial
            state, learned = self._cache.trials[arm]
            self.states[student] = state.with_history(sier=sier)
            if student < self.num_agents:
                self._learned[student] = learned
                self._count_received(arm)
        exchanges = [self._exchange(directive, arms, counts) for directive in plan]
        self._remember(exchanges, arms, counts)
        return exchanges

    def _counts(self, round_number: int, plan: Plan) -> Counts:
        """Return what each directive brings each student, under a reward of answers."""
        if not self.reward.of_answers:
            return {}
        transfers = self._cache.transfers
        return self._answers.of_plan(
            round_number,
            plan,
            range(self.num_agents),
            lambda directive, student: transfers[_source(directive)].for_student(student),
        )

    def _check(self, plan: Plan) -> None:
        for directive in plan:
            if directive.pair is None and self.runtime.protocol.pairs:
                raise ValueError(f"{self.protocol_name} teaches in pairs only")
            if directive.topics is not None and not self.runtime.protocol.by_topic:
                raise UserError(
                    f"exchange={self.protocol_name} teaches about everything at once, and the "
                    "matchmaker asks for topics: choose an exchange of text in pairs, such as akd"
                )
            for teacher in directive.teachers:
                for student in directive.students:
                    if teacher != student and not self._admits(teacher, student):
                        raise ValueError(
                            f"{self.protocol_name} cannot serve agents {teacher} and {student}"
                        )

    def _admits(self, teacher: int, student: int) -> bool:
        return self.admissible_NN is None or bool(self.admissible_NN[teacher, student])

    def _count_received(self, arm: Arm) -> None:
        sources, student = arm
        kilobytes = sum(self._kilobytes(source, student) for source in sources)
        self._received[student] += kilobytes
        if self._scouted[student]:  # what was sent to be scored is not sent a second time
            scouted = [source for source in sources if source[1] in self._scouted_topics]
            self._scouted[student] -= self._cache.kilobytes(scouted)

    def _count_findings(self, plan: Plan) -> None:
        sent: dict[int, set[Asked]] = {}
        for directive in plan:
            for teacher in directive.teachers:
                sent.setdefault(teacher, set()).add((teacher, directive.topics))
        for teacher, asked in sent.items():
            self._sier[teacher] = sier_of(self._cache.packages[each].findings for each in asked)

    def _exchange(self, directive: Directive, arms: dict[int, Arm], counts: Counts) -> Exchange:
        """Return the record of a directive whose students have learned."""
        transfer = self._cache.transfers[_source(directive)]
        agents = [i for i in directive.students if i < self.num_agents]
        return Exchange(
            directive=directive,
            reward=float(np.mean([self._report(directive, arms[i], counts) for i in agents])),
            kilobytes=transfer.shared_kilobytes
            + sum(self._kilobytes(_source(directive), i) for i in agents),
            items_sent=transfer.items_sent,
            items_kept=transfer.received.items_kept,
            guardrail=dict(transfer.guardrail),
            server=transfer.server,
            answers=summed_answers([self._answers.claimed(directive, i, counts) for i in agents]),
        )

    def _kilobytes(self, source: Source, student: int) -> float:
        """Return what travels to a student of a source; nothing from itself."""
        return 0.0 if source[0] == (student,) else self._cache.kilobytes([source])

    def _reward(self, arm: Arm) -> float:
        """Return the student's raw reward (Eq. 3) from all its sources together."""
        return self._raw(self._cache.trials[arm][1], self._cache.kilobytes(arm[0]))

    def _report(self, directive: Directive, arm: Arm, counts: Counts) -> float:
        """Return the reward that the student reports; only Byzantine agents change it."""
        student = arm[1]
        if self.reward.of_answers:
            reward = self.reward.worth(counts[directive.id, student], self.topics)
        else:
            reward = self._reward(arm)
        return self.runtime.byzantine.report(directive.teachers, student, reward)

    def _raw(self, learned: Learned, kilobytes: float) -> float:
        before, after = learned.before.value, learned.after.value
        assert before is not None
        assert after is not None
        return float(self.reward.reward(before=before, after=after, kilobytes=kilobytes))

    def _remember(self, exchanges: list[Exchange], arms: dict[int, Arm], counts: Counts) -> None:
        """Add the exchanges to the histories that the next profiles are made from."""
        for agent, sier in enumerate(self._sier):
            if sier is not None:
                self.states[agent] = self.states[agent].with_history(sier=sier)
        for exchange in exchanges:
            directive = exchange.directive
            if directive.pair is not None:
                teacher, _ = directive.pair
                self.states[teacher] = self.states[teacher].after_teaching(
                    items_kept=exchange.items_kept,
                    items_sent=exchange.items_sent,
                    reward=exchange.reward,
                )
            for student in directive.students:
                if student < self.num_agents:
                    reward = self._report(directive, arms[student], counts)
                    self.states[student] = self.states[student].after_learning(reward)

    # What the run records

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[AgentRow]:
        """Return one row an agent for rounds.jsonl, with test scores in rounds of evaluation."""
        everyone = range(self.num_agents)
        due = self.runtime.evaluation.due(round_number, self.runtime.num_rounds)
        tasks = [(self.states[i],) for i in everyone]
        scores = (
            self.pool.map(phases.evaluate, tasks, everyone) if due else [None] * self.num_agents
        )
        return [self._row(round_number, index, scores[index]) for index in everyone]

    def _row(self, round_number: int, index: int, score: Score | None) -> AgentRow:
        agent, update = self.runtime.roster.agents[index], self._updates[index]
        learned = self._learned.get(index)
        fits = [fit for fit in (update, learned.fit if learned else None) if fit is not None]
        perplexity = self.states[index].history.perplexity
        validation = float(np.log(perplexity[-1])) if perplexity else None
        return AgentRow(
            round=round_number,
            agent=index,
            name=agent.name,
            backbone=agent.backbone,
            train_loss=update.loss if update else None,
            validation_loss=learned.after.loss if learned else validation,
            learn_loss=learned.fit.loss if learned else None,
            pass_at_1_greedy=score.pass_at_1 if score else None,
            own_pass_at_1_greedy=score.own_pass_at_1 if score else None,
            codebleu_compat=score.codebleu_compat if score else None,
            codebleu_fixed=score.codebleu_fixed if score else None,
            tokens_trained=sum(fit.tokens for fit in fits),
            tokens_generated=sum(n for (j, _), n in self._generated.items() if j == index),
            optimizer_steps=sum(fit.optimizer_steps for fit in fits),
            kilobytes_received=self._received[index],
            kilobytes_scouted=self._scouted[index],
            sier=self._sier[index],
        )

    def final_samples(self) -> list[SampleRow]:
        """Return every agent's final completions of the test set with their outcomes."""
        everyone = range(self.num_agents)
        tasks = [(self.states[i],) for i in everyone]
        rows = self.pool.map(phases.answer_finally, tasks, everyone)
        return [row for agent_rows in rows for row in agent_rows]

    # Checkpoints

    def save(self, folder: Path) -> None:
        """Write all states, the servers' too, to ``folder/agents``.

        Packages that a sybil wrote for another are saved as well: its state may change before the
        other's exchange ends, and the text could then not be generated again.
        """
        (folder / "agents").mkdir()
        for state in self.states:
            save_state(folder / "agents" / f"{state.index}.safetensors", fetched(state))
        speaker = self.runtime.byzantine.speaker
        packages = sorted(self._cache.packages.items(), key=lambda item: in_order(item[0]))
        by_sybils = {
            str(place): _to_plain(asked, fetched(package))
            for place, (asked, package) in enumerate(packages)
            if speaker(asked[0]) != asked[0]
        }
        if by_sybils:
            save_tree(folder / _SYBIL_PACKAGES, by_sybils)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
        self.states[:] = [
            replace(load_state(folder / "agents" / f"{index}.safetensors"), index=index)
            for index in range(len(self.runtime.members))
        ]
        self._begin(0, range(self.num_agents))
        if (folder / _SYBIL_PACKAGES).exists():
            by_sybils = load_tree(folder / _SYBIL_PACKAGES)
            self._cache.packages.put(dict(map(_from_plain, by_sybils.values())))


def _source(directive: Directive) -> Source:
    return directive.teachers, directive.topics


def _arms(plan: Plan) -> dict[int, Arm]:
    """Return every student's arm: all that the plan teaches it."""
    sources: dict[int, tuple[Source, ...]] = {}
    for directive in plan:
        for student in directive.students:
            sources[student] = (*sources.get(student, ()), _source(directive))
    return {student: (taught, student) for student, taught in sources.items()}


def _as_sent(package: OutgoingPackage) -> Package:
    return Package(
        parts=(bytes_or_digest(package.text), bytes_or_digest(package.payload)),
        kilobytes=package.kilobytes,
        tokens_generated=package.tokens_generated,
        items_sent=package.items_sent,
        guardrail=dict(package.guardrail),
    )


def _to_plain(asked: Asked, package: OutgoingPackage) -> dict[str, Any]:
    """Return a package of text, and its topics, as plain values."""
    fields = {field.name: getattr(package, field.name) for field in dataclasses.fields(package)}
    fields |= {"text": package.text.decode(), "payload": np.frombuffer(package.payload, np.uint8)}
    return {"topics": asked[1], "fields": fields | {"guardrail": dict(package.guardrail)}}


def _from_plain(plain: dict[str, Any]) -> tuple[Asked, OutgoingPackage]:
    """Return what ``_to_plain`` was given."""
    fields, topics = plain["fields"], plain["topics"]
    sent = {"text": fields["text"].encode(), "payload": fields["payload"].tobytes()}
    package = OutgoingPackage(**fields | sent)
    return (package.teacher, None if topics is None else tuple(topics)), package
