"""How the commands read their options: a page for ``--help``, one line for a mistake."""

import argparse
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

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments, in the way that all commands refuse."""
        raise UserError(f"{message}; see {self.prog} --help")
