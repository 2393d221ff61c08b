"""The steps of a round that an agent carries out, as a protocol independent of its model."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from knexa.network.packages import NamedDirective
from knexa.network.reports import StudentReport

Results = Mapping[str, Mapping[str, Any]]
"""By directive that the agent taught: its ``reward`` and ``items_kept``."""


class AgentBackend(Protocol):
    """An agent's side of the rounds. A step is durable when it returns, and may be repeated."""

    @property
    def prepared_round(self) -> int:
        """The last round that the agent has updated for; 0 before the first."""

    @property
    def pending(self) -> Mapping[str, StudentReport] | None:
        """The reports of the directives that were learned from and are not settled yet, by id."""

    @property
    def missing(self) -> Sequence[int]:
        """Transfer problems that the agent has no answer to, by place in the transfer set.

        Ascending; only where students ask for what they lack (``exchange.ask=missing``).
        """

    def first_profile(self) -> list[float]:
        """Return the profile to register with."""

    def prepare(self, round_number: int, results: Results) -> tuple[list[float], Sequence[str]]:
        """Record the results of earlier teaching, update on private data, and return the profile.

        Returns:
            The round's profile, and the directives whose results are recorded.
        """

    def teach(self, directives: Sequence[NamedDirective]) -> Mapping[str, bytes]:
        """Return the package of each directive by its id, as ``messages.Package`` in bytes."""

    def learn(
        self, directives: Sequence[NamedDirective], packages: Mapping[str, bytes]
    ) -> Mapping[str, StudentReport]:
        """Learn, once, from all packages; the agent's state changes only at ``settle``.

        Returns:
            A report on each directive: one without a package is lost.
        """

    def settle(self, *, counts: bool) -> None:
        """Adopt what was learned, or discard it where a directive was given up."""

    def finish(self, results: Results) -> None:
        """Record the results of the last round."""
