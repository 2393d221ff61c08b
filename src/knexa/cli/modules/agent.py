"""``python -m knexa.agent``: the command ``knexa join``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("join")
