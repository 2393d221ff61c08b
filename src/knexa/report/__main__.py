"""``python -m knexa.report``: the command ``knexa report``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("report")
