"""``python -m knexa.report RUNS...``: a Markdown table of finished runs, methods as rows.

Every argument is a run directory or a folder of them. The intervals are over seeds.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from knexa.errors import UserError
from knexa.report.table import method_table, read_runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code (2: the user's mistake, told in one line)."""
    parser = argparse.ArgumentParser(prog="python -m knexa.report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories, or folders of them")
    parser.add_argument(
        "--against", metavar="METHOD", help="add paired differences to this method, e.g. random/akd"
    )
    options = parser.parse_args(arguments)
    try:
        print(method_table(read_runs(options.runs), against=options.against))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
