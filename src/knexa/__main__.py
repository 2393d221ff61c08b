"""The command line of ``python -m knexa`` and the console script; tiny, so that it starts fast."""

import sys


def main() -> None:
    """Answer ``--help`` from the config folders alone; leave everything else to the application."""
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        from knexa.help_page import help_page

        print(help_page())
        return
    from knexa.app import run_command_line

    sys.exit(run_command_line(arguments))


if __name__ == "__main__":
    main()
