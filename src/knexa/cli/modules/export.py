"""``python -m knexa.export``: the command ``knexa export``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("export")
