"""Matchmakers, contexts, selections and the CPM.

The names in ``__all__`` stay where modules are renamed; each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knexa.matchmaking.arrays import Array, Indices, Mask
    from knexa.matchmaking.base import Matchmaker
    from knexa.matchmaking.contexts import Context
    from knexa.matchmaking.cpm import CPM
    from knexa.matchmaking.ledger import Ledger
    from knexa.matchmaking.plans import Directive, Feedback, Matching, Plan, Selection
    from knexa.matchmaking.rewards import Reward
    from knexa.matchmaking.round_view import RoundView

__all__ = [
    "CPM",
    "Array",
    "Context",
    "Directive",
    "Feedback",
    "Indices",
    "Ledger",
    "Mask",
    "Matching",
    "Matchmaker",
    "Plan",
    "Reward",
    "RoundView",
    "Selection",
]

_MODULES = {
    "CPM": "cpm",
    "Array": "arrays",
    "Context": "contexts",
    "Directive": "plans",
    "Feedback": "plans",
    "Indices": "arrays",
    "Ledger": "ledger",
    "Mask": "arrays",
    "Matching": "plans",
    "Matchmaker": "base",
    "Plan": "plans",
    "Reward": "rewards",
    "RoundView": "round_view",
    "Selection": "plans",
}
"""Where each name is defined."""


def __getattr__(name: str) -> object:
    if name in _MODULES:
        module = import_module(f"{__name__}.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
