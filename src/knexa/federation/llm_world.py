"""The federation of LoRA agents: what a round means when the agents are language models.

Data flow of a round: states -> local update (all agents) -> profiles -> the plan -> lessons of its
teachers -> what a student keeps of each -> learning -> states. A probe runs the last three for
every ordered pair from the same snapshot; an exchange that was probed is not computed again, since
a phase is a pure function and the trial is the exchange.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from knexa.agents import phases
from knexa.agents.phases import Learned, Lesson, Received
from knexa.agents.session import Session
from knexa.agents.state import AgentState, load_state, save_state
from knexa.agents.training import FitReport
from knexa.engine.local import Pool
from knexa.federation.world import Exchange
from knexa.matchmaking.base import Array, Mask, Plan, Probe


class LLMWorld:
    """The agents and what has happened to them; implements ``federation.world.World``."""

    def __init__(self, session: Session, pool: Pool, reward: Any, profile: Any) -> None:
        self.session, self.pool, self.reward, self.profile = session, pool, reward, profile
        self.num_agents = len(session.roster.agents)
        self.protocol_name = session.protocol.name
        self.admissible_NN: Mask | None = None
        everyone = range(self.num_agents)
        self.states: list[AgentState] = pool.map(phases.start, [(i,) for i in everyone], everyone)
        self._forget_round()

    def _forget_round(self) -> None:
        self._updates: list[FitReport | None] = [None] * self.num_agents
        self._lessons: dict[int, tuple[Lesson, Received]] = {}
        self._trials: dict[tuple[int, int], tuple[AgentState, Learned]] = {}
        self._learned: dict[int, Learned] = {}
        self._kilobytes = [0.0] * self.num_agents

    # The round, step by step

    def begin_round(self, round_number: int) -> None:
        """Update every agent on its private data and measure it on its validation split."""
        self._forget_round()
        everyone = range(self.num_agents)
        tasks = [(state, round_number) for state in self.states]
        sizes = [len(split.train) for split in self.session.splits]
        results = self.pool.map(phases.update_locally, tasks, everyone, sizes)
        self.states = [state for state, _ in results]
        self._updates = [report for _, report in results]

    def profiles(self) -> Array:
        """Return profiles_NF of the states as they stand."""
        return np.stack(
            [
                self.profile.build(
                    state,
                    family=self.session.roster.backbone_of(state.index).family,
                    train=self.session.splits[state.index].train,
                )
                for state in self.states
            ]
        )

    def probe(self, round_number: int) -> Probe:
        """Try every ordered pair and the no-teacher arm from the round's snapshot."""
        everyone = range(self.num_agents)
        self._prepare_lessons(round_number, everyone)
        pairs = [(j, i) for i in everyone for j in everyone if i != j]
        alone = self.pool.map(
            phases.learn, [(state, None, round_number) for state in self.states], everyone
        )
        self._try(round_number, pairs)
        rewards_NN = np.full((self.num_agents, self.num_agents), np.nan)
        for teacher, student in pairs:
            rewards_NN[teacher, student] = self._reward(teacher, student)
        no_teacher_N = np.array([self._raw(learned, kilobytes=0.0) for _, learned in alone])
        return Probe(rewards_NN=rewards_NN, no_teacher_N=no_teacher_N)

    def peer_losses(self, round_number: int) -> Array:
        """Return every student's loss on every teacher's text."""
        raise NotImplementedError

    def exchange(self, round_number: int, plan: Plan) -> list[Exchange]:
        """Carry the plan out; students learn from the snapshot, so the order does not matter."""
        pairs = [directive.pair for directive in plan if directive.pair is not None]
        if len(pairs) < len(plan):
            raise NotImplementedError(f"{self.session.protocol.name} teaches in pairs only")
        self._prepare_lessons(round_number, sorted({teacher for teacher, _ in pairs}))
        self._try(round_number, [pair for pair in pairs if pair not in self._trials])
        states = list(self.states)
        exchanges = []
        for directive, (teacher, student) in zip(plan, pairs, strict=True):
            lesson, received = self._lessons[teacher]
            states[student], learned = self._trials[teacher, student]
            self._learned[student] = learned
            self._kilobytes[student] += lesson.kilobytes
            exchanges.append(
                Exchange(
                    directive=directive,
                    reward=self._reward(teacher, student),
                    kilobytes=lesson.kilobytes,
                    items_sent=lesson.items_sent,
                    items_kept=learned.items_kept,
                    guardrail={
                        kind: lesson.guardrail[kind] + received.guardrail[kind]
                        for kind in lesson.guardrail
                    },
                    tokens_generated=lesson.tokens_generated,
                )
            )
        self.states = states
        self._remember(exchanges)
        return exchanges

    def _prepare_lessons(self, round_number: int, teachers: Any) -> None:
        missing = [teacher for teacher in teachers if teacher not in self._lessons]
        lessons = self.pool.map(
            phases.teach, [(self.states[j], round_number) for j in missing], missing
        )
        received = self.pool.map(phases.receive, [(lesson,) for lesson in lessons], missing)
        self._lessons.update(zip(missing, zip(lessons, received, strict=True), strict=True))

    def _try(self, round_number: int, pairs: list[tuple[int, int]]) -> None:
        tasks = [(self.states[i], self._lessons[j][1], round_number) for j, i in pairs]
        results = self.pool.map(phases.learn, tasks, [student for _, student in pairs])
        self._trials.update(zip(pairs, results, strict=True))

    def _reward(self, teacher: int, student: int) -> float:
        learned = self._trials[teacher, student][1]
        kilobytes = self._lessons[teacher][0].kilobytes
        return self._raw(learned, kilobytes)

    def _raw(self, learned: Learned, kilobytes: float) -> float:
        return float(
            self.reward.reward(
                before=learned.loss_before,
                after=learned.loss_after,
                kilobytes=kilobytes,
            )
        )

    def _remember(self, exchanges: list[Exchange]) -> None:
        """Write the exchanges into the histories that the next profiles are made from."""
        for exchange in exchanges:
            assert exchange.directive.pair is not None
            teacher, student = exchange.directive.pair
            sent = max(exchange.items_sent, 1)
            taught = self.states[teacher]
            self.states[teacher] = taught.with_history(
                teach_yield=exchange.items_kept / sent,
                teach_rewards=(*taught.history.teach_rewards, exchange.reward),
            )
            pupil = self.states[student]
            self.states[student] = pupil.with_history(
                learn_rewards=(*pupil.history.learn_rewards, exchange.reward)
            )

    # What the run records

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[dict[str, Any]]:
        """Return one row an agent for rounds.jsonl, measured on the test set where that is due."""
        everyone = range(self.num_agents)
        due = self.session.evaluation.due(round_number, self.session.num_rounds)
        tasks = [(state,) for state in self.states]
        scores = self.pool.map(phases.evaluate, tasks, everyone) if due else [{}] * self.num_agents
        generated = {e.directive.teachers[0]: e.tokens_generated for e in exchanges}
        return [
            self._row(round_number, index, scores[index], generated.get(index, 0))
            for index in everyone
        ]

    def _row(
        self, round_number: int, index: int, score: dict[str, Any], generated: int
    ) -> dict[str, Any]:
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
            "validation_loss": learned.loss_after if learned else validation,
            "learn_loss": learned.fit.loss if learned else None,
            "pass@1_greedy": score.get("pass_at_1"),
            "codebleu_compat": score.get("codebleu_compat"),
            "codebleu_fixed": score.get("codebleu_fixed"),
            "tokens_trained": sum(fit.tokens for fit in fits),
            "tokens_generated": generated,
            "optimizer_steps": sum(fit.optimizer_steps for fit in fits),
            "kilobytes_received": self._kilobytes[index],
        }

    def final_samples(self) -> list[dict[str, Any]]:
        """Return every agent's final completions of the test set with their outcomes."""
        everyone = range(self.num_agents)
        tasks = [(state,) for state in self.states]
        rows = self.pool.map(phases.answer_finally, tasks, everyone)
        return [row for agent_rows in rows for row in agent_rows]

    # Checkpoints

    def save(self, folder: Path) -> None:
        """Write every agent's state to ``folder/agents``."""
        (folder / "agents").mkdir()
        for state in self.states:
            save_state(folder / "agents" / f"{state.index}.safetensors", state)

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
        self.states = [
            replace(load_state(folder / "agents" / f"{index}.safetensors"), index=index)
            for index in range(self.num_agents)
        ]
        self._forget_round()
