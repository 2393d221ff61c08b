"""What the matchmaker writes down: members, the directives under way, and what came of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from knexa.federation.scheduler import Sync
from knexa.matchmaking.base import Directive
from knexa.network.timing import Patience
from knexa.tracking.rows import ExchangeRow

Kind = Literal["wait", "prepare", "exchange", "finished"]
GUARDRAIL_KINDS: Final = ("blocked", "redacted", "counted")


@dataclass(kw_only=True)
class Member:
    """What the matchmaker knows of an agent.

    Attributes:
        address: Where its peers reach it.
        session: Which process of it registered last (hex).
        profile: Its newest profile.
        prepared_round: The round that the profile is of.
        learned: The last directive whose lesson it has learned and reported, kept because it may
            say so again after the round.
        results: What came of its lessons, until it has noted that.
    """

    address: str
    session: str
    profile: list[float]
    prepared_round: int = 0
    learned: str | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a student said of a directive; ``outcome`` is ``learned``, ``lost`` or ``refused``."""

    outcome: str
    reward: float = 0.0
    kilobytes: float = 0.0
    items_sent: int = 0
    items_kept: int = 0
    guardrail: dict[str, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class Errand:
    """A directive under way.

    Attributes:
        attempt: Raised when the student came back without the package.
        received: Whether the student has the package.
        answer: What came of it; None: not known yet.
        issued_s: When it was issued, or a restarted matchmaker read of it.
    """

    directive: Directive
    round: int
    index: int
    teacher: str
    student: str
    attempt: int = 0
    received: bool = False
    answer: Answer | None = None
    issued_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Todo:
    """What an agent is to do now."""

    kind: Kind
    round: int = 0
    errands: tuple[Errand, ...] = ()
    results: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the rounds go by.

    Attributes:
        names: The agents by roster index.
        num_features: Of a profile.
        largest_reward: In magnitude.
        exchange_s: After so long a directive without an answer is given up.
        agreement: What all parties must have configured alike (hex).
    """

    names: tuple[str, ...]
    seed: int
    num_rounds: int
    num_features: int
    largest_reward: float
    sync: Sync
    exchange_s: float
    patience: Patience
    agreement: str


def exchange_row(
    round_number: int, errand: Errand, answer: Answer, normalised: float | None
) -> ExchangeRow:
    """Return the directive's row of exchanges.jsonl, without the columns of virtual time."""
    directive, learned = errand.directive, normalised is not None
    late = learned and errand.round < round_number
    return ExchangeRow(
        id=directive.id,
        round=round_number,
        teachers=directive.teachers,
        students=directive.students,
        protocol=directive.protocol,
        score=directive.score,
        reward_raw=answer.reward if learned else None,
        reward_normalised=normalised,
        kilobytes=answer.kilobytes,
        items_sent=answer.items_sent,
        items_kept=answer.items_kept,
        guardrail={kind: answer.guardrail.get(kind, 0) for kind in GUARDRAIL_KINDS},
        server=None,
        outcome="late" if late else "delivered" if learned else answer.outcome,
        issued_round=errand.round,
    )
