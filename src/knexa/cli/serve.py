"""Serves the matchmaker of a federation of separate organisations.

    knexa serve --certificates DIR --listen HOST:7450 --state cpm matchmaker=linucb

The overrides (key=value) are those of knexa; an organisation whose configuration does not agree is
refused. --state holds the matchmaker's checkpoint and exchanges.jsonl: the same command resumes
from it. docs/deploy.md is a guide to a federation of three organisations.
"""

import argparse
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.cli.organisation import host_port, organisation_settings, run_organisation, seconds
from knexa.cli.parser import Parser
from knexa.errors import UserError

if TYPE_CHECKING:
    from knexa.federation.settings import LLMSettings
    from knexa.network.coordinator import Coordinator
    from knexa.network.timing import Clock
    from knexa.tracking.rows import ExchangeRow

log = logging.getLogger(__name__)

_FILE = "coordinator.safetensors"
_TICK_S = 0.2
_LINGER_S = 2.0


def main(arguments: Sequence[str]) -> int:
    """Serve until the last round is over; return the exit code."""
    given, overrides = _parser().parse_known_args(arguments)
    return run_organisation(lambda stop: _serve(given, overrides, stop))


def _parser() -> Parser:
    usage = "%(prog)s --certificates DIR --listen HOST:PORT --state DIR [options] [key=value ...]"
    parser = Parser("knexa serve", __doc__, usage)
    parser.option("--certificates", "DIR", "with cpm.pem, cpm.key, ca.pem, revoked.crl", Path)
    parser.option("--listen", "HOST:PORT", "where to serve", host_port)
    parser.option("--state", "DIR", "the matchmaker's own folder", Path)
    given_up = "a directive is given up after so long"
    parser.option("--exchange-s", "SECONDS", given_up, seconds(1), default=600.0)
    heard = "how often agents say that they are there"
    parser.option("--beat-s", "SECONDS", heard, seconds(0.05, 60), default=2.0)
    return parser


def _serve(given: argparse.Namespace, overrides: list[str], stop: threading.Event) -> None:
    from knexa.network.authority import MATCHMAKER
    from knexa.network.compatibility import check_servable
    from knexa.network.identity import load_identity
    from knexa.network.matchmaker import MatchmakerService
    from knexa.network.refusals import Refusals
    from knexa.network.timing import MonotonicClock
    from knexa.network.transport import RpcServer
    from knexa.tracking.run_directory import RunDirectory

    identity = load_identity(given.certificates, MATCHMAKER)
    settings = check_servable(organisation_settings(overrides))
    clock = MonotonicClock()
    with RunDirectory(given.state) as folder:
        coordinator = _coordinator(given, settings, folder, clock)
        refusals = Refusals(folder.path)
        service = MatchmakerService(coordinator, identity, clock)
        server = RpcServer(
            identity,
            given.listen,
            "Matchmaker",
            service.handlers(),
            num_threads=2 * settings.roster.num_agents + 8,
            refusals=refusals,
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
        done = coordinator.phase == "finished"
        log.info("%s; refused: %s", "done" if done else "stopped", refusals.counts() or "nothing")


def _coordinator(
    given: argparse.Namespace, settings: "LLMSettings", folder: Any, clock: "Clock"
) -> "Coordinator":
    """Return the coordinator, restored from the folder's checkpoint if it has one."""
    from knexa.federation.experiment import build_cpm
    from knexa.federation.simulated_network.scheduler import Sync
    from knexa.matchmaking.answers import TransferTopics
    from knexa.network.assignments import CoordinatorConfig
    from knexa.network.compatibility import ServedAgents, agreement, matchmaker_agreement
    from knexa.network.coordinator import Coordinator
    from knexa.network.timing import HeartbeatPolicy
    from knexa.tracking.tree_file import load_tree, save_tree

    federation, names = settings.federation, tuple(a.name for a in settings.roster.agents)
    counts = settings.reward.of_answers or settings.exchange.asks_missing
    categories = _categories(settings) if counts else ()
    config = CoordinatorConfig(
        names=names,
        seed=settings.seed,
        num_rounds=federation.num_rounds,
        num_features=len(settings.profile.feature_names),
        reward=settings.reward,
        sync=Sync(mode=federation.sync, quorum=federation.quorum, timer_s=federation.timer_s),
        exchange_s=given.exchange_s,
        heartbeat_policy=HeartbeatPolicy(beat_every_s=given.beat_s),
        agreement=agreement(settings),
        categories=categories if settings.exchange.asks_missing else None,
    )
    configuration = matchmaker_agreement(settings)
    population = ServedAgents(
        num_agents=len(names),
        protocol_name=settings.exchange.name,
        topics=TransferTopics.of(categories if settings.reward.of_answers else ()),
    )

    def save(rounds: "Coordinator", rows: Sequence["ExchangeRow"]) -> None:
        folder.append(rows)
        folder.sync()
        tree = rounds.state_dict() | {"configuration": configuration}
        folder.write_checkpoint(rounds.round, lambda to: save_tree(to / _FILE, tree))

    coordinator = Coordinator(config, build_cpm(settings, population), now=clock.now, save=save)
    checkpoint = folder.rewind()
    if checkpoint is not None:
        file = checkpoint[1] / _FILE
        if not file.is_file():
            raise UserError(f"{folder.path} is not a matchmaker's folder: name another --state")
        tree = load_tree(file)
        if tree.get("configuration") != configuration:
            raise UserError(
                f"{folder.path} belongs to another configuration: give the overrides that it was "
                "begun with, or another --state"
            )
        coordinator.load_state_dict(tree)
        log.info("going on in round %d", coordinator.round)
    return coordinator


def _categories(settings: "LLMSettings") -> tuple[int, ...]:
    """Return the category of each transfer problem.

    The problems are checked as every agent checks them: all count the same ones.
    """
    from knexa.federation.llm.benchmark_check import benchmark_check

    checking = benchmark_check(settings)
    excluded = set(checking.report().excluded)
    problems = [each for each in checking.benchmark.transfer if each.task_id not in excluded]
    return tuple(problem.category for problem in problems)
