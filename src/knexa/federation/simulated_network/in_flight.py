"""A directive in flight: which packages arrive, when, and with what outcome.

Times are seconds of the virtual clock. A directive of several teachers is carried out with those
whose packages arrive; without any teacher or student left it is not carried out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from knexa.exchange.package import PackageError
from knexa.federation.simulated_network.envelope import seal, unseal
from knexa.federation.simulated_network.faults import Copy
from knexa.federation.world import Package
from knexa.matchmaking.plans import Directive, Plan

Outcome = Literal["delivered", "lost", "refused", "dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A directive from its issue until it takes effect or fails.

    Attributes:
        directive: As carried out, with only the teachers whose packages arrived.
        agents: All agents that it keeps busy, as issued.
        index: Its place in the round's plan.
        outcome: ``delivered``; ``lost``: no package came; ``refused``: what came was damaged;
            ``dropped``: its teachers or students left.
        issued_round: The round of its plan.
        issued_s: When that plan was made.
        arrived_s: When the last of its packages arrived; None where none did.
        finished_s: When its students have learned, or it is given up.
        kilobytes: What its teachers sent.
        kilobytes_missed: The part of it in packages that never came, or came damaged.
        items_sent: Number of answers sent.
        guardrail: Counts of the senders' guardrails.
        faults: Its faults, counted by kind.
    """

    directive: Directive
    agents: tuple[int, ...]
    index: int
    outcome: Outcome
    issued_round: int
    issued_s: float
    arrived_s: float | None
    finished_s: float
    kilobytes: float
    items_sent: int
    guardrail: dict[str, int]
    faults: dict[str, int]
    kilobytes_missed: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "InFlight":
        """Return what ``state_dict`` was taken from."""
        directive: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in state["directive"].items()
        }
        fields = {**state, "directive": Directive(**directive), "agents": tuple(state["agents"])}
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class LateCopy:
    """A copy that arrives after its package."""

    arrives_s: float
    student: int
    address: str
    digest: str


@dataclass
class AwaitedPackages:
    """The packages that students wait for; second copies and unawaited packages are ignored.

    Attributes:
        digests: By directive and teacher, the digest of what arrived; None before.
    """

    digests: dict[str, dict[str, str | None]] = field(default_factory=dict)

    def expect(self, directive_id: str, teacher: int) -> str:
        """Await a teacher's package; return the address that it will bear."""
        self.digests.setdefault(directive_id, {})[str(teacher)] = None
        return f"{directive_id}/{teacher}"

    def take(self, address: str, digest: str) -> bool:
        """Return whether a package is the first with this address, and remember it."""
        directive_id, _, teacher = address.rpartition("/")
        by_teacher = self.digests.get(directive_id, {})
        if by_teacher.get(teacher, digest) is not None:
            return False
        by_teacher[teacher] = digest
        return True

    def close(self, directive_id: str) -> None:
        """Stop awaiting the directive's packages."""
        self.digests.pop(directive_id, None)


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of sending one teacher's package."""

    arrived_s: float | None
    known_s: float
    late_copies: tuple[LateCopy, ...]
    faults: Counter[str]

    @property
    def damaged(self) -> bool:
        """Whether only damaged copies arrived."""
        return self.arrived_s is None and self.faults["refused"] > 0


def send(
    package: Package,
    copies: Sequence[Copy],
    awaited: AwaitedPackages,
    *,
    directive_id: str,
    teacher: int,
    student: int,
    sent_s: float,
    travel_s: float,
    timeout_s: float,
) -> Sent:
    """Send a package through the network and let the receiver open every copy that arrives."""
    address = awaited.expect(directive_id, teacher)
    sealed, faults = seal(address, package.parts), Counter[str]()
    arrived_s: float | None = None
    refused_s, late_copies = sent_s, []
    for copy in sorted(copies, key=lambda copy: copy.delay_s):
        faults.update(copy.faults)
        if copy.lost:
            continue
        here_s = sent_s + travel_s + copy.delay_s
        try:
            opened = unseal(copy.carry(sealed))
        except PackageError:
            faults["refused"] += 1
            refused_s = max(refused_s, here_s)
            continue
        if arrived_s is not None:
            late_copies.append(LateCopy(here_s, student, opened.address, opened.digest))
        elif opened.address == address and awaited.take(address, opened.digest):
            arrived_s = here_s
    known_s = refused_s if faults["refused"] else sent_s + timeout_s
    return Sent(arrived_s, known_s if arrived_s is None else arrived_s, tuple(late_copies), faults)


def arriving(flights: Sequence[InFlight]) -> Plan:
    """Return the directives of which at least one package arrives."""
    return tuple(flight.directive for flight in flights if flight.outcome == "delivered")


def without(directive: Directive, gone: frozenset[int]) -> Directive:
    """Return the directive without the agents that have gone."""
    return replace(
        directive,
        teachers=tuple(agent for agent in directive.teachers if agent not in gone),
        students=tuple(agent for agent in directive.students if agent not in gone),
    )
