"""Base of the federations of formulas: true mean rewards, and the same noise for all methods.

Every draw is seeded by (run seed, purpose, round) and indexed by the pair, never by the order in
which a method asks, so that methods meet the same world (common random numbers). Axes: N agents, K
exchanges; matrices are ``[teacher, student]``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.exchange_protocol import NOTHING_FOUND
from knexa.backbones.roster import FAMILIES
from knexa.data.problem import CATEGORIES
from knexa.errors import UserError
from knexa.federation.world import Exchange, Package, Trial
from knexa.matchmaking.answers import NO_TOPICS
from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.plans import Directive, Plan
from knexa.matchmaking.round_view import Probe
from knexa.profiles.byzantine import shown
from knexa.profiles.layout import DYNAMIC_FEATURES
from knexa.profiles.privacy import Mechanism, NoPrivacy
from knexa.seeding import derive_rng
from knexa.tracking.rows import AgentRow, SampleRow
from knexa.tracking.tree_file import load_tree, save_tree

if TYPE_CHECKING:
    from knexa.federation.settings import Settings

CONCENTRATIONS = {"low": 2.0, "medium": 0.7, "high": 0.3}
"""Dirichlet parameter of the agents' category shares by heterogeneity (the paper's)."""

NUM_FAMILIES = 4

LACKS = frozenset(
    {"roster", "data", "partition", "exchange", "guardrail", "training", "evaluation"}
)
"""The config groups that formulas have no use for."""

_FILE = "world.safetensors"
# Virtual time is computed from these: about the numbers of an agent of roster=tiny6.
_UPDATE_TOKENS, _EXCHANGE_TOKENS = 2000, 1000


class FormulaWorld:
    """A federation whose exchanges are formulas; implements ``federation.world.World``.

    Attributes:
        families_N: Every agent's backbone family, by its place in ``FAMILIES``.
        shares_NC: Every agent's category shares.
    """

    families_N: Indices
    shares_NC: Array
    protocol_name = "formula"
    heterogeneity = "high"
    admissible_NN: Mask | None = None
    topics = NO_TOPICS
    byzantine = ByzantineAgents()

    def __init__(self, settings: "Settings", num_agents: int, noise: float) -> None:
        self.num_agents, self.noise, self.seed = num_agents, noise, settings.seed
        self.reward, self.profile = settings.reward, settings.profile
        self.privacy: Mechanism = NoPrivacy()
        self.round = 0
        self._received_N = np.zeros(num_agents)
        # Sums and counts of the rewards that an agent earned as a student and as a teacher.
        self._earned_2N = np.zeros((2, num_agents))
        self._exchanges_2N = np.zeros((2, num_agents))

    def family_of(self, agent: int) -> str:
        """Return the agent's family."""
        return FAMILIES[int(self.families_N[agent])]

    def families_and_shares(self) -> dict[str, Array]:
        """Return the one-hot families and the data histograms, by feature name."""
        families = {f: (self.families_N == i).astype(np.float64) for i, f in enumerate(FAMILIES)}
        return families | {name: self.shares_NC[:, c] for c, name in enumerate(CATEGORIES)}

    # What derived worlds define

    def practise(self, active_N: Mask) -> None:
        """Update these agents locally."""

    def mean_rewards(self, teachers_K: Indices, students_K: Indices) -> Array:
        """Return the true mean rewards of these exchanges, rewards_K."""
        raise NotImplementedError

    def teach(self, teachers_K: Indices, students_K: Indices) -> None:
        """Let these exchanges take effect, all from the same snapshot."""

    def features(self) -> dict[str, Array]:
        """Return the profile features that the agents know, by name, each of length N."""
        raise NotImplementedError

    def pass_at_1(self) -> Array | None:
        """Return the expected Pass@1 of every agent, where the world has one."""
        return None

    def own_pass_at_1(self) -> Array | None:
        """Return the same on data like the agent's own, where the world has that."""
        return None

    def num_answers(self, directive: Directive) -> int:
        """Return the number of answers in a package of the directive."""
        return 1

    def kilobytes(self, directive: Directive) -> float:
        """Return the size of a package of the directive."""
        return 0.0

    def tokens(self, directive: Directive) -> int:
        """Return the tokens that virtual time counts for writing or learning a package."""
        return _EXCHANGE_TOKENS

    @property
    def partition(self) -> str:
        """How the private data differ."""
        return f"dirichlet, heterogeneity {self.heterogeneity}"

    def check(self, settings: "Settings") -> None:
        """Refuse what needs answers to problems.

        Raises:
            UserError: A matchmaker, a reward or a selection does.
        """
        choices = settings.choices
        if settings.matchmaker.teaches_itself:
            raise UserError(
                f"matchmaker={settings.matchmaker_name}: formulas learn from others alone; use "
                "federation=synthetic/answers or llm, or another matchmaker"
            )
        if settings.reward.measure != "validation_loss" or settings.reward.of_answers:
            raise UserError(
                f"reward={choices['reward']} is about a transfer set, which "
                f"federation={choices['federation']} has not: use reward=local_loss"
            )
        if settings.matching.by_topic or not settings.matching.chooses:
            raise UserError(
                f"matching={choices['matching']} is for answers to problems, which "
                f"federation={choices['federation']} has not: choose pairs or one_to_many"
            )

    def state(self) -> dict[str, Any]:
        """Return what changes from round to round."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""

    # The round, step by step

    def begin_round(self, round_number: int, active_N: Mask | None = None) -> None:
        """Let every agent practise, or those of ``active_N`` alone."""
        self.round = round_number
        self._received_N = np.zeros(self.num_agents)
        everyone_N = np.ones(self.num_agents, dtype=np.bool_)
        self.practise(everyone_N if active_N is None else active_N)

    def update_tokens(self) -> list[int]:
        """Return the tokens that virtual time counts for an update; formulas train on nothing."""
        return [_UPDATE_TOKENS] * self.num_agents

    def profiles(self) -> Array:
        """Return profiles_NF as the CPM sees them."""
        shown_NF = self.privacy.release(self.true_profiles(), self.round)
        return shown(shown_NF, self.profile.feature_names, self.byzantine)

    def true_profiles(self) -> Array:
        """Return profiles_NF before noise and forgery; undefined dynamic features are 1/2."""
        neutral = dict.fromkeys((*DYNAMIC_FEATURES, "trust"), np.full(self.num_agents, 0.5))
        neutral["sier"] = np.zeros(self.num_agents)  # formulas write no text
        known = neutral | self.features() | self._past()
        for name in self.profile.feature_names:
            if name not in known:
                raise UserError(
                    f"the profile has the feature {name!r}, which agents that are formulas have "
                    "not: use federation=llm, or another profile"
                )
        return np.stack([known[name] for name in self.profile.feature_names], axis=1)

    def _past(self) -> dict[str, Array]:
        means_2N = self._earned_2N / np.maximum(self._exchanges_2N, 1.0)
        exchanges_N = self._exchanges_2N.sum(axis=0)
        return {
            "learn_gain": 0.5 + 0.5 * np.tanh(means_2N[0]),
            "teach_gain": 0.5 + 0.5 * np.tanh(means_2N[1]),
            "exchanges": exchanges_N / (exchanges_N + 10.0),
        }

    def probe(self, round_number: int, *, by_topic: bool = False) -> Probe:
        """Return the true mean rewards of all ordered pairs; without a teacher it is 0."""
        num_agents = self.num_agents
        teachers_n, students_n = np.divmod(np.arange(num_agents**2), num_agents)
        rewards_NN = self.mean_rewards(teachers_n, students_n).reshape(num_agents, num_agents)
        np.fill_diagonal(rewards_NN, np.nan)
        return Probe(rewards=rewards_NN, no_teacher_N=np.zeros(num_agents))

    def peer_losses(self, round_number: int, *, by_topic: bool = False) -> Array:
        """Refuse: formulas write no text that could have a loss."""
        raise NotImplementedError("formulas have no text")

    def packages(self, round_number: int, plan: Plan) -> dict[str, dict[int, Package]]:
        """Return packages that stand for text."""
        return {
            directive.id: {
                teacher: Package(
                    parts=(f"formula {round_number} {teacher}".encode(),),
                    kilobytes=self.kilobytes(directive),
                    tokens_generated=self.tokens(directive),
                    items_sent=self.num_answers(directive),
                    guardrail=dict(NOTHING_FOUND),
                )
                for teacher in directive.teachers
            }
            for directive in plan
        }

    def try_learning(self, round_number: int, plan: Plan) -> list[Trial]:
        """Return the tokens of learning; rewards are computed when it takes effect."""
        return [
            Trial(directive=each, learning_tokens=dict.fromkeys(each.students, self.tokens(each)))
            for each in plan
        ]

    def commit(self, round_number: int, trials: Sequence[Trial]) -> list[Exchange]:
        """Let the students learn from the round's snapshot."""
        if not trials:
            return []
        now, self.round = self.round, round_number  # a late exchange counts as of its own round
        try:
            exchanges = self._commit([trial.directive for trial in trials])
        finally:
            self.round = now
        pairs = [each.directive.pair for each in exchanges if each.directive.pair is not None]
        rewards_K = np.array([each.reward for each in exchanges])
        teachers_K, students_K = np.array(pairs, dtype=np.int64).T
        for role, agents_K in enumerate((students_K, teachers_K)):
            np.add.at(self._earned_2N[role], agents_K, rewards_K)
            np.add.at(self._exchanges_2N[role], agents_K, 1.0)
        np.add.at(self._received_N, students_K, [each.kilobytes for each in exchanges])
        return exchanges

    def _commit(self, plan: Sequence[Directive]) -> list[Exchange]:
        """Let the exchanges take effect; rewards are true means plus noise."""
        pairs = [directive.pair for directive in plan]
        if None in pairs or any(directive.topics is not None for directive in plan):
            raise UserError(
                "formulas teach in pairs, about everything at once: choose another matchmaker, or "
                "federation=llm"
            )
        teachers_K, students_K = np.array(pairs, dtype=np.int64).T
        rewards_K = self.mean_rewards(teachers_K, students_K)
        rewards_K = rewards_K + self._noise(self.round, teachers_K, students_K)
        rewards_K = self._reports(teachers_K, students_K, rewards_K)
        self.teach(teachers_K, students_K)
        return [
            Exchange(
                directive=directive,
                reward=float(reward),
                kilobytes=self.kilobytes(directive),
                items_sent=1,
                items_kept=1,
                guardrail=dict(NOTHING_FOUND),
            )
            for directive, reward in zip(plan, rewards_K, strict=True)
        ]

    def _reports(self, teachers_K: Indices, students_K: Indices, rewards_K: Array) -> Array:
        """Return the rewards that the students report."""
        if not self.byzantine.members:
            return rewards_K
        earned = zip(teachers_K.tolist(), students_K.tolist(), rewards_K.tolist(), strict=True)
        return np.array([self.byzantine.report((j,), i, reward) for j, i, reward in earned])

    def _noise(self, round_number: int, teachers_K: Indices, students_K: Indices) -> Array:
        """Return the noise of these pairs, from the round's row of each teacher."""
        noise_K = np.empty(len(teachers_K))
        for k, (teacher, student) in enumerate(zip(teachers_K, students_K, strict=True)):
            rng = derive_rng(self.seed, "synthetic-noise", round_number, int(teacher))
            noise_K[k] = rng.normal(0.0, self.noise, self.num_agents)[student]
        return noise_K

    # What the run records

    def rows(self, round_number: int, exchanges: list[Exchange]) -> list[AgentRow]:
        """Return one row an agent for rounds.jsonl."""
        scores_N, own_N = self.pass_at_1(), self.own_pass_at_1()
        return [
            AgentRow(
                round=round_number,
                agent=agent,
                name=f"agent-{agent}",
                backbone=self.family_of(agent),
                pass_at_1_greedy=None if scores_N is None else float(scores_N[agent]),
                own_pass_at_1_greedy=None if own_N is None else float(own_N[agent]),
                tokens_trained=0,
                tokens_generated=0,
                optimizer_steps=0,
                kilobytes_received=float(self._received_N[agent]),
            )
            for agent in range(self.num_agents)
        ]

    def final_samples(self) -> list[SampleRow]:
        """Return nothing: formulas write no programs."""
        return []

    # Checkpoints

    def save(self, folder: Path) -> None:
        """Write the agents' state."""
        past = {"earned": self._earned_2N, "lessons": self._exchanges_2N}
        save_tree(folder / _FILE, {"past": past, "agents": self.state()})

    def load(self, folder: Path) -> None:
        """Restore what ``save`` wrote."""
        tree = load_tree(folder / _FILE)
        self._earned_2N = np.array(tree["past"]["earned"], dtype=np.float64)
        self._exchanges_2N = np.array(tree["past"]["lessons"], dtype=np.float64)
        self.set_state(tree["agents"])
