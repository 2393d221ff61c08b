"""The benchmark check, run in a thread while the rest of the program starts.

It takes seconds of sandboxed programs, and the imports at the start take seconds of this process:
``benchmark_check`` begins the check, and ``report`` waits for its result.
"""

import threading
from functools import lru_cache

from knexa.data.benchmark import Benchmark
from knexa.engine.local import num_cores
from knexa.errors import UserError
from knexa.evaluation import Executor, Limits
from knexa.evaluation.metrics import BenchmarkReport, check_problems
from knexa.federation.settings import LLMSettings


class BenchmarkCheck:
    """The canonical solutions of a benchmark being checked in a thread."""

    def __init__(
        self, benchmark: Benchmark, limits: Limits, *, num_workers: int, is_strict: bool
    ) -> None:
        self.benchmark = benchmark
        self._limits, self._num_workers, self._is_strict = limits, num_workers, is_strict
        self._report: BenchmarkReport | None = None
        self._error: BaseException | None = None
        # A daemon: an interrupted start does not wait for it, and its processes end with it.
        self._thread = threading.Thread(target=self._check, name="benchmark-check", daemon=True)
        self._thread.start()

    def _check(self) -> None:
        try:
            with Executor(
                limits=self._limits, num_workers=self._num_workers, is_strict=self._is_strict
            ) as executor:
                _ = executor.layers  # a missing sandbox layer is reported before any program runs
                self._report = check_problems(executor, list(self.benchmark))
        except BaseException as error:
            self._error = error

    def report(self) -> BenchmarkReport:
        """Wait for the check and return its report.

        Raises:
            UserError: A sandbox layer is missing, and the executor is strict.
        """
        self._thread.join()
        if self._report is None:
            _begun.cache_clear()  # another run of this process tries again
            assert self._error is not None
            raise self._error
        return self._report


def limits_of(settings: LLMSettings) -> Limits:
    """Return the resource limits of generated programs."""
    evaluation = settings.evaluation
    return Limits(cpu_s=evaluation.cpu_s, wall_s=evaluation.wall_s, memory_mb=evaluation.memory_mb)


def benchmark_check(settings: LLMSettings) -> BenchmarkCheck:
    """Begin the check of the settings' benchmark, once per process: runs of a sweep share it.

    Its problems are of the topics that the settings choose.

    Raises:
        UserError: The data is missing or has no such topics.
    """
    benchmark = settings.data.load()
    if not isinstance(benchmark, Benchmark):
        kind = type(settings.data).__name__
        raise UserError(f"{kind}.load returned a {type(benchmark).__name__}, not a Benchmark")
    return _begun(
        settings.topics.of_benchmark(benchmark),
        limits_of(settings),
        # One core is left to the imports, which take longer.
        1 if settings.beside_others else max(1, num_cores() - 1),
        settings.evaluation.sandbox == "strict",
    )


@lru_cache(maxsize=4)
def _begun(
    benchmark: Benchmark, limits: Limits, num_workers: int, is_strict: bool
) -> BenchmarkCheck:
    return BenchmarkCheck(benchmark, limits, num_workers=num_workers, is_strict=is_strict)
