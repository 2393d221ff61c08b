"""System calls that Python does not wrap, through ctypes, and a record of those that failed.

Linux only; elsewhere every call fails, so that every layer is reported as missing.
"""

import ctypes
import os
import sys
from collections.abc import Callable

libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
MACHINE = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine) if libc is not None else None
"""Column of the tables of call numbers (x86-64, aarch64); None on any other machine."""

refused: dict[str, str] = {}
"""By name of a missing layer, the reason."""

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36


def syscall(number: int, *args: object) -> int:
    """Make a system call by number; returns -1 and sets errno if it fails."""
    if libc is None:
        return -1
    # Pointers and sizes need the full register width.
    wide = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    return int(libc.syscall(ctypes.c_long(number), *wide))


def prctl(option: int, *args: object) -> int:
    """Return prctl's result, -1 if it fails."""
    if libc is None:
        return -1
    wide = [ctypes.c_ulong(arg) if isinstance(arg, int) else arg for arg in args]
    return int(libc.prctl(option, *wide, *[ctypes.c_ulong(0)] * (4 - len(args))))


def reason() -> str:
    """Return the text of the last failed call's errno."""
    return os.strerror(ctypes.get_errno()) if libc is not None else "this is not Linux"


def check(result: int, call: str) -> None:
    """Raise the OSError of a failed call.

    Raises:
        OSError: ``result`` is negative.
    """
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{call}: {reason()}")


def trial(action: Callable[[], object]) -> int:
    """Try an irreversible action in a child process; return its errno, 0 if it works."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            action()
            code = 0
        except OSError as error:
            code = (error.errno or 255) & 255
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 255


def hide_memory() -> None:
    """Deny other processes of the same user access to this one's memory and environment."""
    prctl(_PR_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of all processes below this one whose own parents end."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
