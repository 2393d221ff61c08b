"""The command line of ``python -m knexa`` and the console script; tiny, so that it starts fast."""

import logging
import os
import signal
import sys

from knexa.errors import INTERRUPTED
from knexa.interrupts import listen


def main() -> None:
    """Run the command line; a reader that went away (``knexa --help | head``) is no error."""
    listen()
    try:
        exit_code = _main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at exit: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = 1
    except KeyboardInterrupt:  # before the application was imported, which says it itself
        print(INTERRUPTED, file=sys.stderr)
        exit_code = 130
    if exit_code == 130:
        # The line above is the last word: of what libraries say at exit, and to another Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.disable()
    sys.exit(exit_code)


def _main(arguments: list[str]) -> int:
    """Answer ``--help`` and ``--version`` without Hydra; leave the rest to the application."""
    if "--help" in arguments or "-h" in arguments:
        from knexa.help_page import help_page

        print(help_page())
        return 0
    if "--version" in arguments:
        from importlib import metadata

        print(f"knexa {metadata.version('knexa')} (Hydra {metadata.version('hydra-core')})")
        return 0
    from knexa.app import run_command_line

    return run_command_line(arguments)


if __name__ == "__main__":
    main()
