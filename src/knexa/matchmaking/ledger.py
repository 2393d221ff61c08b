"""The CPM's own record of past exchanges: who taught whom and what it earned.

Only raw rewards are kept, in the order in which feedback came; trust and the past of a pair are
read off it. Axes: N agents, M exchanges; matrices are ``[teacher, student]``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


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

    def pair_means(self, num_agents: int) -> tuple[_Floats, _Floats]:
        """Return (means_NN, counts_NN) of the raw rewards of every ordered pair; 0 where none."""
        flat_M = np.asarray(self._teachers, dtype=np.int64) * num_agents + np.asarray(
            self._students, dtype=np.int64
        )
        size = num_agents * num_agents
        counts_n = np.bincount(flat_M, minlength=size).astype(np.float64)
        sums_n = np.bincount(flat_M, weights=np.asarray(self._rewards), minlength=size)
        means_n = sums_n / np.maximum(counts_n, 1.0)
        shape = (num_agents, num_agents)
        return means_n.reshape(shape), counts_n.reshape(shape)

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
