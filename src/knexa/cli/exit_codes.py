"""Exit codes, and the one line that reports an error."""

import sys

from knexa.errors import Interrupted, MachineError, UserError, one_line

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def say_interrupted(error: KeyboardInterrupt) -> int:
    """Print that a signal ended the command; return 128 and its number."""
    by = f" by {error.number.name}" if isinstance(error, Interrupted) else ""
    print(f"interrupted{by}: type the same command again to resume", file=sys.stderr)
    return 128 + error.number if isinstance(error, Interrupted) else EXIT_INTERRUPTED


def say_error(error: UserError | OSError) -> int:
    """Print an error that the user can fix as one line; return the exit code."""
    known = _explained(error) if isinstance(error, OSError) else error
    print(f"error: {one_line(known)}", file=sys.stderr)
    return EXIT_FAILED if isinstance(known, MachineError) else EXIT_USER_ERROR


def _explained(error: OSError) -> UserError:
    from knexa.tracking.files import is_disk_full

    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    if is_disk_full(error):
        return MachineError(f"{what}: make room there, then type the same command again")
    return UserError(f"{what}: check the files and folders that the command names")
