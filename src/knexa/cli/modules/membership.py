"""``python -m knexa.membership_inference``: the command ``knexa audit``."""

from knexa import run_command

if __name__ == "__main__":
    run_command("audit")
