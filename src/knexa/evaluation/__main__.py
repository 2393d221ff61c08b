"""``python -m knexa.evaluation``: the command ``knexa score``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("score")
