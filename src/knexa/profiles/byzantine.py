"""Forged profiles of Byzantine agents (``roster.byzantine``)."""

from collections.abc import Mapping, Sequence

from knexa.agents.byzantine import Array, ByzantineAgents
from knexa.data.problem import CATEGORIES
from knexa.profiles.layout import SKILL_FEATURES

_BOASTS: Mapping[str, float] = {
    **dict.fromkeys(("pass_at_1", "codebleu", "perplexity", "train_loss"), 1.0),
    **dict.fromkeys(("data_size", "teach_yield", "teach_gain", *SKILL_FEATURES), 1.0),
    **dict.fromkeys(CATEGORIES, 1.0 / len(CATEGORIES)),
}
"""An inflated profile, by feature: the best student and teacher, with the most diverse data."""


def shown(profiles_NF: Array, feature_names: Sequence[str], byzantine: ByzantineAgents) -> Array:
    """Return the profiles that the CPM is shown; all sybils show the same one."""
    if not byzantine.members:
        return profiles_NF
    shown_NF = profiles_NF[[byzantine.speaker(agent) for agent in range(len(profiles_NF))]]
    for agent in byzantine.members:
        if byzantine.does(agent, "inflated"):
            shown_NF[agent] = [
                _BOASTS.get(name, value)
                for name, value in zip(feature_names, shown_NF[agent], strict=True)
            ]
    return shown_NF
