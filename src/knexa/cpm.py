"""Serves the matchmaker of a federation of separate organisations.

    python -m knexa.cpm --certificates DIR --listen HOST:PORT --state DIR [overrides ...]

The overrides are those of ``python -m knexa``; all parties give the same ones where it matters, and
a party that does not is refused. --state holds the matchmaker's checkpoint and exchanges.jsonl:
the same command goes on from there. docs/deploy.md leads from nothing to three organisations.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.errors import UserError
from knexa.party import host_port, party_settings, run_party, seconds

if TYPE_CHECKING:
    from knexa.federation.settings import LLMSettings
    from knexa.network.coordinator import Coordinator
    from knexa.network.timing import Clock

log = logging.getLogger(__name__)

_FILE = "coordinator.safetensors"
_TICK_S = 0.2
_LINGER_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given, overrides = _parser().parse_known_args(arguments)
    return run_party(lambda stop: _serve(given, overrides, stop))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m knexa.cpm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--certificates", type=Path, required=True, help="cpm.pem, cpm.key, ca.pem, revoked.crl"
    )
    parser.add_argument("--listen", type=host_port, required=True, help="host:port to serve on")
    parser.add_argument("--state", type=Path, required=True, help="the matchmaker's own folder")
    parser.add_argument(
        "--exchange-s",
        type=seconds(1),
        default=600.0,
        help="a directive is given up after so long",
    )
    parser.add_argument(
        "--beat-s",
        type=seconds(0.05, 60),
        default=2.0,
        help="how often agents say that they are there",
    )
    return parser


def _serve(given: argparse.Namespace, overrides: list[str], stop: threading.Event) -> None:
    from knexa.network.authority import MATCHMAKER
    from knexa.network.identity import load_identity
    from knexa.network.matchmaker import MatchmakerService
    from knexa.network.refusals import Refusals
    from knexa.network.terms import check_servable
    from knexa.network.timing import MonotonicClock
    from knexa.network.transport import Server
    from knexa.tracking.files import encode_document, write_atomically
    from knexa.tracking.run_directory import RunDirectory

    identity = load_identity(given.certificates, MATCHMAKER)
    settings = check_servable(party_settings(overrides))
    clock = MonotonicClock()
    with RunDirectory(given.state) as folder:
        coordinator = _coordinator(given, settings, folder, clock)
        service = MatchmakerService(coordinator, identity, clock)
        server = Server(
            identity,
            given.listen,
            "Matchmaker",
            service.handlers(),
            num_threads=2 * settings.roster.num_agents + 8,
            refusals=Refusals(),
        )
        server.start()
        log.info("serving %d agents on port %d", settings.roster.num_agents, server.port)
        try:
            while not stop.is_set() and not service.tick():
                stop.wait(_TICK_S)
            if not stop.is_set():
                stop.wait(_LINGER_S)  # for the last answers to arrive
        finally:
            service.stop()
            server.stop(1.0)
            path = folder.path / "refusals.json"
            write_atomically(path, encode_document(server.counts()))
        done = coordinator.phase == "finished"
        log.info("%s; refused: %s", "done" if done else "stopped", server.counts() or "nothing")


def _coordinator(
    given: argparse.Namespace, settings: "LLMSettings", folder: Any, clock: "Clock"
) -> "Coordinator":
    """Return the rounds as the folder's checkpoint left them."""
    from knexa.federation.dispatch import Sync
    from knexa.federation.experiment import build_cpm
    from knexa.network.coordinator import Coordinator
    from knexa.network.errands import Terms
    from knexa.network.terms import Population, agreement, own_terms
    from knexa.network.timing import Patience
    from knexa.tracking.tree_file import load_tree, save_tree

    federation, names = settings.federation, tuple(a.name for a in settings.roster.agents)
    terms = Terms(
        names=names,
        seed=settings.seed,
        num_rounds=federation.num_rounds,
        num_features=len(settings.profile.feature_names),
        largest_reward=settings.reward.largest,
        sync=Sync(mode=federation.sync, quorum=federation.quorum, timer_s=federation.timer_s),
        exchange_s=given.exchange_s,
        patience=Patience(beat_every_s=given.beat_s),
        agreement=agreement(settings),
    )
    own = own_terms(settings)
    population = Population(num_agents=len(names), protocol_name=settings.exchange.name)

    def save(rounds: "Coordinator", rows: Sequence[dict[str, Any]]) -> None:
        folder.append("exchanges", rows)
        folder.sync()
        tree = rounds.state_dict() | {"terms": own}
        folder.write_checkpoint(rounds.round, lambda to: save_tree(to / _FILE, tree))

    coordinator = Coordinator(terms, build_cpm(settings, population), now=clock.now, save=save)
    checkpoint = folder.rewind()
    if checkpoint is not None:
        file = checkpoint[1] / _FILE
        if not file.is_file():
            raise UserError(f"{folder.path} is not a matchmaker's folder: name another --state")
        tree = load_tree(file)
        if tree["terms"] != own:
            raise UserError(
                f"{folder.path} belongs to another configuration: give the overrides that it was "
                "begun with, or another --state"
            )
        coordinator.load_state_dict(tree)
        log.info("going on in round %d", coordinator.round)
    return coordinator


if __name__ == "__main__":
    sys.exit(main())
