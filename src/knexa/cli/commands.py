"""The one command line: which command it names, and how every command ends.

A command is a module of this room that bears its name and has ``main(arguments)``, which returns
the exit code. It is imported when it is asked for, so that ``knexa --help`` answers at once. What
it raises is told here, alike for all: a ``UserError`` or ``OSError`` in one line, and so is Ctrl-C.
"""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from knexa.cli.endings import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, say_error
from knexa.cli.help import COMMANDS, help_page
from knexa.cli.interrupts import listen
from knexa.errors import UserError

_ALIKE = 0.7  # of 1: "repotr" is like "report"; "seed", which lacks its "=", not like "serve"


def main(command: str | None = None) -> None:
    """Run this process's command line, or a command with its arguments; exit with its code."""
    listen()
    given = [] if command is None else [command]
    exit_code = run_command_line([*given, *sys.argv[1:]])
    if exit_code == EXIT_INTERRUPTED:
        # The line was the last word: of what libraries say at exit, and to another Ctrl-C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.disable()
    sys.exit(exit_code)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run what a command line asks for and return the exit code.

    0: done; 1: it failed; 2: the user's mistake, told in one line; 130: interrupted.
    """
    try:
        exit_code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        # Python flushes again at exit: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except (UserError, OSError) as error:
        return say_error(error)
    except KeyboardInterrupt:
        print("interrupted: type the same command again to resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    return exit_code


def _run(arguments: Sequence[str]) -> int:
    """Hand over to the command; answer ``--help`` and ``--version`` without Hydra."""
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        command: Callable[[Sequence[str]], int]
        command = importlib.import_module(f"knexa.cli.{name}").main
        try:
            return command(arguments[1:])
        except SystemExit as done:  # argparse has printed the command's help
            return done.code if isinstance(done.code, int) else EXIT_FAILED
    if "--help" in arguments or "-h" in arguments:
        print(help_page())
        return EXIT_OK
    if "--version" in arguments:
        from importlib import metadata

        print(f"knexa {metadata.version('knexa')} (Hydra {metadata.version('hydra-core')})")
        return EXIT_OK
    if "=" not in name and name[:1] not in ("", "-", "+", "~"):
        _refuse_misspelt(name)
    typed = os.environ.get("COMP_LINE", "").split() if "-sc" in arguments else []
    if COMMANDS.keys() & typed:
        return EXIT_OK  # Tab behind a command: the shell has files to offer, Hydra nothing
    if len(typed) in (1, 2):
        print(*COMMANDS, sep="\n")
    from knexa.cli import experiments

    return experiments.main(arguments)


def _refuse_misspelt(name: str) -> None:
    """Raise a ``UserError`` that names the command which was meant, if there is one."""
    import difflib

    if near := difflib.get_close_matches(name, COMMANDS, n=1, cutoff=_ALIKE):
        raise UserError(
            f"{name}: no such command (did you mean {near[0]}?); commands are {', '.join(COMMANDS)}"
        )
