"""The CPM's own record of past exchanges: who taught whom and what it earned.

Only raw rewards are kept, in the order in which feedback came; trust and the past of a pair are
read off it. Axes: N agents, M exchanges, K ordered pairs, p pairs that met.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]


class Ledger:
    """Every answered pair directive of a run, oldest first."""

    def __init__(self) -> None:
        self._teachers: list[int] = []
        self._students: list[int] = []
        self._rewards: list[float] = []

    def __len__(self) -> int:
        return len(self._rewards)

    def record(self, teacher: int, student: int, reward: float) -> None:
        """Add one exchange with its raw reward."""
        self._teachers.append(teacher)
        self._students.append(student)
        self._rewards.append(reward)

    def trust(self, num_agents: int) -> _Floats:
        """Return trust_N in (0, 1): how often learning from the agent paid.

        The share of the agent's lessons that earned a positive reward, with one success and one
        failure assumed beforehand (Laplace's rule), so a newcomer has 1/2.
        """
        teachers_M = np.asarray(self._teachers, dtype=np.int64)
        paid_M = np.asarray(self._rewards) > 0.0
        lessons_N = np.bincount(teachers_M, minlength=num_agents)
        successes_N = np.bincount(teachers_M, weights=paid_M, minlength=num_agents)
        return np.asarray((successes_N + 1.0) / (lessons_N + 2.0))

    def pair_means(self, teachers_K: _Indices, students_K: _Indices) -> tuple[_Floats, _Floats]:
        """Return (means_K, counts_K) of the raw rewards of K ordered pairs; 0 where none."""
        if not self._rewards:
            return np.zeros(len(teachers_K)), np.zeros(len(teachers_K))
        keys_M = _keys(np.array(self._teachers), np.array(self._students))
        known_p, which_M, counts_p = np.unique(keys_M, return_inverse=True, return_counts=True)
        means_p = np.bincount(which_M, weights=np.array(self._rewards)) / counts_p
        wanted_K = _keys(teachers_K, students_K)
        places_K = np.minimum(np.searchsorted(known_p, wanted_K), len(known_p) - 1)
        met_K = known_p[places_K] == wanted_K
        return met_K * means_p[places_K], met_K * counts_p[places_K].astype(np.float64)

    def root_mean_square(self) -> float:
        """Return the size of a typical raw reward; 0 before the first."""
        return float(np.sqrt(np.mean(np.square(self._rewards)))) if self._rewards else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the record as arrays."""
        return {
            "teachers": np.array(self._teachers, dtype=np.int64),
            "students": np.array(self._students, dtype=np.int64),
            "rewards": np.array(self._rewards, dtype=np.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._teachers = [int(agent) for agent in state["teachers"]]
        self._students = [int(agent) for agent in state["students"]]
        self._rewards = [float(reward) for reward in state["rewards"]]


def _keys(teachers: _Indices, students: _Indices) -> _Indices:
    """Return one number an ordered pair."""
    return np.asarray(teachers * np.int64(1 << 32) + students, dtype=np.int64)
