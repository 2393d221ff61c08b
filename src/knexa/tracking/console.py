"""What a person at the terminal sees: the start tree, progress with an ETA, the closing table."""

import sys
from types import TracebackType
from typing import IO, Self

from knexa.tracking.info import ClosingInfo, RoundInfo, StartInfo


class Console:
    """Writes to a terminal, or, where the output is none, one plain line per round."""

    def __init__(self, *, file: IO[str] | None = None, quiet: bool | None = None) -> None:
        self._file = file or sys.stdout

    def start(self, info: StartInfo) -> None:
        """Print the start-of-run tree and begin the progress bar."""

    def phase(self, round: int, name: str, *, index: int = 0, total: int = 1) -> None:
        """Say that phase ``index`` of ``total`` of the round begins."""

    def advance(self, fraction: float) -> None:
        """Say which fraction of the current phase is done."""

    def round_done(self, info: RoundInfo) -> None:
        """Say that a round ended, with its metrics."""

    def warn(self, message: str) -> None:
        """Print a one-line warning."""

    def close(self, info: ClosingInfo | None = None) -> None:
        """End the progress bar and print the closing table."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
