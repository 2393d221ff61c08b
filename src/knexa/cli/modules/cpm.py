"""``python -m knexa.cpm``: the command ``knexa serve``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("serve")
