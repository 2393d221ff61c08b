"""What an agent does for the federation, whatever it is made of: its side of a round."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from knexa.network.errands import Answer
from knexa.network.packages import Assignment

Results = Mapping[str, Mapping[str, Any]]
"""By directive, what a lesson that the agent gave has earned: ``reward`` and ``items_kept``."""


class Work(Protocol):
    """An agent's work. Each step is durable when it returns, and may be asked for again."""

    @property
    def prepared_round(self) -> int:
        """The last round that the agent has updated for; 0 before the first."""

    @property
    def pending(self) -> tuple[str, Answer] | None:
        """The directive that was learned from and is not settled yet, and what was found."""

    def first_profile(self) -> list[float]:
        """Return the profile of the agent as it stands."""

    def prepare(self, round_number: int, results: Results) -> tuple[list[float], Sequence[str]]:
        """Note what earlier lessons earned, update on private data, and return the profile.

        Returns:
            The round's profile, and the directives whose results are noted.
        """

    def teach(self, assignment: Assignment) -> bytes:
        """Return the package for the student, as ``messages.Package`` in bytes."""

    def learn(self, assignment: Assignment, package: bytes) -> Answer:
        """Learn from a package; the agent stays as it was until ``settle``."""

    def settle(self, directive_id: str, *, counts: bool) -> None:
        """Keep what was learned, or forget it where the directive was given up."""

    def finish(self, results: Results) -> None:
        """Note what the last lessons earned."""
