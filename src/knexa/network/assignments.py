"""Records of the coordinator: its members, and the directives under way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from knexa.federation.exchange_rows import exchange_row
from knexa.federation.simulated_network.scheduler import Sync
from knexa.federation.world import Exchange
from knexa.matchmaking.plans import Directive
from knexa.matchmaking.rewards import Reward
from knexa.network.reports import GUARDRAIL_KINDS, StudentReport
from knexa.network.timing import HeartbeatPolicy
from knexa.tracking.rows import ExchangeRow

Kind = Literal["wait", "prepare", "exchange", "finished"]


@dataclass(kw_only=True)
class Member:
    """What the coordinator knows of an agent.

    Attributes:
        address: Where its peers reach it.
        incarnation: The random identifier (hex) of its process that registered last.
        profile: Its newest profile.
        prepared_round: The round of that profile.
        missing: The transfer problems, by place, that it then had no answer to.
        learned: The directives that it last reported as learned, together; kept after the round,
            since the report may be repeated.
        results: By directive, the results of what it taught, until it acknowledges them.
    """

    address: str
    incarnation: str
    profile: list[float]
    prepared_round: int = 0
    missing: Sequence[int] = ()
    learned: Sequence[str] = ()
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Assignment:
    """A directive that was issued and whose round has not ended.

    Attributes:
        missing: The transfer problems, by place, that the student asks about; None is all.
        attempt: Counted up when a restarted student has lost the package.
        received: Whether the student has received the package.
        report: The outcome; None while it is open.
        issued_s: When it was issued, or restored by a restarted coordinator.
    """

    directive: Directive
    round: int
    index: int
    teacher: str
    student: str
    missing: tuple[int, ...] | None = None
    attempt: int = 0
    received: bool = False
    report: StudentReport | None = None
    issued_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an agent is told to do next."""

    kind: Kind
    round: int = 0
    assignments: tuple[Assignment, ...] = ()
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """Settings of the coordinator.

    Attributes:
        names: The agents by roster index.
        num_features: Length of a profile.
        reward: The reward that students report.
        exchange_s: Time after which a directive without a report is given up.
        agreement: Hash (hex) of what all organisations must configure alike.
        categories: The category of each transfer problem, where students ask for what they lack
            (``exchange.ask=missing``); None where they ask for everything.
    """

    names: tuple[str, ...]
    seed: int
    num_rounds: int
    num_features: int
    reward: Reward
    sync: Sync
    exchange_s: float
    heartbeat_policy: HeartbeatPolicy
    agreement: str
    categories: tuple[int, ...] | None = None


def row_of_assignment(
    round_number: int, assignment: Assignment, report: StudentReport, normalised: float | None
) -> ExchangeRow:
    """Return the directive's row of exchanges.jsonl."""
    reported = Exchange(
        directive=assignment.directive,
        reward=report.reward,
        kilobytes=report.kilobytes,
        items_sent=report.items_sent,
        items_kept=report.items_kept,
        guardrail={kind: report.guardrail.get(kind, 0) for kind in GUARDRAIL_KINDS},
        answers=report.answers,
    )
    return exchange_row(
        round_number,
        reported,
        issued_round=assignment.round,
        outcome=report.outcome if normalised is None else "delivered",
        normalised=normalised,
    )
