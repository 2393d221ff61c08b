"""Matchmakers, contexts, selections and the CPM.

The names in ``__all__`` stay where modules are renamed; each is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from knexa.matchmaking.arrays import Array, Indices, Mask
    from knexa.matchmaking.base import (
        Directive,
        Feedback,
        Matching,
        Matchmaker,
        Plan,
        RoundView,
        Selection,
    )
    from knexa.matchmaking.contexts import Context
    from knexa.matchmaking.cpm import CPM
    from knexa.matchmaking.ledger import Ledger
    from knexa.matchmaking.rewards import Reward

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
    "Indices": "arrays",
    "Ledger": "ledger",
    "Mask": "arrays",
    "Reward": "rewards",
}
"""Where a name is defined; the others are in ``base``."""


def __getattr__(name: str) -> object:
    if name in __all__:
        module = import_module(f"{__name__}.{_MODULES.get(name, 'base')}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
