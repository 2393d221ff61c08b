"""The federation of LoRA agents: the steps of a round when the agents are language models.

Data flow of a round: states -> local update (all agents) -> profiles -> the plan -> packages ->
trials of learning (``round_cache``) -> commit -> states. A probe tries every ordered pair from the
same snapshot; where the plan does not need it, it comes after the packages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeRuntime,
    Learned,
    OutgoingPackage,
    Question,
    ReceivedKnowledge,
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
from knexa.federation.llm.saved_packages import package_from_plain, package_to_plain
from knexa.federation.world import Exchange, Package, Trial
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.plans import Directive, Plan
from knexa.matchmaking.rewards import Reward
from knexa.matchmaking.round_view import Probe
from knexa.profiles.build import Profile
from knexa.profiles.byzantine import shown
from knexa.profiles.privacy import Mechanism, NoPrivacy
from knexa.tracking.rows import AgentRow, SampleRow
from knexa.tracking.tree_file import load_tree, save_tree

_PACKAGES = "packages.safetensors"
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
        self._under_way: dict[Asked, set[str]] = {}
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
        self._scouted_questions: set[Question] = set()
        self._asked: set[Asked] = set()
        self._under_way = {
            asked: ids for asked, ids in self._under_way.items() if asked in self._cache.packages
        }
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
        arms: list[Arm] = [
            ((((j,), self._answers.question(round_number, None, i)),), i) for j, i in pairs
        ]
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
        questions = [Question(topics) for topics in asked]
        self._cache.receive(round_number, [(j, each) for j in everyone for each in questions])
        rewards = np.full((self.num_agents, self.num_agents, len(asked)), -np.inf)
        known = {i: self._answers.kept(i) for i in everyone}
        for teacher in everyone:
            for place, question in enumerate(questions):
                right = right_answers(self._cache.received[teacher, question])
                for student in everyone:
                    if student != teacher and self._admits(teacher, student):
                        rewards[teacher, student, place] = self.reward.worth(
                            self._answers.count(round_number, question, right, known[student]),
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
        questions = {
            i: [self._answers.question(round_number, topics, i) for topics in asked]
            for i in everyone
        }
        arms: dict[tuple[int, int, int], Asked] = {
            (j, i, place): (j, question)
            for i in everyone
            for j in everyone
            if i != j
            for place, question in enumerate(questions[i])
        }
        sent = sorted(set(arms.values()), key=in_order)
        self._cache.receive(round_number, sent)
        packages, received = self._cache.packages, self._cache.received
        tasks = [(self.states[i], received[each].texts) for (_, i, _), each in arms.items()]
        found = self.pool.map(text_loss, tasks, [i for _, i, _ in arms])
        losses = np.full((self.num_agents, self.num_agents, len(asked)), np.nan)
        for (arm, each), loss in zip(arms.items(), found, strict=True):
            losses[arm] = loss
            self._scouted[arm[1]] += packages[each].kilobytes
        self._count_findings(sent)
        self._asked.update(sent)
        self._scouted_questions = {question for _, question in sent}
        return losses if by_topic else losses[:, :, 0]

    def _asked_by_topic(self) -> list[Topics]:
        return [(category,) for category in self.topics.categories]

    def taught(self, round_number: int, teachers: Iterable[int]) -> list[Taught]:
        """Return what these teachers send on all topics, and what students keep of it."""
        return self._cache.taught(round_number, Question(), teachers)

    def packages(self, round_number: int, plan: Plan) -> dict[str, dict[int, Package]]:
        """Return the packages of the plan's teachers, and count the tokens generated for them."""
        sources = self._sources(round_number, plan)
        directives: dict[Asked, set[str]] = {}
        for id_, (teachers, question) in sources.items():
            for teacher in teachers:
                directives.setdefault((teacher, question), set()).add(id_)
        self._cache.make_packages(round_number, sorted(directives, key=in_order))
        self._asked.update(directives)
        self._under_way |= directives
        return {
            id_: {j: _as_sent(self._cache.packages[j, question]) for j in teachers}
            for id_, (teachers, question) in sources.items()
        }

    def _sources(self, round_number: int, plan: Plan) -> dict[str, Source]:
        """Return every directive's teachers, and what they are asked, by directive."""
        return {
            each.id: (
                each.teachers,
                Question(each.topics)
                if each.pair is None
                else self._answers.question(round_number, each.topics, each.pair[1]),
            )
            for each in plan
        }

    def try_learning(self, round_number: int, plan: Plan) -> list[Trial]:
        """Let each student learn once, from the snapshot and all that the plan brings it.

        Raises:
            ValueError: The protocol cannot serve a directive.
        """
        self._check(plan)
        arms = _arms(plan, self._sources(round_number, plan))
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
        sources = self._sources(round_number, plan)
        arms = _arms(plan, sources)
        counts = self._counts(round_number, plan, sources)
        self._count_findings(
            {(j, question) for teachers, question in sources.values() for j in teachers}
        )
        for student, arm in arms.items():
            sier = self.states[student].history.sier  # may be newer than the trial
            state, learned = self._cache.trials[arm]
            self.states[student] = state.with_history(sier=sier)
            if student < self.num_agents:
                self._learned[student] = learned
                self._count_received(arm)
        exchanges = [self._exchange(each, sources[each.id], arms, counts) for each in plan]
        self._remember(exchanges, arms, counts)
        for ids in self._under_way.values():
            ids.difference_update(sources)
        return exchanges

    def _counts(self, round_number: int, plan: Plan, sources: dict[str, Source]) -> Counts:
        """Return what each directive brings each student, under a reward of answers."""
        if not self.reward.of_answers:
            return {}

        def brought(directive: Directive, student: int) -> tuple[Question, ReceivedKnowledge]:
            source = sources[directive.id]
            return source[1], self._cache.transfers[source].for_student(student)

        return self._answers.of_plan(round_number, plan, range(self.num_agents), brought)

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
            scouted = [source for source in sources if source[1] in self._scouted_questions]
            self._scouted[student] -= self._cache.kilobytes(scouted)

    def _count_findings(self, asked: Iterable[Asked]) -> None:
        findings: dict[int, list[tuple[int, int]]] = {}
        for each in asked:
            findings.setdefault(each[0], []).append(self._cache.packages[each].findings)
        for teacher, found in findings.items():
            self._sier[teacher] = sier_of(found)

    def _exchange(
        self, directive: Directive, source: Source, arms: dict[int, Arm], counts: Counts
    ) -> Exchange:
        """Return the record of a directive whose students have learned."""
        transfer = self._cache.transfers[source]
        agents = [i for i in directive.students if i < self.num_agents]
        return Exchange(
            directive=directive,
            reward=float(np.mean([self._report(directive, arms[i], counts) for i in agents])),
            kilobytes=transfer.shared_kilobytes + sum(self._kilobytes(source, i) for i in agents),
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
        generated = self._cache.tokens_generated(round_number, self._asked)
        return [self._row(round_number, i, scores[i], generated[i]) for i in everyone]

    def _row(
        self, round_number: int, index: int, score: Score | None, tokens_generated: int
    ) -> AgentRow:
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
            tokens_generated=tokens_generated,
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

        Packages of exchanges that have not ended are saved as well. Written again, they could
        differ: they were decoded together with others, and a sybil's state may have changed.
        """
        (folder / "agents").mkdir()
        for state in self.states:
            save_state(folder / "agents" / f"{state.index}.safetensors", fetched(state))
        speaker, has_text = self.runtime.byzantine.speaker, self.runtime.protocol.has_text
        packages = {
            str(place): {
                **package_to_plain(asked[1], fetched(self._cache.packages[asked])),
                "directives": sorted(self._under_way[asked]),
            }
            for place, asked in enumerate(sorted(self._under_way, key=in_order))
            if self._under_way[asked] and (has_text or speaker(asked[0]) != asked[0])
        }
        if packages:
            save_tree(folder / _PACKAGES, packages)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
        self.states[:] = [
            replace(load_state(folder / "agents" / f"{index}.safetensors"), index=index)
            for index in range(len(self.runtime.members))
        ]
        self._begin(0, range(self.num_agents))
        if (folder / _PACKAGES).exists():
            for plain in load_tree(folder / _PACKAGES).values():
                asked, package = package_from_plain(plain)
                self._cache.packages.put({asked: package})
                self._under_way[asked] = set(plain["directives"])


def _arms(plan: Plan, sources: dict[str, Source]) -> dict[int, Arm]:
    """Return every student's arm: all that the plan teaches it."""
    taught: dict[int, tuple[Source, ...]] = {}
    for directive in plan:
        for student in directive.students:
            taught[student] = (*taught.get(student, ()), sources[directive.id])
    return {student: (of_student, student) for student, of_student in taught.items()}


def _as_sent(package: OutgoingPackage) -> Package:
    return Package(
        parts=(bytes_or_digest(package.text), bytes_or_digest(package.payload)),
        kilobytes=package.kilobytes,
        tokens_generated=package.tokens_generated,
        items_sent=package.items_sent,
        guardrail=dict(package.guardrail),
    )
