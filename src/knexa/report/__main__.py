"""``python -m knexa.report``: the command ``knexa report``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("report")
