"""The agent backend for language models: runs the phases of a local run for one agent.

Every step ends with a checkpoint in the agent's own folder, so a killed agent resumes from the last
step that it has reported. What was learned is kept beside the agent's state until the matchmaker
says that it counts.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from knexa.agents import phases
from knexa.agents.exchange_protocol import ExchangeRuntime, OutgoingPackage, sier_of
from knexa.agents.private_training import agent_spent
from knexa.agents.scoring import measure
from knexa.agents.state import AgentState, load_state, save_state
from knexa.agents.training import DPTraining
from knexa.errors import UserError
from knexa.exchange.package import DEFAULT_LIMITS, PackageError
from knexa.matchmaking.arrays import Array
from knexa.network import messages
from knexa.network.agent_backend import Results
from knexa.network.assignments import GUARDRAIL_KINDS, StudentReport
from knexa.network.packages import NamedDirective, read_package
from knexa.network.refusals import RefusedError
from knexa.tracking.rows import OrganisationPrivacy, OrganisationRow
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tree_file import load_tree, save_tree

log = logging.getLogger(__name__)

_AGENT, _LEARNED = "agent.safetensors", "learned.safetensors"
_PROGRESS = "progress.safetensors"
_MAX_TOKENS: Final = 1 << 30


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
        self._pending: tuple[str, StudentReport, AgentState | None] | None = None
        self._taught: dict[str, dict[str, Any]] = {}
        self._packages: dict[str, bytes] = {}
        self._noted: list[str] = []
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

    def teach(self, directive: NamedDirective) -> bytes:
        """Return the package made before this round's learning; the same bytes at every call."""
        if directive.id in self._packages:
            return self._packages[directive.id]
        (outgoing,) = phases.teach(self._runtime, self.state, directive.round, self._index)
        self._taught[directive.id] = {
            "items_sent": outgoing.items_sent,
            "sier": sier_of([outgoing]),
        }
        package = messages.Package(
            text=outgoing.text,
            tensors=outgoing.payload,
            items_sent=outgoing.items_sent,
            guardrail=dict(outgoing.guardrail),
            tokens_generated=outgoing.tokens_generated,
        )
        self._packages[directive.id] = package.SerializeToString()
        self._save()
        return self._packages[directive.id]

    @property
    def pending(self) -> tuple[str, StudentReport] | None:
        """The directive that was learned from and is not settled yet, with its report."""
        return None if self._pending is None else self._pending[:2]

    def learn(self, directive: NamedDirective, package: bytes) -> StudentReport:
        """Learn from the package; keep the new state beside the present one until ``settle``."""
        round_number = directive.round
        learned_state: AgentState | None = None
        try:
            outgoing = self._read(directive, package)
            received = phases.receive(self._runtime, outgoing, round_number)
        except (PackageError, RefusedError):
            report = StudentReport(outcome="refused", kilobytes=len(package) / 1024)
        else:
            before = measure(self._runtime, self.state)
            learned_state, learned = phases.learn(
                self._runtime, self.state, received, round_number, before
            )
            reward = self._reward.reward(
                before=before.value, after=learned.after.value, kilobytes=outgoing.kilobytes
            )
            report = StudentReport(
                outcome="learned",
                reward=float(reward),
                kilobytes=outgoing.kilobytes,
                items_sent=outgoing.items_sent,
                items_kept=received.items_kept,
                guardrail={
                    kind: outgoing.guardrail[kind] + received.guardrail[kind]
                    for kind in GUARDRAIL_KINDS
                },
            )
        self._pending = directive.id, report, learned_state
        self._save()
        return report

    def settle(self, directive_id: str, *, counts: bool) -> None:
        """Adopt what was learned, or discard it."""
        if self._pending is None or self._pending[0] != directive_id:
            return  # nothing was learned from this directive
        _, report, learned_state = self._pending
        if counts and learned_state is not None:
            self.state = learned_state.after_learning(report.reward)
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
        """Add the results of teaching to the history, each once."""
        for id_, result in results.items():
            if id_ in self._noted:
                continue
            self._noted.append(id_)
            taught = self._taught.pop(id_, {"items_sent": 0, "sier": None})
            if taught["sier"] is not None:
                self.state = self.state.with_history(sier=taught["sier"])
            self.state = self.state.after_teaching(
                items_kept=int(result["items_kept"]),
                items_sent=taught["items_sent"],
                reward=float(result["reward"]),
            )

    def _read(self, directive: NamedDirective, package: bytes) -> OutgoingPackage:
        """Read a teacher's package; counts are capped at what an honest one can have."""
        read = read_package(package)
        most = DEFAULT_LIMITS.max_items
        return OutgoingPackage(
            teacher=self._indices[directive.teacher],
            text=read.text,
            payload=read.tensors,
            items_sent=min(read.items_sent, most),
            guardrail={k: min(read.guardrail.get(k, 0), most) for k in GUARDRAIL_KINDS},
            tokens_generated=min(read.tokens_generated, _MAX_TOKENS),
        )

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
            id_, report, learned_state = self._pending
            pending = {"id": id_, "report": asdict(report)}
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
            report = StudentReport(**progress["pending"]["report"])
            learned = folder / _LEARNED
            state = load_state(learned) if learned.exists() else None
            self._pending = progress["pending"]["id"], report, state

    def _check_owner(self, owner: dict[str, str]) -> None:
        for what, own in self._owner.items():
            if owner.get(what) != own:
                raise UserError(
                    f"{self._folder.path} belongs to another {what}: give the name and overrides "
                    "that it was begun with, or another --state"
                )
