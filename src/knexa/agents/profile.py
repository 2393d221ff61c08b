"""The abstract profile that an agent shows the CPM: 32 features, each in about [0, 1].

8 static (one-hot backbone family), 12 dynamic, 12 data (the normalised histogram of the training
problems over the categories), as in the paper. Nothing in it is text, and nothing was measured on
the test set. ``profile_layout`` names the features in their order.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.profile_layout import FEATURE_NAMES, NUM_DYNAMIC
from knexa.agents.state import AgentState, History
from knexa.backbones.roster import FAMILIES
from knexa.data.problem import Problem
from knexa.data.skew import category_histogram


@dataclass(frozen=True, kw_only=True)
class Paper32:
    """The paper's profile.

    The dynamic features, all from the agent's own validation split, its training and its exchanges:
    Pass@1; CodeBLEU (fixed); 1 / perplexity; the changes of these three since the measurement
    before, as 0.5 + change / 2; the training loss x as 1 / (1 + x); the number of training problems
    n as n / (n + 50); the share of its last package that receivers kept; the mean reward as a
    student and as a teacher, as 0.5 + tanh(mean) / 2; the number of exchanges m as m / (m + 10).
    What is not known yet is 0.5 where it is a change or a mean reward and 0 elsewhere.
    """

    feature_names: ClassVar[tuple[str, ...]] = FEATURE_NAMES
    trust_column: ClassVar[int | None] = None
    measures_skills: ClassVar[bool] = False

    def build(
        self, state: AgentState, *, family: str, train: tuple[Problem, ...]
    ) -> NDArray[np.float64]:
        """Return the agent's 32 features."""
        static = [float(name == family) for name in FAMILIES]
        dynamic = _dynamic(state.history, len(train))
        assert len(dynamic) == NUM_DYNAMIC
        return np.concatenate([static, dynamic, category_histogram(train)])


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
