"""``python -m knexa.agent``: the command ``knexa join``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("join")
