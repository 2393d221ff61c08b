"""The agent backend for language models: runs the phases of a local run for one agent.

Every step ends with a checkpoint in the agent's own folder, so a killed agent resumes from the last
step that it has reported. A student learns once a round, from all packages that reached it; what it
learned is kept beside its state until the matchmaker says that it counts.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    OutgoingPackage,
    Question,
    sier_of,
)
from knexa.agents.private_training import agent_spent
from knexa.agents.state import AgentState, load_state, save_state
from knexa.agents.training import DPTraining
from knexa.errors import UserError
from knexa.exchange.package import PackageError
from knexa.matchmaking.arrays import Array
from knexa.matchmaking.plans import Directive, Plan
from knexa.network import messages, student
from knexa.network.agent_backend import Results
from knexa.network.packages import NamedDirective
from knexa.network.refusals import RefusedError, printable
from knexa.network.reports import StudentReport
from knexa.tracking.rows import OrganisationPrivacy, OrganisationRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tree_file import load_tree, save_tree

log = logging.getLogger(__name__)

_AGENT, _LEARNED = "agent.safetensors", "learned.safetensors"
_PROGRESS = "progress.safetensors"
_UNKNOWN: Mapping[str, Any] = {
    "topics": None,
    "missing": None,
    "items_sent": 0,
    "findings": (0, 0),
}
"""What is known of a package that was taught from a later checkpoint than this one."""


class LLMBackend:
    """One agent's side of the rounds; implements ``AgentBackend``.

    Args:
        runtime: The runtime of the run, with this agent's private problems only.
        index: The agent's index in the roster.
        profile: Builds profiles.
        reward: Computes the reward of an exchange.
        release: Applies the privacy mechanism to a profile before it is sent, given the round.
        agreement: See ``CoordinatorConfig``.
        folder: The agent's own folder, acquired; a checkpoint in it is resumed.

    Raises:
        UserError: The folder belongs to no agent, or to another agent, backbone or federation.
    """

    def __init__(
        self,
        runtime: ExchangeRuntime,
        index: int,
        *,
        profile: Any,
        reward: Any,
        release: Callable[[Array, int], Array],
        agreement: str,
        folder: RunDirectory,
    ) -> None:
        self._runtime, self._index, self._folder = runtime, index, folder
        self._profile, self._reward, self._release = profile, reward, release
        self._indices = {agent.name: i for i, agent in enumerate(runtime.roster.agents)}
        self._pending: tuple[dict[str, StudentReport], AgentState | None] | None = None
        self._taught: dict[str, dict[str, Any]] = {}
        self._packages: dict[str, bytes] = {}
        self._noted: Sequence[str] = ()
        self._last_profile: list[float] = []
        self.prepared_round = 0
        member = runtime.roster.agents[index]
        self._owner = {
            "agent": member.name,
            "backbone": member.backbone,
            "configuration": agreement,
        }
        checkpoint = folder.rewind()
        if checkpoint is None:
            self.state = phases.start(runtime, index)
            self._last_profile = self._features(0)
            self._save()
        else:
            self._load(checkpoint[1])

    def first_profile(self) -> list[float]:
        """Return the profile that was sent last."""
        return self._last_profile

    def prepare(self, round_number: int, results: Results) -> tuple[list[float], Sequence[str]]:
        """Record results, update, measure and return the profile; once a round.

        A matchmaker restarted from an earlier round gets the newest profile, since the privacy
        budget covers one profile a round.
        """
        if self.prepared_round > round_number:
            log.warning(
                "round %d is asked for, and round %d is done: the profile stays, without training",
                round_number,
                self.prepared_round,
            )
        elif self.prepared_round < round_number:
            self._note(results)
            self._packages.clear()
            self.state, report = phases.update_locally(self._runtime, self.state, round_number)
            self._last_profile, self.prepared_round = self._features(round_number), round_number
            history = self.state.history
            row = OrganisationRow(
                round=round_number,
                agent=self._index,
                train_loss=report.loss,
                validation_pass_at_1=history.pass_at_1[-1],
                validation_perplexity=history.perplexity[-1],
                lessons_learned=len(history.learn_rewards),
                lessons_taught=len(history.teach_rewards),
                privacy=self._spent(),
            )
            self._folder.append([row])
            self._save()
        return self._last_profile, self._noted

    def _spent(self) -> OrganisationPrivacy | None:
        """Return the privacy budget spent by training so far; None without DP training."""
        training = self._runtime.training
        if not isinstance(training, DPTraining):
            return None
        spent = agent_spent(self._runtime, self._index, self.state.optimizer_steps)
        return OrganisationPrivacy(delta=training.delta, **asdict(spent))

    def teach(self, directives: Sequence[NamedDirective]) -> Mapping[str, bytes]:
        """Return packages made before this round's learning; the same bytes at every call.

        Directives that ask the same have the same package.
        """
        missing = [each for each in directives if each.id not in self._packages]
        if missing:
            asked = list(dict.fromkeys(map(self._question, missing)))
            round_number = missing[0].round
            made, _ = phases.teach(self._runtime, self.state, round_number, self._index, asked)
            outgoing = dict(zip(asked, made, strict=True))
            packages = {question: _message(package) for question, package in outgoing.items()}
            for directive in missing:
                question = self._question(directive)
                sent, only = outgoing[question], question.missing
                self._taught[directive.id] = {
                    "topics": question.topics,
                    "missing": None if only is None else sorted(only),
                    "items_sent": sent.items_sent,
                    "findings": sent.findings,
                }
                self._packages[directive.id] = packages[question]
            self._save()
        return {directive.id: self._packages[directive.id] for directive in directives}

    @property
    def missing(self) -> Sequence[int]:
        """Transfer problems without an answer, by place, where students ask for these alone."""
        if not self._runtime.protocol.asks_missing:
            return ()
        kept, transfer = self.state.kept_problems, self._runtime.benchmark.transfer
        return [place for place, each in enumerate(transfer) if each.task_id not in kept]

    def _question(self, directive: NamedDirective) -> Question:
        """Return what the directive's student asks."""
        if not self._runtime.protocol.asks_missing:
            return Question(directive.topics)
        everything = Question(directive.topics)
        context = ExchangeContext(self._runtime, directive.round, everything)
        problems, places = self._runtime.protocol.problems(context), set(directive.missing)
        transfer = enumerate(self._runtime.benchmark.transfer)
        lacked = {each.task_id for place, each in transfer if place in places}
        missing = frozenset(each.task_id for each in problems if each.task_id in lacked)
        return everything if len(missing) == len(problems) else replace(everything, missing=missing)

    @property
    def pending(self) -> Mapping[str, StudentReport] | None:
        """The reports of what was learned and is not settled yet, by directive."""
        return None if self._pending is None else self._pending[0]

    def learn(
        self, directives: Sequence[NamedDirective], packages: Mapping[str, bytes]
    ) -> Mapping[str, StudentReport]:
        """Learn from the packages; keep the new state beside the present one until ``settle``.

        The directives are of one round, in the plan's order.
        """
        received: dict[str, student.Received] = {}
        failed: dict[str, StudentReport] = {}
        plan, round_number = self._planned(directives), directives[0].round
        questions = {each.id: self._question(each) for each in directives}
        for directive in plan:
            id_, package = directive.id, packages.get(directive.id)
            if package is None:
                failed[id_] = StudentReport(outcome="lost")
                continue
            try:
                received[id_] = student.receive(
                    self._runtime, directive, questions[id_], round_number, package
                )
            except (PackageError, RefusedError) as error:
                teacher = self._runtime.roster.agents[directive.teachers[0]].name
                log.warning("%s's package for %s is refused: %s", teacher, id_, printable(error))
                failed[id_] = StudentReport(outcome="refused", kilobytes=len(package) / 1024)
        reports, learned_state = dict[str, StudentReport](), None
        if received:
            came = tuple(directive for directive in plan if directive.id in received)
            reports, learned_state = student.learn(
                self._runtime, self.state, self._reward, came, round_number, received
            )
        self._pending = reports | failed, learned_state
        self._save()
        return self._pending[0]

    def _planned(self, directives: Sequence[NamedDirective]) -> Plan:
        """Return the directives as the plan has them, with roster indices."""
        return tuple(
            Directive(
                id=each.id,
                teachers=(self._indices[each.teacher],),
                students=(self._indices[each.student],),
                protocol=self._runtime.protocol.name,
                topics=each.topics,
            )
            for each in directives
        )

    def settle(self, *, counts: bool) -> None:
        """Adopt what was learned, or discard it."""
        if self._pending is None:
            return
        reports, learned_state = self._pending
        if counts and learned_state is not None:
            self.state = learned_state
            for report in reports.values():
                if report.outcome == "learned":
                    self.state = self.state.after_learning(report.reward)
        self._pending = None
        self._save()

    def finish(self, results: Results) -> None:
        """Record the last results."""
        self._note(results)
        self._save()
        spent = self._spent()
        if spent is not None:
            log.info("training has spent epsilon %.2f at delta %g", spent.epsilon, spent.delta)

    def _note(self, results: Results) -> None:
        """Add the results of teaching to the history, each once.

        The matchmaker repeats results until it is told that they are noted.
        """
        findings: dict[Any, tuple[int, int]] = {}
        for id_, result in results.items():
            if id_ in self._noted:
                continue
            taught = {**_UNKNOWN, **self._taught.pop(id_, {})}
            asked = tuple(taught["topics"] or ()), tuple(taught["missing"] or ())
            findings[asked] = tuple(taught["findings"])
            self.state = self.state.after_teaching(
                items_kept=int(result["items_kept"]),
                items_sent=taught["items_sent"],
                reward=float(result["reward"]),
            )
        sier = sier_of(findings.values())
        if sier is not None:
            self.state = self.state.with_history(sier=sier)
        self._noted = list(results)

    def _features(self, round_number: int) -> list[float]:
        """Return the agent's profile after the privacy mechanism."""
        index, roster = self._index, self._runtime.roster
        own_F = self._profile.build(
            self.state, family=roster.backbone_of(index).family, train=self._runtime.private(index)
        )
        profiles_NF = np.zeros((roster.num_agents, len(own_F)))
        profiles_NF[index] = own_F
        return [float(feature) for feature in self._release(profiles_NF, round_number)[index]]

    def _save(self) -> None:
        self._folder.sync()
        self._folder.write_checkpoint(self.prepared_round, self._write)

    def _write(self, folder: Path) -> None:
        save_state(folder / _AGENT, self.state)
        pending: dict[str, Any] | None = None
        if self._pending is not None:
            reports, learned_state = self._pending
            pending = {id_: asdict(report) for id_, report in reports.items()}
            if learned_state is not None:
                save_state(folder / _LEARNED, learned_state)
        save_tree(
            folder / _PROGRESS,
            {
                "owner": self._owner,
                "prepared_round": self.prepared_round,
                "profile": self._last_profile,
                "noted": self._noted,
                "taught": self._taught,
                "packages": {
                    id_: np.frombuffer(data, np.uint8) for id_, data in self._packages.items()
                },
                "pending": pending,
            },
        )

    def _load(self, folder: Path) -> None:
        file = folder / _PROGRESS
        progress = load_tree(file) if file.is_file() else {}
        self._check_owner(progress.get("owner", {}))
        self.state = load_state(folder / _AGENT)
        self.prepared_round = int(progress["prepared_round"])
        self._last_profile, self._noted = list(progress["profile"]), list(progress["noted"])
        self._taught = dict(progress["taught"])
        self._packages = {id_: data.tobytes() for id_, data in progress["packages"].items()}
        if progress["pending"] is not None:
            pending = progress["pending"]
            reports = {id_: StudentReport.of(fields) for id_, fields in pending.items()}
            learned = folder / _LEARNED
            self._pending = reports, load_state(learned) if learned.exists() else None

    def _check_owner(self, owner: dict[str, str]) -> None:
        for what, own in self._owner.items():
            if owner.get(what) != own:
                raise UserError(
                    f"{self._folder.path} belongs to another {what}: give the name and overrides "
                    "that it was begun with, or another --state"
                )


def _message(outgoing: OutgoingPackage) -> bytes:
    """Return a package as ``messages.Package`` in bytes."""
    package = messages.Package(
        text=outgoing.text,
        tensors=outgoing.payload,
        items_sent=outgoing.items_sent,
        guardrail=dict(outgoing.guardrail),
        tokens_generated=outgoing.tokens_generated,
    )
    return bytes(package.SerializeToString())
