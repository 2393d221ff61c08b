"""Checks of a matchmaker's class, made before anything runs."""

import inspect
from typing import Any

from knexa.errors import UserError
from knexa.matchmaking.base import NEEDS, Matchmaker

_CALLS = {
    "start": ("num_features",),
    "propose": ("view",),
    "learn": ("contexts_Kd", "rewards_K"),
    "state_dict": (),
    "load_state_dict": ("state",),
}
"""Every method of a matchmaker, and the arguments that it is called with."""


def check_matchmaker(matchmaker: Matchmaker) -> None:
    """Refuse a policy that a run could not call or resume.

    Raises:
        UserError: It has no ``propose``, takes other arguments, declares an unknown need, or learns
            and does not save what it learned.
    """
    cls = type(matchmaker)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if not _overrides(cls, "propose"):
        raise UserError(f"{name} has no propose(self, view), which returns the round's plan")
    for method, arguments in _CALLS.items():
        try:
            inspect.signature(getattr(matchmaker, method)).bind(*arguments)
        except TypeError as error:
            wanted = ", ".join(("self", *arguments))
            raise UserError(f"{name}.{method} must be {method}({wanted}): {error}") from error
    _check_needs(name, matchmaker.needs)
    if _overrides(cls, "learn") and not _overrides(cls, "state_dict"):
        raise UserError(
            f"{name} learns but saves nothing, so that an interrupted run would forget: give it "
            "state_dict(self) and load_state_dict(self, state)"
        )
    if _overrides(cls, "state_dict") != _overrides(cls, "load_state_dict"):
        raise UserError(
            f"{name} has one of state_dict(self) and load_state_dict(self, state), and needs both "
            "to resume"
        )


def _overrides(cls: type[Matchmaker], method: str) -> bool:
    return getattr(cls, method) is not getattr(Matchmaker, method)


def _check_needs(name: str, needs: Any) -> None:
    known = ", ".join(sorted(NEEDS))
    if not isinstance(needs, frozenset | set):
        raise UserError(f"{name}.needs={needs!r}: must be a frozenset, of {known}")
    for need in needs - NEEDS:
        raise UserError(f"{name}.needs has {need!r}: no such need; allowed are {known}")
