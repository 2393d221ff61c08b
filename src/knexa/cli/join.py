"""Joins a federation of organisations with one's own agent: its data, backbone and adapter.

    knexa join --name alice --certificates DIR --cpm HOST:7450 --listen HOST:7451 --state alice

Peers send packages to --address. Problems of --problems (docs/data.md) that fail the check are
left out by name; without it the agent has its share of the configured data, as in a local run. The
overrides (key=value) are those of knexa. --state holds the agent's adapter and progress: the same
command resumes from it. docs/deploy.md is a guide to a federation of three organisations.
"""

import argparse
import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knexa.cli.organisation import host_port, organisation_settings, run_organisation, seconds
from knexa.cli.parser import Parser
from knexa.errors import UserError

if TYPE_CHECKING:
    from knexa.data.partition import AgentData
    from knexa.evaluation import Executor
    from knexa.federation.settings import LLMSettings
    from knexa.matchmaking.arrays import Array
    from knexa.network.agent_backend import AgentBackend
    from knexa.network.identity import Identity

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Take part until the last round is over; return the exit code."""
    # The sandbox forks often; gRPC's handling of forks would stop all threads for each.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    given, overrides = _parser().parse_known_args(arguments)
    return run_organisation(lambda stop: _join(given, overrides, stop))


def _parser() -> Parser:
    usage = (
        "%(prog)s --name NAME --certificates DIR --cpm HOST:PORT --listen HOST:PORT --state DIR\n"
        "                  [options] [key=value ...]"
    )
    parser = Parser("knexa join", __doc__, usage)
    parser.option("--name", "NAME", "the agent's name in roster and certificate")
    parser.option("--certificates", "DIR", "with NAME.pem, NAME.key, ca.pem, revoked.crl", Path)
    parser.option("--cpm", "HOST:PORT", "where the matchmaker serves", host_port)
    parser.option("--listen", "HOST:PORT", "where to serve peers", host_port)
    parser.option("--address", "HOST:PORT", "where peers reach that", otherwise="--listen")
    parser.option("--state", "DIR", "the agent's own folder", Path)
    own = "the organisation's own problems, JSONL"
    parser.option("--problems", "FILE", own, Path, otherwise="a share of the configured data")
    lost = "a package is lost after so long"
    parser.option("--package-s", "SECONDS", lost, seconds(1), default=300.0)
    return parser


def _join(given: argparse.Namespace, overrides: list[str], stop: threading.Event) -> None:
    from knexa.network.compatibility import check_servable
    from knexa.network.identity import load_identity
    from knexa.tracking.run_directory import RunDirectory

    identity = load_identity(given.certificates, given.name)
    settings = check_servable(organisation_settings(overrides))
    names = [agent.name for agent in settings.roster.agents]
    if given.name not in names:
        raise UserError(f"{given.name} is not on the roster: it has {', '.join(names)}")
    given.address = _reachable(given.address or given.listen)
    if given.problems is not None:
        _check_there(given.problems)
    with RunDirectory(given.state) as folder:
        backend, close = _backend(settings, names.index(given.name), given.problems, folder)
        try:
            _take_part(given, settings, identity, backend, stop)
        finally:
            close()


def _reachable(address: str) -> str:
    """Return an address if peers can reach it.

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


def _backend(
    settings: "LLMSettings", index: int, problems: Path | None, folder: Any
) -> tuple["AgentBackend", Callable[[], None]]:
    """Load data and model; return the agent's backend, and a function that closes its sandbox."""
    import torch

    from knexa.agents.private_training import agent_spent
    from knexa.agents.training import DPTraining
    from knexa.backbones.sources import check_available
    from knexa.federation.llm.setup import build_runtime
    from knexa.network.compatibility import agreement
    from knexa.network.llm_backend import LLMBackend

    torch.set_num_threads(settings.engine.num_threads)
    check_available(settings.roster)
    workers = settings.engine.choose(1)
    if workers.remote or workers.num_workers > 1:
        raise UserError("an agent is one process: leave engine= and engine.num_workers= out")
    runtime, _ = build_runtime(settings, workers, only=index)
    runtime.secret_noise = True
    with ExitStack() as stack:
        stack.callback(runtime.executor.close)
        if problems is not None:
            runtime.splits[index] = _own(settings, runtime.executor, problems)
        if isinstance(settings.training, DPTraining):
            agent_spent(runtime, index, 0)  # fails now if no noise meets the budget
        backend = LLMBackend(
            runtime,
            index,
            profile=settings.profile,
            reward=settings.reward,
            release=_release(settings),
            agreement=agreement(settings),
            folder=folder,
        )
        return backend, stack.pop_all().close


def _own(settings: "LLMSettings", executor: "Executor", path: Path) -> "AgentData":
    """Return the organisation's own problems, split as the partition splits an agent's share.

    Their topics are those of the configured data: clusters are of its public prompts alone.

    Raises:
        UserError: The file is missing or damaged, or no problem in it passes the check.
    """
    from knexa.data.jsonl import parse_row
    from knexa.data.rows import read_rows
    from knexa.evaluation import check_problems
    from knexa.seeding import derive_rng

    if not path.is_file():
        raise UserError(f"--problems {path}: no such file; name a JSONL file (docs/data.md)")
    rows = [parse_row(row, f"{path}:{number}") for number, row in read_rows(path)]
    own = tuple(problem for problem, role in rows if role in (None, "train"))
    problems = settings.topics.assign(own, settings.data.load().transfer)
    if not problems:
        raise UserError(f"--problems {path} holds no problem to train on")
    report = check_problems(executor, problems)
    if not report.problems:
        raise UserError(f"no problem in --problems {path} passes the check: mend their tests")
    split = settings.partition.split(report.problems, 1, derive_rng(settings.seed, "partition"))
    data: AgentData = split[0]
    return data


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"--problems {path}: no such file; name a JSONL file (docs/data.md)")


def _release(settings: "LLMSettings") -> "Callable[[Array, int], Array]":
    """Return the privacy mechanism of profiles; its noise does not follow from the run's seed."""
    roster = settings.roster
    mechanism = settings.privacy.mechanism(
        families=[roster.backbone_of(agent).family for agent in range(roster.num_agents)],
        feature_names=settings.profile.feature_names,
        seed=secrets.randbits(62),
        num_rounds=settings.federation.num_rounds + 1,  # registration sends one, too
    )
    release: Callable[[Array, int], Array] = mechanism.release
    return release


def _take_part(
    given: argparse.Namespace,
    settings: "LLMSettings",
    identity: "Identity",
    backend: "AgentBackend",
    stop: threading.Event,
) -> None:
    import numpy as np

    from knexa.network.agent_loop import AgentLoop, AgentTimeouts
    from knexa.network.authority import MATCHMAKER
    from knexa.network.compatibility import agreement
    from knexa.network.packages import PackageInbox, PackageSender, PackageServer
    from knexa.network.refusals import Refusals
    from knexa.network.sealing import SealingKey
    from knexa.network.timing import MonotonicClock
    from knexa.network.transport import RpcClient, RpcServer

    key, inbox, refusals = SealingKey(), PackageInbox(), Refusals(given.state)
    timeouts, clock = AgentTimeouts(package_s=given.package_s), MonotonicClock()
    rng = np.random.default_rng()
    clock.stop = stop
    handlers = PackageServer(identity, key, inbox).handlers()
    server = RpcServer(identity, given.listen, "Peer", handlers, num_threads=8, refusals=refusals)
    server.start()
    with RpcClient(identity, given.cpm, MATCHMAKER, "Matchmaker") as matchmaker:
        loop = AgentLoop(
            identity,
            backend,
            matchmaker,
            PackageSender(identity, key, backoff=timeouts.student_retries, clock=clock, rng=rng),
            inbox,
            address=given.address,
            agreement=agreement(settings),
            timeouts=timeouts,
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
            server.stop()
            log.info("refused: %s", refusals.counts() or "nothing")
