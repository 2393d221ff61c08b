"""Set-up of a federation of language models: data, benchmark check, backbones, workers, summary."""

import logging
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from knexa.agents.byzantine import ByzantineAgents
from knexa.agents.exchange_protocol import ExchangeRuntime
from knexa.agents.private_training import training_spent
from knexa.backbones.load import LoadedBackbone
from knexa.backbones.pool import BackbonePool
from knexa.backbones.sources import check_available
from knexa.data.benchmark import Benchmark, without_hidden
from knexa.data.partition import AgentData
from knexa.data.skew import Skew, category_histogram, measure_skew
from knexa.engine.local import Observer, Workers, num_cores
from knexa.engine.object_refs import fetched
from knexa.engine.process import prepare
from knexa.errors import UserError
from knexa.evaluation import Executor
from knexa.evaluation.codebleu import floors
from knexa.evaluation.metrics import BenchmarkReport
from knexa.federation.byzantine_metrics import honest_samples
from knexa.federation.llm.benchmark_check import BenchmarkCheck, benchmark_check, limits_of
from knexa.federation.llm.hidden_report import HiddenReport
from knexa.federation.llm.world import LLMWorld
from knexa.federation.settings import LLMSettings
from knexa.federation.summary import (
    codebleu_scores,
    num_releases,
    outcomes_of,
    own_pass_scores,
    pass_scores,
)
from knexa.matchmaking.arrays import Mask
from knexa.seeding import derive_rng
from knexa.tracking.info import AgentInfo
from knexa.tracking.rows import (
    Floor,
    Floors,
    Privacy,
    RoundRow,
    SampleRow,
    Scores,
    SkewSummary,
    VerifiedAnswers,
)

log = logging.getLogger(__name__)

SHORTEST_PROMPT = 16
"""Tokens of a prompt that a backbone with a ``max_length`` of its own must have room for."""


class LLMSetup:
    """A federation of language models set up for one run; implements ``federation.setup.Setup``.

    Raises:
        UserError: Something that the config asks for is not available here.
    """

    def __init__(self, settings: LLMSettings, stack: ExitStack) -> None:
        check_available(settings.roster)
        self.settings, self._stack = settings, stack
        self.checkpoint_every = 1
        self.workers = settings.engine.choose(settings.roster.num_agents)
        checking = benchmark_check(settings)
        self.runtime, self.report = build_runtime(settings, self.workers, checking=checking)
        self.byzantine = self.runtime.byzantine
        stack.callback(self.runtime.executor.close)
        self.privacy = settings.privacy.mechanism(
            families=[
                settings.roster.backbone_of(agent).family
                for agent in range(settings.roster.num_agents)
            ],
            feature_names=settings.profile.feature_names,
            seed=settings.seed,
            num_rounds=settings.federation.num_rounds,
        )
        training_spent(self.runtime, [])  # refuses a budget that is too small
        hidden = checking.benchmark.hidden
        self._hidden = HiddenReport(
            [each for each in hidden if each.task_id not in self.report.excluded],
            limits_of(settings),
            beside_others=settings.beside_others,
            is_strict=settings.evaluation.sandbox == "strict",
        )
        self._world: LLMWorld | None = None

    def world(self, observer: Observer) -> LLMWorld:
        """Start the workers and the agents."""
        engine = self.settings.engine
        pool = self._stack.enter_context(engine.pool(self.workers, self.runtime, observer))
        admissible_NN = admissible_pairs(self.runtime)
        world = LLMWorld(
            self.runtime, pool, self.settings.reward, self.settings.profile, admissible_NN
        )
        world.privacy = self.privacy
        self._world = world
        return world

    def overview(self) -> dict[str, Any]:
        """Return the fields of ``StartInfo`` that describe agents, data and exchange."""
        runtime, choices = self.runtime, self.settings.choices
        skew, benchmark = measure_skew(runtime.splits), runtime.benchmark
        return {
            "agents": [_agent_info(runtime, index) for index in range(runtime.roster.num_agents)],
            "data": (
                f"{benchmark.name}: {len(benchmark.train)} train, {len(benchmark.test)} test, "
                f"{len(benchmark.transfer)} transfer, {len(benchmark.probe)} probe"
            ),
            "partition": choices.get("partition", type(self.settings.partition).__name__),
            "mean_js": skew.mean_js,
            "exchange": _exchange_line(runtime),
            "sandbox": self.report.layers,
            "excluded": tuple(sorted(self.report.excluded)),
        }

    def judged(self, samples: list[SampleRow]) -> list[SampleRow]:
        """Return the final samples with what hidden tests say of them, where the data has some."""
        return self._hidden.judged(samples) if self._hidden else samples

    def scores(self, rounds: list[RoundRow], samples: list[SampleRow]) -> Scores:
        """Return the final scores, with privacy costs and the data's skew."""
        runtime, seed = self.runtime, self.settings.seed
        ks = self.settings.evaluation.kept_ks()
        compat, fixed = codebleu_scores(samples, seed=seed)
        num_topics = len(runtime.benchmark.categories)
        shares = tuple(
            tuple(category_histogram(data.train)[:num_topics].tolist()) for data in runtime.splits
        )
        plus = [replace(row, outcome=row.outcome_plus) for row in samples if row.outcome_plus]
        floor = {name: Floor(**bleus) for name, bleus in floors(runtime.benchmark.test).items()}
        return Scores(
            pass_at=pass_scores(samples, ks=ks, seed=seed),
            own_pass_at=own_pass_scores(samples, ks=ks, data_shares=shares, seed=seed),
            honest_pass_at=honest_samples(self.byzantine, samples, ks=ks, seed=seed),
            codebleu_compat=compat,
            codebleu_fixed=fixed,
            outcomes=outcomes_of(samples),
            excluded=tuple(sorted(self.report.excluded)),
            floors=Floors(**floor),
            privacy=Privacy(
                profiles=self.privacy.spent(num_releases(rounds)),
                training=training_spent(runtime, rounds),
            ),
            skew=_skew_summary(measure_skew(runtime.splits), runtime.benchmark.categories),
            data_shares=shares,
            groups=(
                tuple(data.group for data in runtime.splits)
                if self.settings.partition.num_groups > 1
                else None
            ),
            pass_at_plus=pass_scores(plus, ks=ks, seed=seed) if plus else {},
            own_pass_at_plus=(
                own_pass_scores(plus, ks=ks, data_shares=shares, seed=seed) if plus else {}
            ),
            verified_answers=self._verified_answers(),
        )

    def _verified_answers(self) -> VerifiedAnswers | None:
        if not self._hidden or self._world is None:
            return None
        states = self._world.states[: self.runtime.roster.num_agents]
        return self._hidden.verified(
            self.runtime.executor, [fetched(state.replay) for state in states]
        )


def _skew_summary(skew: Skew, categories: tuple[str, ...]) -> SkewSummary:
    """Return the skew for summary.json, histograms and divergences to 6 digits."""
    return SkewSummary(
        train_sizes=skew.train_sizes,
        validation_sizes=skew.validation_sizes,
        categories=categories,
        histograms=tuple(
            map(tuple, np.round(skew.histograms_N12[:, : len(categories)], 6).tolist())
        ),
        jensen_shannon=tuple(map(tuple, np.round(skew.js_NN, 6).tolist())),
        mean_jensen_shannon=round(skew.mean_js, 6),
        num_draws=skew.num_draws,
    )


def build_runtime(
    settings: LLMSettings,
    workers: Workers,
    only: int | None = None,
    checking: BenchmarkCheck | None = None,
) -> tuple[ExchangeRuntime, BenchmarkReport]:
    """Return the runtime of the phases, and the report of the benchmark check.

    A process that is one agent names it in ``only``: it loads that agent's backbone alone and keeps
    no other agent's private problems. ``checking`` is the benchmark check where it has begun.
    Hidden tests are no part of the runtime.

    Raises:
        UserError: Something that the config asks for is not available here.
    """
    prepare(settings.engine.num_threads)
    _check_precision(settings, workers)
    _check_compiler(settings, workers)
    checking = checking or benchmark_check(settings)
    _check_probe_set(settings, checking.benchmark)
    used = (
        settings.roster.used_backbones if only is None else (settings.roster.agents[only].backbone,)
    )
    device = "cuda" if workers.accelerator == "gpu" else "cpu"
    here = "cpu" if workers.remote else device
    pool = BackbonePool(settings.roster.backbones, device=here, worker_device=device)
    for name in used:
        _check_context(settings, name, pool.get(name))
    report = checking.report()
    benchmark = _without(without_hidden(checking.benchmark), set(report.excluded))
    num_agents = settings.roster.num_agents
    splits = settings.partition.split(
        benchmark.train, num_agents, derive_rng(settings.seed, "partition")
    )
    if only is not None:
        nothing = AgentData(train=(), validation=())
        splits = [data if agent == only else nothing for agent, data in enumerate(splits)]
    dropped = [k for k in settings.evaluation.ks if k > settings.evaluation.num_samples]
    if dropped:
        log.warning(
            "pass@k for k in %s is left out: n is %d", dropped, settings.evaluation.num_samples
        )
    runtime = ExchangeRuntime(
        seed=settings.seed,
        num_rounds=settings.federation.num_rounds,
        roster=settings.roster,
        benchmark=benchmark,
        splits=splits,
        pool=pool,
        # Every worker starts its own sandbox processes at the first program.
        executor=Executor(
            limits=limits_of(settings),
            num_workers=1 if settings.beside_others else max(1, num_cores() // workers.num_workers),
            is_strict=settings.evaluation.sandbox == "strict",
        ),
        training=settings.training,
        evaluation=settings.evaluation,
        protocol=settings.exchange,
        guardrail=settings.guardrail,
        accelerator=workers.accelerator,
        servers=settings.roster.servers(settings.matchmaker.num_servers),
        measure=settings.reward.measure,
        measures_skills=settings.profile.measures_skills,
        byzantine=ByzantineAgents.of(settings.roster.byzantine, settings.seed, num_agents),
        is_alone=workers.num_workers == 1 and not workers.remote and only is None,
    )
    return runtime, report


def _exchange_line(runtime: ExchangeRuntime) -> str:
    """Return the protocol's name, and how many pairs it can serve where these are not all."""
    name, admissible_NN = runtime.protocol.name, admissible_pairs(runtime)
    if admissible_NN is None:
        return name
    num_agents = len(admissible_NN)
    served = f"{int(admissible_NN.sum())} of {num_agents * (num_agents - 1)} ordered pairs"
    return f"{name}  ({served} have the same {runtime.protocol.common}, others cannot meet)"


def admissible_pairs(runtime: ExchangeRuntime) -> Mask | None:
    """Return which ordered pairs the protocol can serve, at least one; None is all."""
    common, roster = runtime.protocol.common, runtime.roster
    if common == "nothing":
        return None
    kinds = [agent.backbone for agent in roster.agents]
    if common == "tokenizer":
        kinds = [_tokenizer_of(runtime.pool.get(name)) for name in kinds]
    kinds_N = np.array(kinds, dtype=object)
    admissible_NN = (kinds_N[:, None] == kinds_N[None, :]) & ~np.eye(len(kinds), dtype=bool)
    if not admissible_NN.any():
        raise UserError(
            f"exchange={runtime.protocol.name} serves agents with the same {common} only, and no "
            f"two of the {roster.num_agents} agents have one: choose another exchange or roster"
        )
    return np.asarray(admissible_NN, dtype=np.bool_)


def _tokenizer_of(loaded: LoadedBackbone) -> str:
    """Return a text that equal tokenizers share: all that decides how they split text."""
    backend = getattr(loaded.tokenizer, "backend_tokenizer", None)
    return loaded.name if backend is None else str(backend.to_str())


def _check_probe_set(settings: LLMSettings, benchmark: Benchmark) -> None:
    """Refuse what measures on a probe set where the data has none."""
    uses = {
        "reward": settings.reward.measure.startswith("transfer"),
        "profile": settings.profile.measures_skills,
    }
    for group, uses_it in uses.items():
        if uses_it and not benchmark.probe:
            raise UserError(
                f"{group}={settings.choices[group]} measures on the public probe set, and "
                f"data={settings.choices['data']} has none: give it one (data.num_probe=64; "
                "split=probe in a JSONL file), or choose another"
            )


def _check_precision(settings: LLMSettings, workers: Workers) -> None:
    if settings.training.precision == "16-mixed" and workers.accelerator == "cpu":
        raise UserError(
            "training.precision=16-mixed needs a GPU, and this run trains on CPUs: set it to "
            "bf16-mixed or 32-true"
        )


_COMPILER_TEST = """
import sys, torch
layer = torch.compile(torch.nn.Linear(2, 2).to(sys.argv[1]))
try:
    layer(torch.ones(1, 2, device=sys.argv[1])).sum().backward()
except Exception as error:
    sys.exit(str(error).strip().splitlines()[0])
"""


def _check_compiler(settings: LLMSettings, workers: Workers) -> None:
    """Compile a small layer in another process: compiling starts threads, and this process forks.

    Raises:
        UserError: This machine cannot compile.
    """
    if not settings.training.compile:
        return
    device = "cpu" if workers.accelerator == "cpu" else "cuda"
    tried = subprocess.run(
        [sys.executable, "-c", _COMPILER_TEST, device], check=False, capture_output=True, text=True
    )
    if tried.returncode:
        reason = next(reversed(tried.stderr.strip().splitlines()), f"exit {tried.returncode}")
        raise UserError(
            f"training.compile=true: torch.compile does not work on this machine ({reason}): "
            "install what it asks for, or set it to false"
        )


def _check_context(settings: LLMSettings, name: str, loaded: LoadedBackbone) -> None:
    """Refuse sequences that the backbone has no positions for."""
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    new_tokens, longest = settings.evaluation.max_new_tokens, loaded.max_length
    if longest is not None and longest - new_tokens < SHORTEST_PROMPT:
        raise UserError(
            f"roster.backbones.{name}.max_length={longest} leaves no room for a prompt beside "
            f"evaluation.max_new_tokens={new_tokens}: it must be {new_tokens + SHORTEST_PROMPT} or "
            "more"
        )
    needed = longest or settings.training.max_length + new_tokens
    if positions is not None and needed > positions:
        asked = "training.max_length + evaluation.max_new_tokens"
        if longest is not None:
            asked = f"roster.backbones.{name}.max_length"
        raise UserError(
            f"{asked} is {needed}, but backbone {name} has {positions} positions: lower one of "
            f"them, or give roster.backbones.{name} max_length: {positions}, which cuts its prompts"
        )


def _without(benchmark: Benchmark, excluded: set[str]) -> Benchmark:
    """Return the benchmark without the problems that failed the check, and log which."""
    if not excluded:
        return benchmark
    log.warning("%d problems fail the check: %s", len(excluded), ", ".join(sorted(excluded)))
    kept: dict[str, Any] = {
        role: tuple(problem for problem in problems if problem.task_id not in excluded)
        for role, problems in benchmark.roles().items()
    }
    empty = [role for role, problems in benchmark.roles().items() if problems and not kept[role]]
    if empty:
        raise UserError(f"no problem of the {empty[0]} set passes the benchmark check")
    return replace(benchmark, **kept)


def _agent_info(runtime: ExchangeRuntime, index: int) -> AgentInfo:
    agent, data = runtime.roster.agents[index], runtime.splits[index]
    loaded = runtime.pool.get(agent.backbone)
    histogram, categories = category_histogram(data.train), runtime.benchmark.categories
    top = sorted(range(len(categories)), key=lambda c: (-histogram[c], c))[:3]
    return AgentInfo(
        name=agent.name,
        backbone=agent.backbone,
        num_parameters=loaded.num_parameters,
        num_trainable=loaded.num_trainable,
        num_train=len(data.train),
        num_validation=len(data.validation),
        top_categories=tuple(categories[c] for c in top if histogram[c] > 0),
    )
