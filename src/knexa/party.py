"""What the commands of separate parties share: their settings, and an orderly end."""

import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from knexa import composition
from knexa.components import one_line
from knexa.errors import MachineError, UserError
from knexa.federation.settings import Settings
from knexa.settings_builder import COMPONENT_GROUPS, build_components


def check_installed() -> None:
    """Say what is missing where the packages of the ``peers`` extra are.

    Raises:
        UserError: One of them is not installed.
    """
    missing = [name for name in ("grpc", "cryptography", "google.protobuf") if not _has(name)]
    if missing:
        raise UserError(f"{', '.join(missing)} is missing: pip install 'knexa[peers]'")


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a name with a dot: not even its parent
        return False


def party_settings(overrides: Sequence[str]) -> Settings:
    """Return the settings of ``python -m knexa`` with these overrides; touches no files.

    Raises:
        UserError: They compose to nothing valid, or to more than one configuration.
    """
    for override in overrides:
        if override.startswith("-"):
            raise UserError(f"{override} is no option of this command; --help lists them")
    plan = composition.compose(composition.parse_arguments(list(overrides)))
    (job,) = plan.jobs
    root, components = build_components(job)
    return Settings(
        seed=root.seed,
        name=root.name,
        matchmaker_name=str(job.choices["matchmaker"]),
        choices={group: str(job.choices.get(group)) for group in COMPONENT_GROUPS},
        config=job.config,
        session={},
        config_hash="",
        dry_run=False,
        **components,
    )


def run_party(main: Callable[[threading.Event], None]) -> int:
    """Run a party until it is done or told to stop; return the exit code.

    Args:
        main: Gets an event that SIGTERM and Ctrl-C set.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    stop = threading.Event()

    def end(number: int, frame: Any) -> None:
        stop.set()
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        check_installed()
        main(stop)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except MachineError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.is_set():
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 143
    return 0
