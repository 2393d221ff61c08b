"""Notes for a run's first screen: Byzantine agents, faults, asynchrony, privacy budgets."""

from collections.abc import Sequence
from dataclasses import fields

from knexa.agents.byzantine import ByzantineAgents
from knexa.federation.settings import Settings
from knexa.federation.simulated_network.faults import Faults

_NOT_A_FAULT = {"abrupt", "joined_by"}
"""Settings that shape a fault and do nothing without it."""


def run_notes(
    settings: Settings, byzantine: ByzantineAgents, names: Sequence[str]
) -> tuple[str, ...]:
    """Return one line a note."""
    federation, lines = settings.federation, []
    if byzantine.members:
        who = ", ".join(names[agent] for agent in byzantine.members)
        lines.append(
            f"{who} lie{'s' * (len(byzantine.members) == 1)}: "
            + ", ".join(sorted(byzantine.attacks))
        )
    faults = _faults(federation.faults)
    if faults:
        lines.append(f"faults: {', '.join(faults)}")
    if federation.sync == "async":
        lines.append(
            f"rounds: asynchronous, until {federation.quorum:.0%} of the feedback is in or "
            f"{federation.timer_s:g} virtual seconds have passed"
        )
    for what, component in (("profiles", settings.privacy), ("training", settings.training)):
        if component is not None and (spent := component.budget) is not None:
            budget = f"epsilon {spent.epsilon:g}, delta {spent.delta:g}"
            lines.append(f"{what}: differentially private, {budget} over the run")
    return tuple(lines)


def _faults(faults: Faults) -> list[str]:
    """Return the rates that are not zero, and the restarts."""
    harmless = Faults()
    return [
        f"{field.name} {value:g}" if isinstance(value, float) else f"{field.name} after {value}"
        for field in fields(faults)
        if field.name not in _NOT_A_FAULT
        and getattr(harmless, field.name) in (0.0, ())
        and (value := getattr(faults, field.name))
    ]
