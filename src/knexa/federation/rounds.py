"""The round loop (Algorithm 1 of the paper), the same for every matchmaker and both worlds."""

from pathlib import Path
from typing import Any

from knexa.federation.world import Exchange, World
from knexa.matchmaking.base import Feedback
from knexa.matchmaking.cpm import CPM
from knexa.matchmaking.regret import Regret, regret_row
from knexa.seeding import derive_rng
from knexa.tracking.tracker import Tracker
from knexa.tracking.tree_file import load_tree, save_tree

_CPM_FILE = "cpm.safetensors"


def run_rounds(
    world: World,
    cpm: CPM,
    tracker: Tracker,
    *,
    seed: int,
    num_rounds: int,
    regret: Regret,
    last_round: int | None,
    checkpoint_every: int = 1,
) -> None:
    """Live through the rounds after ``last_round`` (None: from the untrained federation on).

    Every ``checkpoint_every`` rounds, and the last, end in durable rows and a checkpoint, so that a
    run killed anywhere goes on from there.
    """
    if last_round is None:
        tracker.log_rounds(world.rows(0, []))
        tracker.end_round(0)
        _checkpoint(world, cpm, tracker, 0)
        last_round = 0
    for round_number in range(last_round + 1, num_rounds + 1):
        world.begin_round(round_number)
        due, needs = regret.due(round_number), cpm.matchmaker.needs
        probe = world.probe(round_number) if due or "probes" in needs else None
        plan = cpm.propose(
            round_number,
            world.profiles(),
            rng=derive_rng(seed, "matchmaker", round_number),
            probe=probe,
            peer_losses_NN=world.peer_losses(round_number) if "peer losses" in needs else None,
        )
        exchanges = world.exchange(round_number, plan)
        normalised = cpm.receive(
            [Feedback(directive_id=e.directive.id, reward=e.reward) for e in exchanges]
        )
        tracker.log_exchanges(_exchange_rows(round_number, exchanges, normalised))
        if due:
            assert probe is not None
            tracker.log_regret(regret_row(round_number, probe, plan))
        tracker.log_rounds(world.rows(round_number, exchanges))
        tracker.end_round(round_number)
        if round_number % checkpoint_every == 0 or round_number == num_rounds:
            _checkpoint(world, cpm, tracker, round_number)


def restore(world: World, cpm: CPM, folder: Path) -> None:
    """Put the world and the CPM back to where a checkpoint found them."""
    world.load(folder)
    cpm.load_state_dict(load_tree(folder / _CPM_FILE))


def _checkpoint(world: World, cpm: CPM, tracker: Tracker, round_number: int) -> None:
    def write(folder: Path) -> None:
        world.save(folder)
        save_tree(folder / _CPM_FILE, cpm.state_dict())

    tracker.run_dir.sync()
    tracker.run_dir.write_checkpoint(round_number, write)


def _exchange_rows(
    round_number: int, exchanges: list[Exchange], normalised: list[float]
) -> list[dict[str, Any]]:
    return [
        {
            "id": exchange.directive.id,
            "round": round_number,
            "teachers": list(exchange.directive.teachers),
            "students": list(exchange.directive.students),
            "protocol": exchange.directive.protocol,
            "score": exchange.directive.score,
            "reward_raw": exchange.reward,
            "reward_normalised": reward,
            "kilobytes": exchange.kilobytes,
            "items_sent": exchange.items_sent,
            "items_kept": exchange.items_kept,
            "guardrail": exchange.guardrail,
            "server": exchange.server,
        }
        for exchange, reward in zip(exchanges, normalised, strict=True)
    ]
