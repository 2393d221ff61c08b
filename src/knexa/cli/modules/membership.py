"""``python -m knexa.membership_inference``: the command ``knexa audit``."""

from knexa.cli.commands import main

if __name__ == "__main__":
    main("audit")
