# python -m knexa -cd . logger=diary federation=synthetic 'trusted_modules=[diary]'
from collections.abc import Mapping
from dataclasses import dataclass

from knexa.tracking.info import RunInfo
from knexa.tracking.loggers import Logger
from knexa.tracking.run_directory import RunDirectory


@dataclass(kw_only=True)
class Diary(Logger):
    """One line a round in diary.txt of the run directory."""

    metric: str = "exchange/reward"

    def start(self, run: RunInfo) -> None:
        self._file = run.path / "diary.txt"
        self._file.write_text(f"{run.name}: {self.metric}\n")
        for number, metrics in run.finished_rounds:
            self.log_round(number, metrics)

    def log_round(self, round: int, metrics: Mapping[str, float]) -> None:
        with self._file.open("a") as file:
            file.write(f"{round}: {metrics.get(self.metric, 'not measured')}\n")

    def finish(self, run_dir: RunDirectory) -> str | None:
        return f"the diary is in {self._file}"
