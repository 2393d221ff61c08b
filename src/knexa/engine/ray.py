"""The Ray engine: runs phases in actors, on this machine or a cluster, within one trust domain.

An actor gets the runtime once and loads its backbones at first use; it may have a share of a GPU,
so that several agents train on one. Large fields of results (states, packages) stay in the object
store and are read by the workers that need them (``object_refs``). Ray pickles what it sends:
whoever can reach the cluster can run code in it.

On CPUs, results are those of ``engine=local`` bit for bit, where processors and ``num_threads``
are equal; sums on a GPU are not deterministic. The task of a killed worker is run again by a new
one, once. Not covered: with a lost machine the states computed there are lost, and the run must be
resumed from its last checkpoint.
"""

import logging
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from types import ModuleType
from typing import Annotated, Any

from pydantic import Field

from knexa.engine import object_refs, serialization
from knexa.engine.local import Engine, Observer, Pool, WorkerDiedError, Workers, num_cores
from knexa.engine.process import prepare
from knexa.errors import MachineError, UserError

# Ray sends results below this size to the main process instead of the store.
_KEEP_IN_STORE = "RAY_max_direct_call_object_size"


@dataclass(frozen=True, kw_only=True)
class Ray(Engine):
    """Runs phases in Ray actors.

    Attributes:
        num_workers: Actors, at most one per agent; None takes one per core of this machine.
        num_cpus: Cores that Ray reserves for each.
        num_gpus: Share of a GPU that Ray reserves for each; 0.25 puts four workers on one. 0 trains
            on CPUs.
        num_threads: Torch threads of each. More than one is slower on tiny models.
        address: Of a cluster, as in ``ray.init``; None starts Ray on this machine for the run.
    """

    num_workers: Annotated[int, Field(ge=1)] | None = None
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0, le=1)] = 0.0
    num_threads: Annotated[int, Field(ge=1)] = 1
    address: str | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.address is not None and self.num_workers is None:
            raise ValueError(
                f"address={self.address} needs num_workers: how much of the cluster to take is not "
                "guessed"
            )

    def choose(self, num_agents: int) -> Workers:
        """Return the workers for that many agents."""
        number = max(1, min(self.num_workers or num_cores(), num_agents))
        accelerator = "gpu" if self.num_gpus else "cpu"
        share = f"{self.num_gpus:g} GPU" if self.num_gpus else f"{self.num_cpus:g} CPU"
        where = "this machine" if self.address is None else self.address
        return Workers(number, accelerator, f"Ray on {where}, {share} each", remote=True)

    def pool(self, workers: Workers, context: Any, observer: Observer | None = None) -> "RayPool":
        """Return a pool of these workers on that context."""
        return RayPool(self, workers, context, observer)


class RayPool(Pool):
    """Runs phases in actors; starts Ray and shuts it down, unless it is already running."""

    def __init__(
        self, engine: Ray, workers: Workers, context: Any, observer: Observer | None = None
    ) -> None:
        super().__init__(workers, context, observer)
        self.engine = engine
        self._ray = _import_ray()
        self._is_ours = False
        self._context: Any = None
        self._actor: Any = None

    def __enter__(self) -> "RayPool":
        ray, engine = self._ray, self.engine
        if not ray.is_initialized():
            self._is_ours = True
            _connect(ray, engine, self.workers.num_workers)
        try:
            self._check_resources()
            self._context = ray.put(serialization.dump(self.context))
            options: dict[str, Any] = {"num_cpus": engine.num_cpus, "num_gpus": engine.num_gpus}
            self._actor = ray.remote(**options)(_Actor)
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()
        self._context = self._actor = None
        if self._is_ours:
            self._ray.shutdown()

    @property
    def _runs_here(self) -> bool:
        return False

    def _start(self) -> "_RayWorker":
        actor = self._actor.remote([self._context], self.engine)
        return _RayWorker(self._ray, actor)

    def _answering(self, running: Sequence[Any]) -> list[Any]:
        of = {worker.answered: worker for worker in running}
        ready, _ = self._ray.wait(list(of), num_returns=1)
        return [of[answered] for answered in ready]

    def _check_resources(self) -> None:
        """Check that the cluster has room for the workers; Ray would wait for ever."""
        has, engine = self._ray.cluster_resources(), self.engine
        number = self.workers.num_workers
        for kind, key in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
            each = getattr(engine, key)
            needed, there = number * each, has.get(kind, 0.0)
            if needed > there:
                raise UserError(
                    f"engine.num_workers={number} with engine.{key}={each:g} needs {needed:g} "
                    f"{kind}s and Ray has {there:g}: lower one of them"
                )


class _RayWorker:
    """An actor and its current task; implements ``local.Worker``."""

    def __init__(self, ray: ModuleType, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.answered: Any = None
        self._left: Any = None

    def begin(self, phase: Any, task: tuple[Any, ...]) -> None:
        data, references = object_refs.dump_task((phase, task))
        self.answered, self._left = self._actor.run.options(num_returns=2).remote(data, *references)

    def answer(self) -> tuple[Any, float]:
        errors = self._ray.exceptions
        try:
            data = self._ray.get(self.answered)
        except errors.RayActorError as error:
            if getattr(error, "actor_init_failed", False):
                raise MachineError(f"a Ray worker cannot start: {_last_line(error)}") from error
            raise WorkerDiedError("a Ray worker died") from error
        left, self._left = self._left, None
        return serialization.result_of(
            data, lambda data: object_refs.load_result(data, left, self._ray.get)
        )

    def stop(self) -> None:
        self._ray.kill(self._actor)


class _Actor:
    """The actor in a worker process: holds the runtime and runs one task at a time."""

    def __init__(self, context: list[Any], engine: Ray) -> None:
        import ray

        prepare(engine.num_threads)
        self._shares_gpu = 0 < engine.num_gpus < 1
        self._context = pickle.loads(ray.get(context[0]))

    def run(self, data: bytes, *bodies: list[bytes]) -> tuple[bytes, list[bytes]]:
        """Run a task; return its answer, and the pickled fields that stay in the store."""
        left: list[bytes] = []

        def dump_result(value: Any) -> bytes:
            dumped, kept = object_refs.dump_result(value)
            left.extend(kept)
            return dumped

        phase, task = object_refs.load_task(data, bodies)
        answer = serialization.run_task(phase, self._context, task, dump_result)
        if self._shares_gpu:
            import torch

            torch.cuda.empty_cache()
        return answer, left


def _import_ray() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before Ray is imported: it reports by default
    os.environ.setdefault(_KEEP_IN_STORE, "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("engine=ray needs Ray: pip install 'knexa[cluster]'") from error
    return ray


def _connect(ray: ModuleType, engine: Ray, num_workers: int) -> None:
    # It warns that nobody else can connect, which is intended.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if engine.address is None:
        num_cpus = ceil(num_workers * engine.num_cpus)
        ray.init(num_cpus=num_cpus, include_dashboard=False, **quiet)
        return
    environment = {"env_vars": {_KEEP_IN_STORE: "0", "RAY_USAGE_STATS_ENABLED": "0"}}
    try:
        ray.init(address=engine.address, runtime_env=environment, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"engine.address={engine.address}: no Ray cluster there ({_last_line(error)}): start "
            "one with ray start --head, or set engine.address=null"
        ) from error


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
