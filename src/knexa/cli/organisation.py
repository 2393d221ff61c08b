"""What the commands of separate organisations share: settings, options, and an orderly end."""

import argparse
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from knexa.config import compose
from knexa.config.build import build_settings
from knexa.errors import UserError
from knexa.federation.settings import Settings


def check_installed() -> None:
    """Check that the packages of the ``peers`` extra are installed.

    Raises:
        UserError: One is missing.
    """
    missing = [name for name in ("grpc", "cryptography", "google.protobuf") if not _has(name)]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing: pip install 'knexa[peers]'")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is missing
        return False


def organisation_settings(overrides: Sequence[str]) -> Settings:
    """Return the settings of ``knexa`` with these overrides; touches no files.

    Raises:
        UserError: They are invalid, or compose to more than one configuration.
    """
    for override in overrides:
        if override.startswith("-"):
            raise UserError(f"{override} is no option of this command; --help lists them")
    plan = compose.compose(compose.parse_arguments(list(overrides)))
    (job,) = plan.jobs
    return build_settings(job)


def seconds(least: float, most: float = 1e6) -> Callable[[str], float]:
    """Return a reader of an option's time in seconds, from ``least`` to ``most``."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(
                f"{text} is no number of seconds from {least:g} to {most:g}"
            )
        return value

    return read


def host_port(text: str) -> str:
    """Return an option's address if it ends in a valid port, which gRPC does not check."""
    _, colon, port = text.rpartition(":")
    if not (colon and port.isdecimal() and int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"{text} is no HOST:PORT with a port up to 65535")
    return text


def run_organisation(main: Callable[[threading.Event], None]) -> int:
    """Run an organisation's process until it is done or told to stop; return the exit code.

    Args:
        main: Gets an event that SIGTERM and Ctrl-C set.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    # gRPC's own library prints a line for each connection without TLS; refusals are logged here.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    stop = threading.Event()

    def end(number: int, frame: Any) -> None:
        stop.set()
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        check_installed()
        main(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_set():
        print("stopped: type the same command again to resume", file=sys.stderr)
        return 143
    return 0
