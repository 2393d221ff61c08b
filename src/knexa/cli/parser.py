"""How the commands read their options: a page for ``--help``, one line for a mistake."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from knexa.errors import UserError


class Parser(argparse.ArgumentParser):
    """An option is written out in full; a description is shown as it is, its example with it."""

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
        """Add an option; it is required if it has no default and nothing is done ``otherwise``."""
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
        """Refuse the arguments, in the way that all commands refuse."""
        raise UserError(f"{message}; see {self.prog} --help")
