"""Ctrl-C, SIGTERM and SIGHUP as the command line hears them, each in a process of its own."""

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


TERMINATED = """
from knexa.errors import Interrupted
for number in (signal.SIGTERM, signal.SIGHUP):
    knexa.cli.interrupts.GRACE_S = 0.0
    try:
        signal.raise_signal(number)
    except Interrupted as error:
        assert isinstance(error, KeyboardInterrupt)
        assert (error.number, str(error)) == (number, number.name)
print("heard")
"""
TERMINATED_TWICE = """
try:
    signal.raise_signal(signal.SIGTERM)
except KeyboardInterrupt:
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    print("heard")
"""
DROPPED_TERM = DROPPED.replace("SIGINT", "SIGTERM")
UNDER_NOHUP = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
listen()
signal.raise_signal(signal.SIGHUP)
print("heard")
"""
HANDLED_BY_ANOTHER = """
signal.signal(signal.SIGTERM, lambda number, frame: print("heard"))
listen()
signal.raise_signal(signal.SIGTERM)
"""
IN_A_FORK = """
import os
child = os.fork()
if child == 0:
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        print("a fork heard", flush=True)
        os._exit(0)
if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM:
    print("heard")
"""
WITHOUT_LISTENING = """
import signal, sys, threading, weakref
import knexa.cli.interrupts
from knexa.cli.interrupts import listen
"""


@pytest.mark.parametrize("code", [DROPPED, TWICE, LATER, IN_BACKGROUND])
def test_an_interrupt_is_heard_once_and_by_those_who_should(code: str) -> None:
    assert_heard(LISTENING + code)


@pytest.mark.parametrize("code", [TERMINATED, TERMINATED_TWICE, DROPPED_TERM, IN_A_FORK])
def test_sigterm_and_sighup_are_heard_once_and_not_by_forks(code: str) -> None:
    assert_heard(WITHOUT_LISTENING + "listen()\nclass Thing: pass\n" + code)


@pytest.mark.parametrize("code", [UNDER_NOHUP, HANDLED_BY_ANOTHER])
def test_a_signal_that_somebody_handles_is_left_alone(code: str) -> None:
    assert_heard(WITHOUT_LISTENING + code)


def assert_heard(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("heard\n", "")
