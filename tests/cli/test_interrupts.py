"""Ctrl-C as the command line hears it, each time in a process of its own."""

import subprocess
import sys

import pytest

LISTENING = """
import signal, sys, threading, weakref
from knexa.cli.interrupts import listen
signal.signal(signal.SIGINT, signal.default_int_handler)
listen()
class Thing: pass
"""
DROPPED = """
thing = Thing()
reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
try:
    del thing
    threading.Event().wait(20)
except KeyboardInterrupt:
    print("heard")
"""
TWICE = """
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    signal.raise_signal(signal.SIGINT)
    print("heard")
"""
LATER = """
import knexa.cli.interrupts
knexa.cli.interrupts.GRACE_S = 0.0
try:
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.raise_signal(signal.SIGINT)
        print("not heard")
except KeyboardInterrupt:
    print("heard")
"""
IN_BACKGROUND = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
listen()
signal.raise_signal(signal.SIGINT)
print("heard")
"""


@pytest.mark.parametrize("code", [DROPPED, TWICE, LATER, IN_BACKGROUND])
def test_an_interrupt_is_heard_once_and_by_those_who_should(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "heard\n"
    assert done.stderr == ""
