"""``python -m knexa.cpm``: the command ``knexa serve``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("serve")
