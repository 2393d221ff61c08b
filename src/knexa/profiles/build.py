"""The profiles that agents show the CPM, vectors of features in about [0, 1].

As in the paper: 8 static (one-hot backbone family), 12 dynamic, 12 data features (the normalised
histogram of the training problems over the categories); the longer profiles add trust, SIER and
skills between the dynamic and the data ones. Nothing in a profile is text or measured on the test
set. ``layout`` names the features in order.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.state import AgentState, History
from knexa.backbones.roster import FAMILIES
from knexa.data.problem import Problem
from knexa.data.skew import category_histogram
from knexa.profiles import layout

UNKNOWN_TRUST = 0.5
"""An agent's own entry in the trust column: the CPM's score of a newcomer."""


class Profile(ABC):
    """Base of every component of the config group ``profile``.

    Class attributes:
        feature_names: Names of the features, in order.
        trust_column: Index of the feature that the CPM fills in; None without one.
        measures_skills: Whether agents must measure ``History.skills`` for it.
    """

    feature_names: ClassVar[tuple[str, ...]] = ()
    trust_column: ClassVar[int | None] = None
    measures_skills: ClassVar[bool] = False

    @abstractmethod
    def build(
        self, state: AgentState, *, family: str, train: tuple[Problem, ...]
    ) -> NDArray[np.float64]:
        """Return the agent's features."""


@dataclass(frozen=True, kw_only=True)
class Paper32(Profile):
    """The paper's profile; base of the longer ones.

    The dynamic features, all from the agent's own validation split, its training and its exchanges:
    Pass@1; CodeBLEU (fixed); 1 / perplexity; the changes of these three since the measurement
    before, as 0.5 + change / 2; the training loss x as 1 / (1 + x); the number of training problems
    n as n / (n + 50); the share of its last package that receivers kept; the mean reward as a
    student and as a teacher, as 0.5 + tanh(mean) / 2; the number of exchanges m as m / (m + 10).
    Unknown changes and mean rewards are 0.5, other unknown values 0.
    """

    name: ClassVar[str] = "paper32"
    feature_names: ClassVar[tuple[str, ...]] = layout.FEATURE_NAMES

    def build(
        self, state: AgentState, *, family: str, train: tuple[Problem, ...]
    ) -> NDArray[np.float64]:
        """Return the agent's features."""
        static = [float(name == family) for name in FAMILIES]
        dynamic = _dynamic(state.history, len(train))
        added = self.added(state.history)
        return np.concatenate([static, dynamic, added, category_histogram(train)])

    def added(self, history: History) -> tuple[float, ...]:
        """Return the features between the dynamic and the data ones."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Trust(Paper32):
    """The paper's profile, its trust score and SIER (main text, "historical and trust features").

    Only the CPM knows an agent's trust (``Ledger.trust``); the agent leaves 0.5 in its place. SIER
    is the share of the answers that the agent last sent in which its own guardrail found something,
    as reported by itself; 0 before the first.
    """

    name: ClassVar[str] = "trust"
    feature_names: ClassVar[tuple[str, ...]] = layout.TRUST_FEATURE_NAMES
    trust_column: ClassVar[int | None] = layout.TRUST

    def added(self, history: History) -> tuple[float, ...]:
        """Return trust and SIER."""
        return UNKNOWN_TRUST, history.sier or 0.0


@dataclass(frozen=True, kw_only=True)
class Skills(Trust):
    """The features of ``Trust``, and the agent's pass rate in each category; ours.

    Skills are measured on the public probe set and so reveal nothing private; they are 0 until
    the first measurement.
    """

    name: ClassVar[str] = "skills"
    feature_names: ClassVar[tuple[str, ...]] = layout.SKILLS_FEATURE_NAMES
    measures_skills: ClassVar[bool] = True

    def added(self, history: History) -> tuple[float, ...]:
        """Return trust, SIER and the skills."""
        skills = history.skills or (0.0,) * len(layout.SKILL_FEATURES)
        return (*super().added(history), *skills)


def _dynamic(history: History, num_train: int) -> list[float]:
    skill = (
        history.pass_at_1,
        history.codebleu,
        tuple(1.0 / value for value in history.perplexity),
    )
    exchanges = len(history.learn_rewards) + len(history.teach_rewards)
    return [
        *(values[-1] if values else 0.0 for values in skill),
        *(0.5 + (values[-1] - values[0]) / 2 if values else 0.5 for values in skill),
        0.0 if history.train_loss is None else 1.0 / (1.0 + history.train_loss),
        num_train / (num_train + 50.0),
        history.teach_yield or 0.0,
        _squash(history.learn_rewards),
        _squash(history.teach_rewards),
        exchanges / (exchanges + 10.0),
    ]


def _squash(rewards: tuple[float, ...]) -> float:
    return 0.5 + 0.5 * float(np.tanh(np.mean(rewards))) if rewards else 0.5
