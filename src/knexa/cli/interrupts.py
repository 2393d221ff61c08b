"""Handles Ctrl-C so that none is lost, and a second one does not break off an orderly end."""

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
    """Let Ctrl-C raise ``KeyboardInterrupt``, and then not again for ``GRACE_S`` seconds.

    Python drops an exception that is raised inside some callbacks; the signal is then sent again.
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
        # Sent from a timer: raised here, it would be dropped again.
        timer = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = resend
