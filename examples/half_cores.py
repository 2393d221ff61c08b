# python -m knexa -cd . engine=half_cores roster=duo debug=smoke 'trusted_modules=[half_cores]'
from dataclasses import dataclass

from knexa.engine.local import Local, Workers, num_cores


@dataclass(frozen=True, kw_only=True)
class HalfCores(Local):
    """Worker processes on half of this machine's cores, so that other work goes on beside it."""

    def choose(self, num_agents: int) -> Workers:
        num_workers = max(1, min(num_cores() // 2, num_agents))
        return Workers(num_workers, "cpu", f"half of {num_cores()} cores")
