"""``python -m knexa.doctor``: the command ``knexa doctor``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("doctor")
