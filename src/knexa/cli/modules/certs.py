"""``python -m knexa.certs``: the command ``knexa certs``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("certs")
