"""Ctrl-C at the command line: heard whatever it falls into, and once while a run closes."""

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

GRACE_S = 2.0
_AGAIN_S = 0.05


def listen() -> None:
    """Let Ctrl-C raise ``KeyboardInterrupt``, and again only ``GRACE_S`` seconds later.

    A second one would break off the closing that the first began. One that falls into a callback,
    where Python can raise nothing and drops it, is sent again.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # ignored, as a shell lets a job in the background do
    heard_s = float("-inf")
    report = sys.unraisablehook

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal heard_s
        if time.monotonic() - heard_s >= GRACE_S:
            heard_s = time.monotonic()
            raise KeyboardInterrupt

    def resend(dropped: Any) -> None:
        nonlocal heard_s
        if dropped.exc_type is not KeyboardInterrupt:
            report(dropped)
            return
        heard_s = float("-inf")
        # Not from here: it would be dropped again.
        timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = resend
