"""The command line: finds the command it names, runs it, and reports how it ended.

A command is a module of this package with its name and a ``main(arguments)`` that returns the exit
code. It is imported only when it is called, so that ``knexa --help`` answers at once. A
``UserError``, an ``OSError``, Ctrl-C and SIGTERM are reported in one line, for all commands alike.
"""

import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from knexa.cli.exit_codes import EXIT_FAILED, EXIT_OK, say_error, say_interrupted
from knexa.cli.help import COMMANDS, help_page
from knexa.cli.interrupts import listen
from knexa.errors import UserError

_SIGNALLED = 128  # an exit code above it says that a signal ended the command
_SIMILAR = 0.7  # similarity, at most 1: "repotr" means "report", "seed" does not mean "serve"


def main(command: str | None = None) -> None:
    """Run this process's command line, or a command with its arguments; exit with its code."""
    listen()
    given = [] if command is None else [command]
    exit_code = run_command_line([*given, *sys.argv[1:]])
    if exit_code > _SIGNALLED:
        # Nothing is printed after that line, by libraries at exit or on another signal.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        logging.disable()
    sys.exit(exit_code)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run what a command line asks for and return the exit code.

    0: done; 1: it failed; 2: the user's mistake; 130: Ctrl-C; 129 and 143: SIGHUP and SIGTERM.
    """
    try:
        exit_code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has closed the pipe
        # Python flushes once more at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK if arguments[:1] == ["report"] else EXIT_FAILED
    except (UserError, OSError) as error:
        return say_error(error)
    except KeyboardInterrupt as error:
        return say_interrupted(error)
    return exit_code


def _run(arguments: Sequence[str]) -> int:
    """Run the command; answer ``--help`` and ``--version`` without Hydra."""
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
        return EXIT_OK  # Tab after a command: the shell completes files
    if len(typed) in (1, 2):
        print(*COMMANDS, sep="\n")
    from knexa.cli import experiments

    return experiments.main(arguments)


def _refuse_misspelt(name: str) -> None:
    """Raise a ``UserError`` if the word is almost a command."""
    import difflib

    if near := difflib.get_close_matches(name, COMMANDS, n=1, cutoff=_SIMILAR):
        raise UserError(
            f"{name}: no such command (did you mean {near[0]}?); commands are {', '.join(COMMANDS)}"
        )
