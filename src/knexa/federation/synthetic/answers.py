"""``federation=synthetic/answers``: agents that answer a public transfer set, as formulas.

What ``reward=new_answers`` and routed selections are about, in milliseconds a round: an agent's
skill in a category saturates in the right answers that it has learned from, its own and those that
others brought it. A map of where routing pays, calibrated roughly on the tiny world, and not a copy
of it: no answer does harm, and nothing is forgotten. Axes: N agents, C categories, P transfer
problems in the order of their categories, T topics; matrices are ``[teacher, student]``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from knexa.agents.exchange_protocol import NOTHING_FOUND
from knexa.data.problem import CATEGORIES
from knexa.errors import UserError
from knexa.federation.settings import Federation, Settings
from knexa.federation.synthetic.formulas import LACKS, NUM_FAMILIES, FormulaWorld
from knexa.federation.world import Exchange
from knexa.matchmaking.answers import TopicAnswers, TransferTopics
from knexa.matchmaking.arrays import Array, Mask
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.round_view import Probe, check_num_arms
from knexa.profiles.layout import SKILL_FEATURES
from knexa.seeding import derive_rng

if TYPE_CHECKING:
    from knexa.federation.synthetic.setup import FormulaSetup

Share = Annotated[float, Field(ge=0, le=1)]

EXPERT_SHARE = 0.9
"""Part of a category's data that its experts own, where ``experts`` are few."""

_KILOBYTES, _TOKENS = 0.1, 8
"""Of one answer: about the tiny world's."""


@dataclass(frozen=True, kw_only=True)
class SyntheticAnswers(Federation):
    """The settings of a federation whose agents answer a transfer set.

    Attributes:
        num_agents: N.
        alpha: Label skew: of each category one Dirichlet vector over the agents, as in
            ``partition=dirichlet``.
        experts: How many agents of each category, drawn for it, own nine tenths of its data, by
            ``alpha`` among them; all agents own the rest evenly. None: all agents are such.
        num_train: Problems that an agent owns on average.
        topic_sizes: Transfer problems of each category.
        ceiling: The skill that no number of right answers exceeds.
        half: Right answers of a category at which half of the ceiling is reached.
        practice: Share of its own problems not yet learned from that an agent learns in a round.
        learning: Share of the answers it keeps and has not yet learned from that a student learns
            in a round in which it is taught.
        persistence: How many of the pairs of agent and problem go by the problem's difficulty, one
            draw for all agents and rounds, as a share: who fails there fails until its skill has
            grown. The others are drawn anew each round.
    """

    name: ClassVar[str] = "synthetic/answers"
    lacks: ClassVar[frozenset[str]] = LACKS

    num_agents: Annotated[int, Field(ge=2, le=8192)] = 6
    alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 0.1
    experts: Annotated[int, Field(ge=1)] | None = None
    num_train: Annotated[float, Field(gt=0)] = 58.0
    topic_sizes: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=len(CATEGORIES), max_length=len(CATEGORIES)),
    ] = (11,) * 8 + (10,) * 4
    ceiling: Share = 0.77
    half: Annotated[float, Field(gt=0)] = 11.5
    practice: Share = 0.5
    learning: Share = 0.15
    persistence: Share = 0.9

    def __post_init__(self) -> None:
        """Check that there are as many agents as experts."""
        if self.experts is not None and self.experts > self.num_agents:
            raise ValueError(f"experts={self.experts}: there are {self.num_agents} agents")

    def set_up(self, settings: Settings, stack: ExitStack) -> "FormulaSetup":
        """Set the run up."""
        from knexa.federation.synthetic.setup import FormulaSetup

        return FormulaSetup(settings, AnswerWorld(self, settings))


class AnswerWorld(FormulaWorld):
    """Agents with a number of problems of their own and of answers kept, in each category.

    With q right answers of a category learned from, an agent's skill in it is
    ``ceiling q / (q + half)``. It answers a transfer problem right where a uniform draw, the
    problem's difficulty or the round's luck, is below its skill; a right answer is kept.
    """

    def __init__(self, federation: SyntheticAnswers, settings: Settings) -> None:
        super().__init__(settings, federation.num_agents, noise=0.0)
        self.federation = federation
        self.topics = TransferTopics(
            categories=tuple(range(len(CATEGORIES))), sizes=federation.topic_sizes
        )
        ends_T = np.cumsum(federation.topic_sizes).tolist()
        self._places = [
            slice(end - n, end) for end, n in zip(ends_T, self.topics.sizes, strict=True)
        ]
        self._starts_T = np.array([place.start for place in self._places])
        num_agents, num_problems = federation.num_agents, ends_T[-1]
        rng = derive_rng(settings.seed, "synthetic-answers")
        self.families_N = rng.integers(0, NUM_FAMILIES, num_agents)
        self.own_NC = _own_problems(federation, rng)
        self.shares_NC = self.own_NC / self.own_NC.sum(axis=1, keepdims=True)
        self._stays_NP = rng.random((num_agents, num_problems)) < federation.persistence
        self._difficulty_P = rng.random(num_problems)
        self.practised_NC, self.learned_NC = np.zeros((2, num_agents, len(CATEGORIES)))
        self.kept_NP: Mask = np.zeros((num_agents, num_problems), dtype=bool)
        self._taught_NC = self.skills_NC

    @property
    def skills_NC(self) -> Array:  # noqa: N802 - an axis legend
        """Every agent's chance to solve a problem of each category."""
        learned_NC = self.practised_NC + self.learned_NC
        return np.asarray(
            self.federation.ceiling * learned_NC / (learned_NC + self.federation.half)
        )

    @property
    def partition(self) -> str:
        """How the private data differ."""
        experts = self.federation.experts
        few = "" if experts is None else f", {experts} experts a category"
        return f"dirichlet, alpha {self.federation.alpha:g}{few}"

    def check(self, settings: Settings) -> None:
        """Refuse rewards of measurements, and regret of more arms than can be held."""
        if not settings.reward.of_answers:
            raise UserError(
                f"reward={settings.choices['reward']} is of measurements, and agents of "
                "federation=synthetic/answers only count answers: set reward=new_answers"
            )
        is_probed = settings.regret.every > 0 or "probes" in settings.matchmaker.needs
        if is_probed and settings.matching.by_topic:
            check_num_arms(self.num_agents, self.topics)

    def practise(self, active_N: Mask) -> None:
        """Learn from a part of one's own problems; what is taught this round is known from here."""
        rates_N1 = self.federation.practice * active_N[:, None]
        self.practised_NC = self.practised_NC + rates_N1 * (self.own_NC - self.practised_NC)
        self._taught_NC = self.skills_NC

    def right_answers(self) -> Mask:
        """Return which transfer problems each agent answers right in this round, right_NP."""
        rng = derive_rng(self.seed, "synthetic-answers-round", self.round)
        chance_NP = np.where(self._stays_NP, self._difficulty_P, rng.random(self._stays_NP.shape))
        return np.asarray(chance_NP < self._taught_NC.repeat(self.topics.sizes, axis=1))

    def probe(self, round_number: int, *, by_topic: bool = False) -> Probe:
        """Return what every arm earns in this round: it is a matter of the teachers' answers."""
        right_NP, lacks_NP = (
            mask_NP.astype(np.float64) for mask_NP in (self.right_answers(), ~self.kept_NP)
        )
        num_topics = len(self._places) if by_topic else 1
        rewards_NNT = np.zeros((self.num_agents, self.num_agents, num_topics))
        for topic, place in enumerate(self._places):
            new_NN = right_NP[:, place] @ lacks_NP[:, place].T
            rewards_NNT[:, :, topic if by_topic else 0] += new_NN / self.topics.sizes[topic]
        rewards_NNT[range(self.num_agents), range(self.num_agents)] = np.nan
        return Probe(
            rewards=rewards_NNT if by_topic else rewards_NNT[:, :, 0],
            no_teacher_N=np.zeros(self.num_agents),
        )

    def num_answers(self, directive: Directive) -> int:
        """Return how many problems a teacher of the directive is asked."""
        asked = self.topics.categories if directive.topics is None else directive.topics
        return sum(map(self.topics.size, asked))

    def kilobytes(self, directive: Directive) -> float:
        """Return the size of a package of the directive; who teaches itself sends none."""
        pair = directive.pair
        travels = pair is None or pair[0] != pair[1]
        return _KILOBYTES * self.num_answers(directive) * travels

    def tokens(self, directive: Directive) -> int:
        """Return the tokens that virtual time counts for writing or learning a package."""
        return _TOKENS * self.num_answers(directive)

    def _commit(self, plan: Sequence[Directive]) -> list[Exchange]:
        """Let students keep the right answers and learn from what they keep."""
        right_NP = self.right_answers()
        self.kept_NP = self.kept_NP.copy()
        exchanges = [self._exchange(directive, right_NP) for directive in plan]
        students_s = sorted({student for directive in plan for student in directive.students})
        kept_sC = np.add.reduceat(self.kept_NP[students_s], self._starts_T, axis=1, dtype=np.int64)
        learned_NC = self.learned_NC.copy()
        learned_NC[students_s] += self.federation.learning * (kept_sC - learned_NC[students_s])
        self.learned_NC = learned_NC
        return exchanges

    def _exchange(self, directive: Directive, right_NP: Mask) -> Exchange:
        """Let the student keep what is right; count it against what it kept until now."""
        if directive.pair is None:
            raise UserError(
                "formulas teach one student at a time: choose another matchmaker, or federation=llm"
            )
        teacher, student = directive.pair
        asked = self.topics.categories if directive.topics is None else directive.topics
        answers = []
        for category in asked:
            place = self._places[category]
            right_p, kept_p = right_NP[teacher, place], self.kept_NP[student, place]
            answers.append(
                TopicAnswers(
                    category=category,
                    asked=len(right_p),
                    right=int(right_p.sum()),
                    new=int((right_p & ~kept_p).sum()),
                )
            )
            kept_p |= right_p
        return Exchange(
            directive=directive,
            reward=self.reward.worth(answers, self.topics),
            kilobytes=self.kilobytes(directive),
            items_sent=sum(each.asked for each in answers),
            items_kept=sum(each.right for each in answers),
            guardrail=dict(NOTHING_FOUND),
            answers=tuple(answers),
        )

    def pass_at_1(self) -> Array:
        """Return the expected Pass@1 on the public test set, even over categories, pass_N."""
        return np.asarray(self.skills_NC.mean(axis=1))

    def own_pass_at_1(self) -> Array:
        """Return the same, each category weighted by its share of the agent's own data."""
        return np.asarray((self.shares_NC * self.skills_NC).sum(axis=1))

    def features(self) -> dict[str, Array]:
        """Return what the agents measure of themselves, with a little noise, by feature name."""
        rng = derive_rng(self.seed, "synthetic-profile", self.round)
        own_N = self.own_NC.sum(axis=1)
        measured_NC = self.skills_NC + rng.normal(0.0, 0.05, self.skills_NC.shape)
        values = {
            "pass_at_1": self.own_pass_at_1() + rng.normal(0.0, 0.02, self.num_agents),
            "data_size": own_N / (own_N + 50.0),
            "teach_yield": self.pass_at_1(),
        }
        for category, skill in enumerate(SKILL_FEATURES):
            values[skill] = np.clip(measured_NC[:, category], 0.0, 1.0)
        return self.families_and_shares() | values

    def state(self) -> dict[str, Any]:
        """Return what changes from round to round."""
        return {
            "practised": self.practised_NC,
            "learned": self.learned_NC,
            "kept": self.kept_NP.astype(np.int64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.practised_NC = np.array(state["practised"], dtype=np.float64)
        self.learned_NC = np.array(state["learned"], dtype=np.float64)
        self.kept_NP = np.array(state["kept"], dtype=bool)


def _own_problems(federation: SyntheticAnswers, rng: np.random.Generator) -> Array:
    """Return how many problems of each category every agent owns, own_NC; no whole numbers."""
    num_agents, num_categories = federation.num_agents, len(CATEGORIES)
    pool = federation.num_train * num_agents / num_categories
    experts = num_agents if federation.experts is None else federation.experts
    scarce = experts < num_agents
    shares_CN = np.full((num_categories, num_agents), (1 - EXPERT_SHARE) / num_agents * scarce)
    for shares_N in shares_CN:
        chosen_e = rng.permutation(num_agents)[:experts]
        # A floor keeps the shares of an agent that owns nothing defined.
        drawn_e = rng.dirichlet(np.full(experts, federation.alpha)) + 1e-9
        shares_N[chosen_e] += drawn_e * (EXPERT_SHARE if scarce else 1.0)
    return np.asarray(pool * shares_CN.T)
