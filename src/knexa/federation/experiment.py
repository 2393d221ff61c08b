"""One run from its settings to its summary, whatever its federation is made of."""

import hashlib
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from typing import Any, Protocol

from knexa.errors import first_line
from knexa.federation.byzantine_metrics import teaching_of
from knexa.federation.progress import Progress
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.run_notes import run_notes
from knexa.federation.settings import Settings
from knexa.federation.setup import Setup
from knexa.federation.summary import costs_of
from knexa.matchmaking.answers import TransferTopics
from knexa.matchmaking.arrays import Mask
from knexa.matchmaking.cpm import CPM
from knexa.recipe import RECIPE
from knexa.tracking.console import Console
from knexa.tracking.info import RunInfo, StartInfo
from knexa.tracking.metrics import regret_totals
from knexa.tracking.rows import ExchangeRow, RegretRow, RoundRow, SampleRow, Summary
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker


def run_experiment(settings: Settings, run_dir: RunDirectory) -> Summary | None:
    """Run or resume the experiment in the acquired ``run_dir``; return its summary.

    A dry run has none.

    Raises:
        UserError: Something that the config asks for is not available here.
    """
    with ExitStack() as stack:
        setup: Setup = settings.federation.set_up(settings, stack)
        checkpoint = run_dir.rewind()
        last_round = checkpoint[0] if checkpoint else None
        console = Console(brief=settings.beside_others)
        tracker = Tracker(run_dir, [settings.logger], console)
        progress = Progress(tracker, settings.federation.num_rounds)
        world = setup.world(progress)
        cpm = build_cpm(settings, world)
        scheduler = settings.federation.scheduler(settings.seed, world.num_agents)
        if checkpoint:
            restore(world, cpm, scheduler, checkpoint[1])
        overview = _overview(settings, setup, run_dir, last_round)
        if settings.dry_run:
            tracker.console.start(overview)
            return None
        tracker.start(
            _run_info(settings, run_dir, last_round), overview, _environment(settings, setup)
        )
        try:
            progress.live = True
            run_rounds(
                world,
                cpm,
                scheduler,
                tracker,
                seed=settings.seed,
                num_rounds=settings.federation.num_rounds,
                regret=settings.regret,
                last_round=last_round,
                checkpoint_every=setup.checkpoint_every,
                rebuild=partial(build_cpm, settings, world),
            )
            samples = setup.judged(world.final_samples())
            summary = _summary(settings, setup, run_dir, samples)
            tracker.finish(summary, samples)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                tracker.fail("interrupted", str(error) or "SIGINT")
            else:
                tracker.fail("failed", f"{type(error).__name__}: {first_line(error)}")
            raise
    return summary


class AgentGroup(Protocol):
    """What the CPM is built from, apart from the settings."""

    @property
    def num_agents(self) -> int:
        """N."""

    @property
    def protocol_name(self) -> str:
        """The exchange protocol of the config."""

    @property
    def admissible_NN(self) -> Mask | None:  # noqa: N802 - an axis legend
        """Which ordered pairs the protocol can serve; None is all."""

    @property
    def topics(self) -> TransferTopics:
        """The topics of the transfer set."""


def build_cpm(settings: Settings, population: AgentGroup) -> CPM:
    """Return the run's CPM before its first round."""
    return CPM(
        matchmaker=deepcopy(settings.matchmaker),  # a restarted matchmaker begins untrained
        context=settings.context,
        matching=settings.matching,
        reward=settings.reward,
        protocol=population.protocol_name,
        num_profile_features=len(settings.profile.feature_names),
        num_pairs=settings.federation.pairs_of(population.num_agents),
        trust_column=settings.profile.trust_column,
        admissible_NN=population.admissible_NN,
        mutual=settings.federation.mutual,
        trust_gate=settings.federation.trust_gate,
        topics=population.topics,
        most_liars=settings.federation.most_liars(population.num_agents),
    )


def _run_info(settings: Settings, run_dir: RunDirectory, last_round: int | None) -> RunInfo:
    told = [settings.choices.get(group, "None") for group in ("roster", "data", "exchange")]
    # The study's name groups runs in W&B, so the same config in another study is another run.
    identity = f"{settings.name} {settings.config_hash}"
    return RunInfo(
        id=hashlib.sha256(identity.encode()).hexdigest(),
        name=run_dir.path.name,
        group=settings.name,
        job_type=settings.matchmaker_name,
        tags=tuple(option for option in told if option != "None"),
        config=settings.config,
        path=run_dir.path,
        resumed=last_round is not None,
    )


def _environment(settings: Settings, setup: Setup) -> dict[str, Any]:
    return {
        "command": settings.command,
        "config_hash": settings.config_hash,
        "session": settings.session,
        "num_workers": setup.workers.num_workers,
        "accelerator": setup.workers.accelerator,
    }


def _overview(
    settings: Settings, setup: Setup, run_dir: RunDirectory, last_round: int | None
) -> StartInfo:
    choices, workers, world = settings.choices, setup.workers, setup.overview()
    return StartInfo(
        run_name=run_dir.path.name,
        run_path=settings.run_path if settings.dry_run else run_dir.path,
        num_rounds=settings.federation.num_rounds,
        matchmaker=settings.matchmaker_name,
        needs=tuple(sorted(settings.matchmaker.needs)),
        policy_details=(
            f"context {choices.get('context')}, matching {choices.get('matching')}, "
            f"reward {choices.get('reward')}"
        ),
        workers=f"{workers.num_workers} worker{'s' * (workers.num_workers > 1)}: {workers.reason}",
        resumed_after=last_round,
        run_notes=run_notes(settings, setup.byzantine, [agent.name for agent in world["agents"]]),
        **world,
    )


def _summary(
    settings: Settings, setup: Setup, run_dir: RunDirectory, samples: list[SampleRow]
) -> Summary:
    rounds, exchanges = run_dir.read_rows(RoundRow), run_dir.read_rows(ExchangeRow)
    num_agents = 1 + max(row.agent for row in rounds)
    return Summary(
        seed=settings.seed,
        config_hash=settings.config_hash,
        recipe=RECIPE,
        matchmaker=settings.matchmaker_name,
        exchange=settings.exchange.name if settings.exchange else None,
        needs=tuple(sorted(settings.matchmaker.needs)),
        regret=regret_totals(run_dir.read_rows(RegretRow)),
        costs=costs_of(rounds, exchanges),
        scores=setup.scores(rounds, samples),
        byzantine=teaching_of(
            setup.byzantine,
            exchanges,
            num_agents=num_agents,
            num_rounds=settings.federation.num_rounds,
            most_liars=settings.federation.most_liars(num_agents),
        ),
    )
