"""The argument parser of the commands: mistakes are one line."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from knexa.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser without abbreviations, which shows descriptions unformatted."""

    def __init__(self, prog: str, description: str | None, usage: str | None = None) -> None:
        super().__init__(
            prog=prog,
            usage=usage,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def option(
        self,
        flag: str,
        metavar: str,
        meaning: str,
        kind: Callable[[str], object] = str,
        *,
        default: object = None,
        otherwise: str = "",
    ) -> None:
        """Add an option, required unless it has a default or ``otherwise`` says what is done."""
        required = default is None and not otherwise
        without = "required" if required else f"default: {otherwise or default}"
        self.add_argument(
            flag,
            metavar=metavar,
            help=f"{meaning} ({without})",
            type=kind,
            default=default,
            required=required,
        )

    def error(self, message: str) -> NoReturn:
        """Raise a ``UserError``."""
        raise UserError(f"{message}; see {self.prog} --help")
