"""Makes a federation's certificate authority and its members' certificates.

    knexa certs init DIR              a new authority in DIR
    knexa certs request DIR NAME      on the member's host: its key, and DIR/NAME.csr
    knexa certs sign DIR NAME FILE    on the authority's host: DIR/NAME.pem from a request
    knexa certs issue DIR NAME...     both at once, for trials on one host
    knexa certs revoke DIR [NAME...]  a new DIR/revoked.crl; without names a renewed one

NAME is the agent's name in the roster, or cpm for the matchmaker. Members need ca.pem, revoked.crl,
NAME.pem and NAME.key; ca.key never leaves the authority.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from knexa.cli.organisation import check_installed
from knexa.cli.parser import Parser
from knexa.errors import UserError

_COMMANDS = {
    "init": "Make a new authority.",
    "request": "Make a member's key, and a request for the authority to sign.",
    "sign": "Make a member's certificate from its request.",
    "issue": "Make keys and certificates at once, for trials on one host.",
    "revoke": "Make a new list of revoked certificates.",
}


def main(arguments: Sequence[str]) -> int:
    """Make the files that the arguments name; return the exit code."""
    given = _parser().parse_args(arguments)
    check_installed()
    for path in _run(given):
        print(f"wrote {path}")
    return 0


def _parser() -> Parser:
    parser = Parser("knexa certs", __doc__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command, summary in _COMMANDS.items():
        sub = commands.add_parser(command, help=summary, description=summary)
        sub.add_argument("folder", metavar="DIR", type=Path, help="the folder that holds the files")
        if command in ("request", "sign"):
            sub.add_argument("name", metavar="NAME", help="the member's name")
        if command == "sign":
            sub.add_argument("file", metavar="FILE", type=Path, help="the member's NAME.csr")
        if command in ("issue", "revoke"):
            count = "+" if command == "issue" else "*"
            sub.add_argument("names", metavar="NAME", nargs=count, help="a member's name")
        if command in ("init", "sign", "issue"):
            days = 365 if command == "init" else 90
            sub.option("--days", "N", "days that it is valid", _days, default=days)
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
