"""``python -m knexa.doctor``: the command ``knexa doctor``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("doctor")
