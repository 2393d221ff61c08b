"""``python -m knexa.certs``: the command ``knexa certs``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("certs")
