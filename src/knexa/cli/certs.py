"""Makes a federation's certificate authority and its members' certificates.

    python -m knexa.certs init DIR              a new authority in DIR
    python -m knexa.certs request DIR NAME      on the member's host: its key, and DIR/NAME.csr
    python -m knexa.certs sign DIR NAME FILE    on the authority's host: DIR/NAME.pem from a request
    python -m knexa.certs issue DIR NAME...     both at once, for trials on one host
    python -m knexa.certs revoke DIR [NAME...]  a new DIR/revoked.crl; without names a renewed one

NAME is the agent's name in the roster, or cpm for the matchmaker. Members need ca.pem, revoked.crl,
NAME.pem and NAME.key; ca.key never leaves the authority.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from knexa.errors import UserError
from knexa.party import check_installed, say_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (2 for the user's mistake, 1 for a full disk)."""
    given = _parser().parse_args(arguments)
    try:
        check_installed()
        for path in _run(given):
            print(f"wrote {path}")
    except (UserError, OSError) as error:
        return say_error(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m knexa.certs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("init", "request", "sign", "issue", "revoke"):
        sub = commands.add_parser(command)
        sub.add_argument("folder", metavar="DIR", type=Path)
        if command in ("request", "sign"):
            sub.add_argument("name", metavar="NAME")
        if command == "sign":
            sub.add_argument("file", metavar="FILE", type=Path, help="the member's NAME.csr")
        if command in ("issue", "revoke"):
            count = "+" if command == "issue" else "*"
            sub.add_argument("names", metavar="NAME", nargs=count)
        if command in ("init", "sign", "issue"):
            days = 365 if command == "init" else 90
            sub.add_argument("--days", type=_days, default=days, help="how long it is valid")
    return parser


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text} is no number of days from 1 to 3650")
    return int(text)


def _run(given: argparse.Namespace) -> list[Path]:
    """Carry the command out; return what it wrote."""
    from knexa.network import authority

    folder: Path = given.folder
    match given.command:
        case "init":
            authority.create(folder, days=given.days)
            return [folder / f"{authority.AUTHORITY}.pem", folder / authority.LIST]
        case "request":
            return [authority.request(folder, given.name)]
        case "sign":
            try:
                wanted = given.file.read_bytes()
            except OSError as error:
                raise UserError(f"{given.file} cannot be read: {error.strerror}") from None
            return [authority.sign(folder, given.name, wanted, days=given.days)]
        case "issue":
            return [authority.issue(folder, name, days=given.days) for name in given.names]
        case _:
            return [authority.revoke(folder, given.names)]


if __name__ == "__main__":
    sys.exit(main())
