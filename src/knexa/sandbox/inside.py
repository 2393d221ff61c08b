"""What a program sees from inside the sandbox: a check that asks no layer's own account."""

import socket
import sys
from dataclasses import dataclass

from .executor import Executor

_LOOK = """
def look(machine, places):
    import os, socket, sys
    seen = [place for place in places if os.path.exists(place)]
    roots = [sys.base_prefix, sys.prefix, os.path.dirname(os.__file__)]
    roots += ["/", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64", "/opt"]
    roots += ["/usr/lib/python3", sys.base_prefix + "/lib", *sys.path]
    for folder in [found for root in roots for found in os.walk(root)]:
        path, names, files = folder
        hidden = "site-packages", "dist-packages", "ensurepip"
        if os.path.basename(path) in hidden and names + files:
            seen.append(path)
        if "knexa" in names:
            seen.append(path + "/knexa")
    if machine in (socket.gethostname(), os.uname().nodename):
        seen.append("this machine's name")
    if os.path.exists("/proc/self"):
        seen.append("/proc")
    return sorted(set(seen))
"""


@dataclass(frozen=True, slots=True)
class _Look:
    prompt: str = ""
    entry_point: str = "look"
    test_code: str = ""
    setup_code: str = ""
    canonical_cpu_s: float = 5.0  # it walks the whole tree


def look(executor: Executor) -> str:
    """Return what a program sees and must not; '' if nothing."""
    # A folder of packages may be there, but must be empty.
    places = [__file__, *(f"{folder}/{name}" for folder in sys.path for name in ("knexa", "pip"))]
    arguments = f"{socket.gethostname()!r}, {places!r}"
    check = f"seen = candidate({arguments})\nif seen:\n    raise Exception('; '.join(seen))\n"
    (execution,) = executor.run([(_Look(test_code=check), _LOOK)])
    return "" if execution.passed else execution.detail.removeprefix("Exception: ")
