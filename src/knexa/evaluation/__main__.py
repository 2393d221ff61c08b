"""``python -m knexa.evaluation``: the command ``knexa score``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("score")
