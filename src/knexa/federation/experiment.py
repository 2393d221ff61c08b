"""One run from its settings to its summary: data, gate, session, workers, rounds, report."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from typing import Any

from knexa.agents.profile_layout import NUM_FEATURES
from knexa.agents.session import Session
from knexa.backbones.load import BackbonePool, LoadedBackbone, check_available
from knexa.data.benchmark import Benchmark
from knexa.data.problem import CATEGORIES
from knexa.data.skew import category_histogram, measure_skew
from knexa.engine.local import Pool, Workers
from knexa.errors import UserError
from knexa.evaluation import Executor, Limits
from knexa.evaluation.codebleu import floors
from knexa.evaluation.metrics import GateReport, gate
from knexa.federation.llm_world import LLMWorld
from knexa.federation.progress import Progress
from knexa.federation.rounds import restore, run_rounds
from knexa.federation.settings import Settings
from knexa.federation.summary import summarize
from knexa.matchmaking.cpm import CPM
from knexa.seeding import derive_rng
from knexa.tracking.info import AgentInfo, RunInfo, StartInfo
from knexa.tracking.run_directory import RunDirectory
from knexa.tracking.tracker import Tracker

log = logging.getLogger(__name__)


def run_experiment(settings: Settings, run_dir: RunDirectory) -> dict[str, Any]:
    """Run, or go on with, the experiment in the acquired ``run_dir``; return its summary.

    Raises:
        UserError: Something that the config asks for is not to be had here.
    """
    import torch

    torch.set_num_threads(settings.engine.num_threads)
    check_available(settings.roster)
    workers = settings.engine.choose(settings.roster.num_agents)
    with ExitStack() as stack:
        session, report = _session(settings, workers)
        stack.callback(session.executor.close)
        checkpoint = run_dir.latest_checkpoint()
        last_round = checkpoint[0] if checkpoint else None
        run_dir.truncate_after(-1 if last_round is None else last_round)
        tracker = Tracker(run_dir, _loggers(settings))
        progress = Progress(tracker, session.num_rounds)
        pool = stack.enter_context(Pool(workers, session, progress))
        cpm = _cpm(settings)
        world = LLMWorld(session, pool, settings.reward, settings.profile)
        if checkpoint:
            restore(world, cpm, checkpoint[1])
        overview = _overview(settings, session, workers, report, run_dir, last_round)
        if settings.dry_run:
            tracker.console.start(overview)
            return {}
        tracker.start(
            _run_info(settings, run_dir, last_round), overview, _environment(settings, workers)
        )
        try:
            progress.live = True
            run_rounds(
                world,
                cpm,
                tracker,
                seed=settings.seed,
                num_rounds=settings.federation.num_rounds,
                regret=settings.regret,
                last_round=last_round,
            )
            samples = world.final_samples()
            summary = _summary(settings, session, run_dir, samples, report)
            tracker.finish(summary, samples)
        except BaseException as error:
            tracker.fail("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
    return summary


def _session(settings: Settings, workers: Workers) -> tuple[Session, GateReport]:
    evaluation = settings.evaluation
    limits = Limits(
        cpu_s=evaluation.cpu_s, wall_s=evaluation.wall_s, memory_mb=evaluation.memory_mb
    )
    benchmark = settings.data.load()
    report = _gate(benchmark, limits, workers.num_workers)
    benchmark = _without(benchmark, set(report.excluded))
    num_agents = settings.roster.num_agents
    splits = settings.partition.split(
        benchmark.train, num_agents, derive_rng(settings.seed, "partition")
    )
    device = "cuda" if workers.accelerator == "gpu" else "cpu"
    pool = BackbonePool(settings.roster.backbones, device=device)
    for name in settings.roster.used_backbones:
        _check_context(settings, name, pool.get(name))
    dropped = [k for k in settings.evaluation.ks if k > settings.evaluation.num_samples]
    if dropped:
        log.warning(
            "pass@k for k in %s is left out: n is %d", dropped, settings.evaluation.num_samples
        )
    session = Session(
        seed=settings.seed,
        num_rounds=settings.federation.num_rounds,
        roster=settings.roster,
        benchmark=benchmark,
        splits=splits,
        pool=pool,
        executor=Executor(limits=limits),  # every worker starts its own at the first program
        training=settings.training,
        evaluation=settings.evaluation,
        protocol=settings.exchange,
        guardrail=settings.guardrail,
        accelerator=workers.accelerator,
    )
    return session, report


@lru_cache(maxsize=4)
def _gate(benchmark: Benchmark, limits: Limits, num_workers: int) -> GateReport:
    """Check the metric on the benchmark, once per process: the runs of a sweep share it."""
    with Executor(limits=limits, num_workers=num_workers) as executor:
        return gate(executor, list(benchmark))


def _check_context(settings: Settings, name: str, loaded: LoadedBackbone) -> None:
    """Refuse sequences that the backbone has no positions for."""
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    needed = settings.training.max_length + settings.evaluation.max_new_tokens
    if positions is not None and needed > positions:
        raise UserError(
            f"training.max_length + evaluation.max_new_tokens is {needed}, but backbone {name} has "
            f"{positions} positions: lower one of them"
        )


def _without(benchmark: Benchmark, excluded: set[str]) -> Benchmark:
    """Return the benchmark without the problems that the gate excluded, saying which."""
    if not excluded:
        return benchmark
    log.warning("%d problems fail the gate: %s", len(excluded), ", ".join(sorted(excluded)))
    kept: dict[str, Any] = {
        role: tuple(problem for problem in problems if problem.task_id not in excluded)
        for role, problems in benchmark.roles().items()
    }
    empty = [role for role, problems in kept.items() if not problems]
    if empty:
        raise UserError(f"no problem of the {empty[0]} set passes the gate: check the data")
    return replace(benchmark, **kept)


def _cpm(settings: Settings) -> CPM:
    return CPM(
        matchmaker=settings.matchmaker,
        context=settings.context,
        matching=settings.matching,
        reward=settings.reward,
        protocol=settings.exchange.name,
        num_profile_features=NUM_FEATURES,
        num_pairs=settings.federation.pairs_of(settings.roster.num_agents),
    )


def _loggers(settings: Settings) -> Sequence[Any]:
    return [settings.logger]


def _run_info(settings: Settings, run_dir: RunDirectory, last_round: int | None) -> RunInfo:
    choices = settings.choices
    return RunInfo(
        id=settings.config_hash,
        name=run_dir.path.name,
        group=settings.name,
        job_type=settings.matchmaker_name,
        tags=tuple(choices[group] for group in ("roster", "data", "exchange") if group in choices),
        config=settings.config,
        path=run_dir.path,
        resumed=last_round is not None,
    )


def _environment(settings: Settings, workers: Workers) -> dict[str, Any]:
    return {
        "config_hash": settings.config_hash,
        "session": settings.session,
        "num_workers": workers.num_workers,
        "accelerator": workers.accelerator,
    }


def _overview(
    settings: Settings,
    session: Session,
    workers: Workers,
    report: GateReport,
    run_dir: RunDirectory,
    last_round: int | None,
) -> StartInfo:
    skew, benchmark, choices = measure_skew(session.splits), session.benchmark, settings.choices
    return StartInfo(
        run_name=run_dir.path.name,
        run_path=run_dir.path,
        num_rounds=session.num_rounds,
        agents=[_agent_info(session, index) for index in range(len(session.roster.agents))],
        data=(
            f"{benchmark.name}: {len(benchmark.train)} train, {len(benchmark.test)} test, "
            f"{len(benchmark.transfer)} transfer"
        ),
        partition=choices.get("partition", type(settings.partition).__name__),
        mean_js=skew.mean_js,
        matchmaker=settings.matchmaker_name,
        needs=tuple(sorted(settings.matchmaker.needs)),
        policy_details=(
            f"context {choices.get('context')}, matching {choices.get('matching')}, "
            f"reward {choices.get('reward')}"
        ),
        exchange=session.protocol.name,
        workers=f"{workers.num_workers} worker{'s' * (workers.num_workers > 1)}: {workers.reason}",
        sandbox=report.layers,
        excluded=tuple(sorted(report.excluded)),
        resumed_after=last_round,
    )


def _agent_info(session: Session, index: int) -> AgentInfo:
    agent, data = session.roster.agents[index], session.splits[index]
    loaded = session.pool.get(agent.backbone)
    histogram = category_histogram(data.train)
    top = sorted(range(len(CATEGORIES)), key=lambda c: (-histogram[c], c))[:3]
    return AgentInfo(
        name=agent.name,
        backbone=agent.backbone,
        num_parameters=loaded.num_parameters,
        num_trainable=loaded.num_trainable,
        num_train=len(data.train),
        num_validation=len(data.validation),
        top_categories=tuple(CATEGORIES[c] for c in top if histogram[c] > 0),
    )


def _summary(
    settings: Settings,
    session: Session,
    run_dir: RunDirectory,
    samples: list[dict[str, Any]],
    report: GateReport,
) -> dict[str, Any]:
    measured = summarize(run_dir, samples, ks=settings.evaluation.kept_ks(), seed=settings.seed)
    return measured | {
        "seed": settings.seed,
        "config_hash": settings.config_hash,
        "matchmaker": settings.matchmaker_name,
        "exchange": settings.exchange.name,
        "needs": sorted(settings.matchmaker.needs),
        "excluded": sorted(report.excluded),
        "floors": floors(session.benchmark.test),
        "skew": measure_skew(session.splits).to_dict(),
        "data_shares": [category_histogram(data.train).tolist() for data in session.splits],
    }
