"""Passes the engine's progress to the tracker: timings of every task, and the progress bar."""

from knexa.tracking.tracker import Tracker

_LABELS = {
    "update_locally": "local update",
    "teach": "teaching",
    "receive": "checking answers",
    "text_loss": "scoring answers",
    "score_pool": "scoring answers",
    "learn_centrally": "the server learns",
    "measure": "measuring",
    "learn": "learning",
    "evaluate": "evaluation",
}
"""The phases of a round in their order, as the progress bar names them."""

_LAST = "answer_finally"


class Progress:
    """Observes the engine's pool; records nothing until ``live``, which the run's start sets."""

    def __init__(self, tracker: Tracker, num_rounds: int) -> None:
        self.tracker, self.num_rounds = tracker, num_rounds
        self.live = False
        self._num_tasks, self._num_done = 1, 0

    def begin(self, phase: str, num_tasks: int) -> None:
        """Show the phase."""
        self._num_tasks, self._num_done = num_tasks, 0
        if not self.live:
            return
        label, index, total = "final evaluation", 0, 1
        if phase != _LAST:
            known = list(_LABELS)
            what = _LABELS.get(phase, phase.replace("_", " "))  # a protocol may have its own phases
            label = f"round {self.tracker.round}/{self.num_rounds}: {what}"
            index = known.index(phase) if phase in _LABELS else known.index("learn")
            total = len(known)
        self.tracker.console.phase(self.tracker.round, label, index=index, total=total)

    def done(self, phase: str, key: int, seconds: float) -> None:
        """Record how long the task took and move the bar."""
        if not self.live:
            return
        self.tracker.log_timing(phase, key, seconds)
        self._num_done += 1
        self.tracker.console.advance(self._num_done / self._num_tasks)
