"""The round loop (Algorithm 1 of the paper), the same for every matchmaker and both worlds.

A round: local updates and profiles (``world``); a plan (``cpm``); packages, which the ``scheduler``
sends and times; learning; rewards back to the ``cpm``; rows and a checkpoint (``tracker``). What
only measures regret comes after the packages are written: text depends in its last bits on what is
decoded with it, and a run must not depend on what is measured.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from knexa.errors import UserError
from knexa.federation.exchange_rows import exchange_row
from knexa.federation.simulated_network.in_flight import InFlight, arriving
from knexa.federation.simulated_network.scheduler import Arrivals, Attendance, EventScheduler
from knexa.federation.world import Exchange, World
from knexa.matchmaking.arrays import Mask
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.regret import Regret, among, regret_row, selection_regret_row
from knexa.matchmaking.round_view import Probe
from knexa.seeding import derive_rng
from knexa.tracking.rows import AgentRow, ExchangeRow, RegretRow, RoundRow
from knexa.tracking.tracker import Tracker
from knexa.tracking.tree_file import load_tree, save_tree

_CPM_FILE = "cpm.safetensors"
_SCHEDULER_FILE = "scheduler.safetensors"

log = logging.getLogger(__name__)


def run_rounds(
    world: World,
    cpm: CPM,
    scheduler: EventScheduler,
    tracker: Tracker,
    *,
    seed: int,
    num_rounds: int,
    regret: Regret,
    last_round: int | None,
    checkpoint_every: int = 1,
    rebuild: Callable[[], CPM] | None = None,
) -> None:
    """Run the rounds after ``last_round``; None starts from the untrained federation.

    Every ``checkpoint_every`` rounds, and after the last, rows and a checkpoint are made durable,
    so that a killed run resumes from there. ``rebuild`` makes a new CPM where ``faults.restarts``
    asks for one.
    """
    if last_round is None:
        start = Arrivals(ended=(), clock_s=scheduler.clock_s)
        tracker.log_rounds(_round_rows(world.rows(0, []), scheduler.attendance(0), start))
        tracker.end_round(0)
        _checkpoint(world, cpm, scheduler, tracker, 0)
        last_round = 0
    for round_number in range(last_round + 1, num_rounds + 1):
        attendance = scheduler.begin_round(round_number)
        active_N = attendance.active
        if attendance.free_N.sum() < 2:
            log.info("round %d: fewer than two agents are there and free", round_number)
        world.begin_round(round_number, active_N)
        due, needs = regret.due(round_number), cpm.matchmaker.needs
        probe = losses = None
        if "probes" in needs:
            probe = world.probe(round_number, by_topic=cpm.matching.by_topic)
        if "peer losses" in needs:
            losses = world.peer_losses(round_number, by_topic=cpm.matching.by_topic)
        plan = cpm.propose(
            round_number,
            world.profiles(),
            rng=derive_rng(seed, "matchmaker", round_number),
            probe=None if probe is None else among(probe, active_N),
            peer_losses=losses,
            available_N=active_N,
        )
        packages = world.packages(round_number, plan)
        if due and probe is None:
            probe = world.probe(round_number, by_topic=cpm.matching.by_topic)
        sent = scheduler.send(
            round_number,
            plan,
            attendance,
            packages=packages,
            update_tokens=world.update_tokens(),
        )
        scheduler.schedule(sent, world.try_learning(round_number, arriving(sent)))
        arrivals = scheduler.end_round(attendance, last=round_number == num_rounds)
        exchanges, rows = _take_effect(world, cpm, arrivals, round_number)
        tracker.log_exchanges(rows)
        if due:
            assert probe is not None
            tracker.log_regret(_regret_row(round_number, cpm, probe, plan, active_N))
        round_rows = world.rows(round_number, exchanges)
        tracker.log_rounds(_round_rows(round_rows, attendance, arrivals))
        tracker.end_round(round_number)
        if round_number in scheduler.faults.restarts:
            assert rebuild is not None
            cpm = _restarted(cpm, rebuild)
        if round_number % checkpoint_every == 0 or round_number == num_rounds:
            _checkpoint(world, cpm, scheduler, tracker, round_number)


def restore(world: World, cpm: CPM, scheduler: EventScheduler, folder: Path) -> None:
    """Restore the world, the CPM and the scheduler from a checkpoint."""
    world.load(folder)
    cpm.load_state_dict(load_tree(folder / _CPM_FILE))
    scheduler.load_state_dict(load_tree(folder / _SCHEDULER_FILE))


def _take_effect(
    world: World, cpm: CPM, arrivals: Arrivals, round_number: int
) -> tuple[list[Exchange], list[ExchangeRow]]:
    """Commit what students learned from arrived packages, and report to the matchmaker.

    The world remembers its trials, so ``try_learning`` computes none of them a second time.
    """
    exchanges = [
        exchange
        for issued_round, plan in arrivals.delivered()
        for exchange in world.commit(issued_round, world.try_learning(issued_round, plan))
    ]
    normalised = cpm.receive([exchange.feedback() for exchange in exchanges])
    results = {e.directive.id: (e, r) for e, r in zip(exchanges, normalised, strict=True)}
    rows = []
    for flight in arrivals.ended:
        id_ = flight.directive.id
        exchange, reward = results.get(id_, (None, None))
        if exchange is None:
            cpm.expire(id_, flight.outcome)
        rows.append(_row_of_flight(round_number, flight, exchange, reward))
    return exchanges, rows


def _regret_row(
    round_number: int, cpm: CPM, probe: Probe, plan: Plan, active_N: Mask | None
) -> RegretRow:
    if cpm.matching.is_pairing:
        return regret_row(round_number, probe, plan, active_N, cpm.num_pairs)
    return selection_regret_row(round_number, probe, plan, cpm.matching, cpm.topics, active_N)


def _restarted(cpm: CPM, rebuild: Callable[[], CPM]) -> CPM:
    """Return a new CPM restored from a checkpoint of the old one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _CPM_FILE
        _save_cpm(cpm, file)
        restarted = rebuild()
        restarted.load_state_dict(load_tree(file))
    return restarted


def _checkpoint(
    world: World, cpm: CPM, scheduler: EventScheduler, tracker: Tracker, round_number: int
) -> None:
    def write(folder: Path) -> None:
        world.save(folder)
        _save_cpm(cpm, folder / _CPM_FILE)
        save_tree(folder / _SCHEDULER_FILE, scheduler.state_dict())

    tracker.run_dir.sync()
    tracker.run_dir.write_checkpoint(round_number, write)


def _save_cpm(cpm: CPM, file: Path) -> None:
    try:
        save_tree(file, cpm.state_dict())
    except TypeError as error:
        name = type(cpm.matchmaker).__name__
        raise UserError(
            f"{name}.state_dict: {error}; return a dict of arrays, numbers, texts and lists"
        ) from error


def _round_rows(
    rows: Sequence[AgentRow], attendance: Attendance, arrivals: Arrivals
) -> list[RoundRow]:
    """Return the world's rows with the agents' attendance and the time of the round's end."""
    present, free = attendance.present_N.tolist(), attendance.free_N.tolist()
    return [
        RoundRow.of(
            row,
            present=present[agent],
            busy=present[agent] and not free[agent],
            copies_ignored=arrivals.ignored.get(agent, 0),
            clock_s=arrivals.clock_s,
        )
        for agent, row in enumerate(rows)
    ]


def _row_of_flight(
    round_number: int, flight: InFlight, exchange: Exchange | None, normalised: float | None
) -> ExchangeRow:
    """Return the row of a directive that ended in this round.

    Without an ``exchange`` nobody learned from it: the row has the cost but no reward.
    """
    if exchange is None:
        spent = Exchange(
            directive=flight.directive,
            reward=0.0,
            kilobytes=flight.kilobytes,
            items_sent=flight.items_sent,
            items_kept=0,
            guardrail=flight.guardrail,
        )
    else:
        kilobytes = exchange.kilobytes + flight.kilobytes_missed
        spent = replace(exchange, directive=flight.directive, kilobytes=kilobytes)
    row = exchange_row(
        round_number,
        spent,
        issued_round=flight.issued_round,
        outcome=flight.outcome,
        normalised=normalised,
    )
    return replace(
        row,
        issued_s=flight.issued_s,
        arrived_s=flight.arrived_s,
        finished_s=flight.finished_s,
        faults=flight.faults,
    )
