"""``python -m knexa.export``: the command ``knexa export``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("export")
