"""The steps of a round that an agent carries out, as a protocol independent of its model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from knexa.network.assignments import StudentReport
from knexa.network.packages import NamedDirective

Results = Mapping[str, Mapping[str, Any]]
"""By directive that the agent taught: its ``reward`` and ``items_kept``."""


class AgentBackend(Protocol):
    """An agent's side of the rounds. A step is durable when it returns, and may be repeated."""

    @property
    def prepared_round(self) -> int:
        """The last round that the agent has updated for; 0 before the first."""

    @property
    def pending(self) -> tuple[str, StudentReport] | None:
        """The directive that was learned from and is not settled yet, with its report."""

    def first_profile(self) -> list[float]:
        """Return the profile to register with."""

    def prepare(self, round_number: int, results: Results) -> tuple[list[float], Sequence[str]]:
        """Record the results of earlier teaching, update on private data, and return the profile.

        Returns:
            The round's profile, and the directives whose results are recorded.
        """

    def teach(self, directive: NamedDirective) -> bytes:
        """Return the package for the student, as ``messages.Package`` in bytes."""

    def learn(self, directive: NamedDirective, package: bytes) -> StudentReport:
        """Learn from a package; the agent's state changes only at ``settle``."""

    def settle(self, directive_id: str, *, counts: bool) -> None:
        """Adopt what was learned, or discard it where the directive was given up."""

    def finish(self, results: Results) -> None:
        """Record the results of the last round."""
