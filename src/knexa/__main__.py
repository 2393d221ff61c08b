"""The command line of ``python -m knexa`` and the console script; tiny, so that it starts fast."""

import os
import sys


def main() -> None:
    """Run the command line; a reader that went away (``knexa --help | head``) is no error."""
    try:
        exit_code = _main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes again at exit: give it somewhere to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        exit_code = 1
    sys.exit(exit_code)


def _main(arguments: list[str]) -> int:
    """Answer ``--help`` from the config folders alone; leave the rest to the application."""
    if "--help" in arguments or "-h" in arguments:
        from knexa.help_page import help_page

        print(help_page())
        return 0
    from knexa.app import run_command_line

    return run_command_line(arguments)


if __name__ == "__main__":
    main()
