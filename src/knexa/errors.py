"""The exceptions that mean "the user can mend this", and the wording of their lines."""

import difflib
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class UserError(Exception):
    """A mistake of the user's: one line that names what is wrong, what is allowed and the fix.

    The command line prints the message without a traceback and exits with code 2.
    """


class MachineError(UserError):
    """What the machine could not give a run: disk space, a worker that stays alive.

    One line as well, but nothing about the command is wrong: the same one goes on when the machine
    can. Exit code 1.
    """


class Interrupted(KeyboardInterrupt):
    """A signal other than Ctrl-C's told the process to end.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


def unknown_key(key: str, known: Sequence[str]) -> UserError:
    """Return the error for a key that does not exist where ``known`` ones do."""
    # Only the last part is compared: a long common prefix would make any two keys look alike.
    names = {name.rpartition(".")[2]: name for name in known}
    nearest = _nearest(key.rpartition(".")[2], names)
    hint = f" (did you mean {names[nearest]}?)" if nearest else ""
    return UserError(f"unknown key {key}{hint}; allowed: {', '.join(known) or 'none'}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean x?)`` for the nearest known spelling, or nothing."""
    nearest = _nearest(word, known)
    return f" (did you mean {nearest}?)" if nearest else ""


def _nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known spelling that is most like the word, ignoring case."""
    spelt = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(word.lower(), list(spelt), n=1, cutoff=0.6)
    return spelt[nearest[0]] if nearest else None


def show(value: Any) -> str:
    """Return a config value as the user would write it, shortened to 60 characters."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str):
        text = value if value.strip() else f"'{value}'"
    elif isinstance(value, list | tuple):
        text = "[" + ",".join(show(item) for item in value) + "]"
    elif isinstance(value, Mapping):
        text = "{" + ",".join(f"{name}:{show(item)}" for name, item in value.items()) + "}"
    else:
        text = str(value)
    text = one_line(text) if text.strip() else text
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(text: object) -> str:
    """Return the text with all white space, line breaks too, collapsed to single spaces."""
    return " ".join(str(text).split())


def first_line(text: object) -> str:
    """Return the first line that is not blank, without a trailing full stop."""
    return next((line.strip() for line in str(text).splitlines() if line.strip()), "").rstrip(".")
