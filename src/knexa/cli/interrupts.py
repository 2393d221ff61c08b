"""Handles the signals that end a command, so that none is lost and an orderly end is not broken.

Ctrl-C raises ``KeyboardInterrupt``; SIGTERM (of ``kill``, schedulers and shutdowns) and SIGHUP (of
a terminal that closes) raise ``Interrupted``, which is one.
"""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from knexa.errors import Interrupted

GRACE_S = 2.0
_AGAIN_S = 0.05
_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def listen() -> None:
    """Let each of the signals raise, and then none of them for ``GRACE_S`` seconds.

    Python drops an exception that is raised inside some callbacks; the signal is then sent again.
    A signal that somebody handles already, or ignores (as a shell lets a job in the background, or
    ``nohup``), is left alone. Forked children die of SIGTERM and SIGHUP as if this were not here.
    """
    owner, heard_s = os.getpid(), float("-inf")
    report = sys.unraisablehook

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard_s
        if number != signal.SIGINT and os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if time.monotonic() - heard_s >= GRACE_S:
            heard_s = time.monotonic()
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Interrupted(signal.Signals(number))

    def resend(dropped: Any) -> None:
        nonlocal heard_s
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)
            return
        error = dropped.exc_value
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        heard_s = float("-inf")
        # Sent from a timer: raised here, it would be dropped again.
        timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    taken = [number for number, known in _DEFAULTS.items() if signal.getsignal(number) is known]
    for number in taken:
        signal.signal(number, interrupt)
    if taken:
        sys.unraisablehook = resend
