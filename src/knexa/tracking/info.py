"""What a run passes to loggers and console: its identity, its parts and its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knexa.tracking.rows import ExchangeRow, RoundRow, Summary


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """The identity of a run, as loggers see it.

    Attributes:
        id: A hash of the study's name and the resolved config; the same for a resumed run.
        name: Readable name, e.g. ``linucb-s42-1f0c9a2b``.
        group: What runs are compared in: the config's ``name``.
        job_type: The matchmaker's name.
        tags: Short labels, e.g. roster and data.
        resumed: Whether rows of an earlier, interrupted start are there.
        finished_rounds: (round, metrics) of every round of that start, in order.
    """

    id: str
    name: str
    group: str
    job_type: str
    path: Path
    config: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    resumed: bool = False
    finished_rounds: tuple[tuple[int, Mapping[str, float]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class AgentInfo:
    """One agent as the start tree shows it; parameter counts include the adapter."""

    name: str
    backbone: str
    num_parameters: int
    num_trainable: int
    num_train: int
    num_validation: int
    top_categories: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StartInfo:
    """What the start-of-run tree shows.

    Attributes:
        agents: In roster order.
        data: One line on the benchmark, e.g. ``codelets: 348 train, 116 test, 128 transfer``.
        partition: One line, e.g. ``dirichlet, alpha 0.1``.
        mean_js: Mean pairwise Jensen-Shannon divergence of the agents' data histograms, in bits.
        needs: What the policy sees beyond profiles and rewards.
        policy_details: e.g. ``context interaction, matching exact``.
        workers: How many and why, e.g. ``2 workers: 2 cores, no GPU``.
        sandbox: Layers that confine generated programs, e.g. ``("landlock", "seccomp")``.
        excluded: Problems that the benchmark check excluded.
        run_notes: Byzantine agents, faults, privacy budgets and the like, a line each.
        resumed_after: The round whose checkpoint the run goes on from, None for a fresh run.
    """

    run_name: str
    run_path: Path
    num_rounds: int
    agents: Sequence[AgentInfo]
    data: str
    partition: str
    mean_js: float | None
    matchmaker: str
    exchange: str
    workers: str
    sandbox: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    policy_details: str = ""
    excluded: tuple[str, ...] = ()
    run_notes: tuple[str, ...] = ()
    resumed_after: int | None = None


@dataclass(frozen=True, kw_only=True)
class ClosingInfo:
    """What the closing table shows; all of it is read from the run directory's files."""

    run_path: Path
    summary: Summary
    rounds: Sequence[RoundRow]
    exchanges: Sequence[ExchangeRow]
    plots: Sequence[Path] = ()
    notes: Sequence[str] = ()
