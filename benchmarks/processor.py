"""The clock of the benchmarks that start processes of their own."""

import os
from contextlib import suppress
from pathlib import Path


def processor_seconds(pid: int | None = None) -> float:
    """Return the processor time of a process (None: this one) and of all below it.

    Those that have ended count where somebody has waited for them.
    """
    with suppress(OSError):  # it ends while it is read
        own = os.getpid() if pid is None else pid
        fields = Path(f"/proc/{own}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return seconds + sum(processor_seconds(int(child)) for child in children)
    return 0.0
