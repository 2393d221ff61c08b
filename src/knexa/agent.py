"""One organisation's agent: its own data, backbone and adapter, in a federation of others.

    python -m knexa.agent --name NAME --certificates DIR --cpm HOST:PORT --listen HOST:PORT
                          --state DIR [--address HOST:PORT] [--problems FILE] [overrides ...]

NAME is the agent's name in the roster and in its certificate. Peers bring packages to --address
(by default --listen). --problems is a JSONL file (docs/data.md) with the organisation's own
problems, of which those that fail the gate are left out by name; without it the agent takes its
share of the configured data, as in a run in one process.
The overrides are those of ``python -m knexa``. --state holds the agent's adapter and its work: the
same command goes on from there.
"""

import argparse
import logging
import os
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.errors import UserError
from knexa.party import host_port, party_settings, run_party, seconds

if TYPE_CHECKING:
    from knexa.data.partition import AgentData
    from knexa.evaluation import Executor
    from knexa.federation.settings import LLMSettings
    from knexa.matchmaking.pair_scores import Array
    from knexa.network.identity import Identity
    from knexa.network.work import Work

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    # The sandbox forks; gRPC's own handling of forks would stop the world for each.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    given, overrides = _parser().parse_known_args(arguments)
    return run_party(lambda stop: _join(given, overrides, stop))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m knexa.agent",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="the agent's name in the roster")
    parser.add_argument(
        "--certificates", type=Path, required=True, help="NAME.pem, NAME.key, ca.pem, revoked.crl"
    )
    parser.add_argument("--cpm", type=host_port, required=True, help="host:port of the matchmaker")
    parser.add_argument(
        "--listen", type=host_port, required=True, help="host:port to serve peers on"
    )
    parser.add_argument("--address", help="host:port where peers reach it; default: --listen")
    parser.add_argument("--state", type=Path, required=True, help="the agent's own folder")
    parser.add_argument("--problems", type=Path, help="the organisation's own problems, JSONL")
    parser.add_argument(
        "--package-s", type=seconds(1), default=300.0, help="a package is lost after so long"
    )
    return parser


def _join(given: argparse.Namespace, overrides: list[str], stop: threading.Event) -> None:
    from knexa.network.identity import load_identity
    from knexa.network.terms import check_servable
    from knexa.tracking.run_directory import RunDirectory

    identity = load_identity(given.certificates, given.name)
    settings = check_servable(party_settings(overrides))
    names = [agent.name for agent in settings.roster.agents]
    if given.name not in names:
        raise UserError(f"{given.name} is not on the roster: it has {', '.join(names)}")
    given.address = _reachable(given.address or given.listen)
    if given.problems is not None:
        _check_there(given.problems)
    with RunDirectory(given.state) as folder:
        work, close = _work(settings, names.index(given.name), given.problems, folder)
        try:
            _take_part(given, settings, identity, work, stop)
        finally:
            close()


def _reachable(address: str) -> str:
    """Return an address that peers can be told.

    Raises:
        UserError: It names no host, every address of one, or no port.
    """
    host, _, port = address.rpartition(":")
    is_port = port.isdecimal() and 1 <= int(port) <= 65535
    if host.strip("[]") in ("", "0.0.0.0", "::") or not is_port:
        raise UserError(
            f"{address}: peers cannot reach that; name this agent's host and port with "
            "--address HOST:PORT"
        )
    return address


def _work(
    settings: "LLMSettings", index: int, problems: Path | None, folder: Any
) -> tuple["Work", Callable[[], None]]:
    """Load data and backbone; return the agent's work, and what closes its sandbox."""
    import torch

    from knexa.agents.private_training import agent_spent
    from knexa.agents.training import DPTraining
    from knexa.backbones.load import check_available
    from knexa.federation.llm_stage import build_session
    from knexa.network.llm_work import LLMWork
    from knexa.network.terms import agreement

    torch.set_num_threads(settings.engine.num_threads)
    check_available(settings.roster)
    workers = settings.engine.choose(1)
    if workers.remote or workers.num_workers > 1:
        raise UserError("an agent is one process: leave engine= and engine.num_workers= out")
    session, _ = build_session(settings, workers, only=index)
    session.secret_noise = True
    with ExitStack() as stack:
        stack.callback(session.executor.close)
        if problems is not None:
            session.splits[index] = _own(settings, session.executor, problems)
        if isinstance(settings.training, DPTraining):
            agent_spent(session, index, 0)  # a budget that no noise meets is told now
        work = LLMWork(
            session,
            index,
            profile=settings.profile,
            reward=settings.reward,
            release=_release(settings),
            agreement=agreement(settings),
            folder=folder,
        )
        return work, stack.pop_all().close


def _own(settings: "LLMSettings", executor: "Executor", path: Path) -> "AgentData":
    """Return the organisation's own problems, split as the partition splits an agent's share.

    Raises:
        UserError: The file is missing or damaged, or no problem in it passes the gate.
    """
    from knexa.data.jsonl import parse_row
    from knexa.data.rows import read_rows
    from knexa.evaluation import gate
    from knexa.seeding import derive_rng

    _check_there(path)
    rows = [parse_row(row, f"{path}:{number}") for number, row in read_rows(path)]
    problems = tuple(problem for problem, role in rows if role in (None, "train"))
    if not problems:
        raise UserError(f"--problems {path} holds no problem to train on")
    report = gate(executor, problems)
    if not report.problems:
        raise UserError(f"no problem in --problems {path} passes the gate: check their tests")
    split = settings.partition.split(report.problems, 1, derive_rng(settings.seed, "partition"))
    own: AgentData = split[0]
    return own


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"--problems {path}: no such file; name a JSONL file (docs/data.md)")


def _release(settings: "LLMSettings") -> "Callable[[Array, int], Array]":
    """Return what profiles pass through; its noise is the agent's own, whatever the seed."""
    roster = settings.roster
    mechanism = settings.privacy.mechanism(
        families=[roster.backbone_of(agent).family for agent in range(roster.num_agents)],
        feature_names=settings.profile.feature_names,
        seed=secrets.randbits(62),
        num_rounds=settings.federation.num_rounds + 1,  # registering shows one, too
    )
    release: Callable[[Array, int], Array] = mechanism.release
    return release


def _take_part(
    given: argparse.Namespace,
    settings: "LLMSettings",
    identity: "Identity",
    work: "Work",
    stop: threading.Event,
) -> None:
    import numpy as np

    from knexa.network.agent_loop import AgentLoop, Pace
    from knexa.network.authority import MATCHMAKER
    from knexa.network.packages import Courier, Door, Inbox
    from knexa.network.refusals import Refusals
    from knexa.network.sealing import SealingKey
    from knexa.network.terms import agreement
    from knexa.network.timing import MonotonicClock
    from knexa.network.transport import Client, Server

    key, inbox, refusals = SealingKey(), Inbox(), Refusals()
    pace, clock, rng = Pace(package_s=given.package_s), MonotonicClock(), np.random.default_rng()
    clock.stop = stop
    handlers = Door(identity, key, inbox).handlers()
    door = Server(identity, given.listen, "Peer", handlers, num_threads=8, refusals=refusals)
    door.start()
    with Client(identity, given.cpm, MATCHMAKER, "Matchmaker") as matchmaker:
        loop = AgentLoop(
            identity,
            work,
            matchmaker,
            Courier(identity, key, backoff=pace.courier, clock=clock, rng=rng),
            inbox,
            address=given.address,
            agreement=agreement(settings),
            pace=pace,
            clock=clock,
            rng=rng,
            refusals=refusals,
        )
        over = threading.Event()
        beats = threading.Thread(target=loop.beat, args=(over,), name="heartbeat")
        beats.start()
        try:
            loop.run(stop)
        finally:
            over.set()
            beats.join()
            door.stop()
            log.info("refused: %s", door.counts() or "nothing")


if __name__ == "__main__":
    sys.exit(main())
