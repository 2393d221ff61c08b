"""The CPM's record of past exchanges: teachers, students, raw rewards, and counts of answers.

Axes: N agents, C categories, M exchanges, m topics of exchanges, K ordered pairs, p pairs that met.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from knexa.data.problem import CATEGORIES
from knexa.matchmaking.answers import TopicAnswers
from knexa.matchmaking.arrays import Array, Indices, Mask
from knexa.matchmaking.reports import Comparison, compare


class Ledger:
    """Every answered pair directive of a run, oldest first.

    Args:
        most_liars: How many agents may forge reports. With it ``comparison`` tells who did, and
            their reports are no evidence of teachers, nor are those of texts that are disputed.
            None: reports are not compared.
    """

    def __init__(self, most_liars: int | None = None) -> None:
        self.most_liars = most_liars
        self.comparison = Comparison()
        self._teachers: list[int] = []
        self._students: list[int] = []
        self._rewards: list[float] = []
        self._answers: list[tuple[int, ...]] = []
        self._rounds: list[int] = []
        self._sums_4NC = np.zeros((4, 0, len(CATEGORIES)))  # of the first so many of them
        self._num_summed = 0

    def __len__(self) -> int:
        return len(self._rewards)

    def record(
        self,
        teacher: int,
        student: int,
        reward: float,
        answers: Sequence[TopicAnswers] = (),
        round: int = 0,
    ) -> None:
        """Add one exchange with its raw reward, and what it brought on each topic.

        ``round`` is the one whose plan it is from; only ``compare_reports`` needs it.
        """
        self._answers += [
            (teacher, student, each.category, each.asked, each.right, each.new) for each in answers
        ]
        self._rounds += [round] * len(answers)
        self._teachers.append(teacher)
        self._students.append(student)
        self._rewards.append(reward)

    def compare_reports(self) -> None:
        """Compare all reports so far, where ``most_liars`` says to."""
        if self.most_liars is not None:
            self.comparison = compare(
                (
                    ((round, teacher, category), student, (asked, right))
                    for round, (teacher, student, category, asked, right, _) in zip(
                        self._rounds, self._answers, strict=True
                    )
                ),
                self.most_liars,
            )

    def believes(
        self, teacher: int, student: int, answers: Sequence[TopicAnswers], round: int
    ) -> bool:
        """Return whether a report may be true: not a forger's, and not on a disputed text."""
        forgers, disputed = self.comparison.forgers, self.comparison.disputed
        texts = [(round, teacher, each.category) for each in answers]
        return student not in forgers and disputed.isdisjoint(texts)

    def trust(self, num_agents: int) -> Array:
        """Return trust_N in (0, 1): the share of exchanges with a positive reward, by teacher.

        By Laplace's rule one success and one failure are added, so that a new agent has 1/2.
        """
        successes_N, failures_N = self._counts(num_agents)
        return np.asarray((successes_N + 1.0) / (successes_N + failures_N + 2.0))

    def distrusted(self, num_agents: int, share: float) -> Mask:
        """Return which agents' trust is significantly below ``share`` of the median trust.

        Significantly: by two standard deviations of the Beta posterior of ``trust``, which takes
        some ten bad exchanges in a row. The median is an honest agent's as long as most are. Ours.
        """
        successes_N, failures_N = self._counts(num_agents)
        alpha_N, beta_N = successes_N + 1.0, failures_N + 1.0
        total_N = alpha_N + beta_N
        deviation_N = np.sqrt(alpha_N * beta_N / (total_N**2 * (total_N + 1.0)))
        trust_N = alpha_N / total_N
        return np.asarray(trust_N + 2.0 * deviation_N < share * np.median(trust_N))

    def _counts(self, num_agents: int) -> tuple[Array, Array]:
        """Return by teacher how many exchanges had a positive reward, and how many had not."""
        teachers_M = np.asarray(self._teachers, dtype=np.int64)
        paid_M = np.asarray(self._rewards) > 0.0
        successes_N, failures_N = (
            np.bincount(teachers_M, weights=weights_M, minlength=num_agents).astype(np.float64)
            for weights_M in (paid_M, ~paid_M)
        )
        return successes_N, failures_N

    def pair_means(self, teachers_K: Indices, students_K: Indices) -> tuple[Array, Array]:
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

    def new_answers(self, num_agents: int) -> Array:
        """Return new_NC, how many problems of each category students were first brought."""
        return np.asarray(self._sums(num_agents)[3])

    def requested(self, num_agents: int) -> Array:
        """Return asked_NC, how many answers of each category students have asked for."""
        return np.asarray(self._sums(num_agents)[2])

    def times_asked(self, num_agents: int) -> Array:
        """Return times_NNC ``[teacher, student, category]``: how often the student asked."""
        shape = (num_agents, num_agents, len(CATEGORIES))
        asked = np.array(self._answers, dtype=np.int64).reshape(-1, 6)[:, :3]
        places_m = np.ravel_multi_index(tuple(asked.T), shape)
        return np.bincount(places_m, minlength=math.prod(shape)).reshape(shape).astype(np.float64)

    def answered(self, num_agents: int) -> tuple[Array, Array]:
        """Return (asked_NC, right_NC): answers that teachers were asked for, and right ones.

        By the reports that are believed.
        """
        asked_NC, right_NC, _, _ = self._sums(num_agents)
        for teacher, _, category, asked, right, _ in self._disbelieved():
            asked_NC[teacher, category] -= asked
            right_NC[teacher, category] -= right
        return asked_NC, right_NC

    def _disbelieved(self) -> list[tuple[int, ...]]:
        """Return the counts of the reports that are not believed."""
        forgers, disputed = self.comparison.forgers, self.comparison.disputed
        if not forgers and not disputed:
            return []
        return [
            row
            for round, row in zip(self._rounds, self._answers, strict=True)
            if row[1] in forgers or (round, row[0], row[2]) in disputed
        ]

    def _sums(self, num_agents: int) -> Array:
        """Return four sums of counts, sums_4NC.

        What teachers were asked and had right, what students asked for and were first brought.
        Only counts that came since the last call are added: a run of many rounds has millions.
        """
        if self._sums_4NC.shape[1] != num_agents:
            self._sums_4NC = np.zeros((4, num_agents, len(CATEGORIES)))
            self._num_summed = 0
        sums_4NC = self._sums_4NC.copy()
        added = np.array(self._answers[self._num_summed :], dtype=np.int64).reshape(-1, 6)
        teachers_m, students_m, categories_m, asked_m, right_m, new_m = added.T
        columns = (
            (teachers_m, asked_m),
            (teachers_m, right_m),
            (students_m, asked_m),
            (students_m, new_m),
        )
        size = num_agents * len(CATEGORIES)
        for sums_NC, (agents_m, counts_m) in zip(sums_4NC, columns, strict=True):
            places_m = agents_m * len(CATEGORIES) + categories_m
            sums_NC += np.bincount(places_m, counts_m, minlength=size).reshape(sums_NC.shape)
        self._num_summed, self._sums_4NC = len(self._answers), sums_4NC
        return sums_4NC.copy()

    def root_mean_square(self) -> float:
        """Return the size of a typical raw reward; 0 before the first."""
        return float(np.sqrt(np.mean(np.square(self._rewards)))) if self._rewards else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the record as arrays; ``answers`` where any were counted."""
        answers = {"answers": np.array(self._answers, dtype=np.int64)} if self._answers else {}
        if self.most_liars is not None:
            answers["rounds"] = np.array(self._rounds, dtype=np.int64)
        return answers | {
            "teachers": np.array(self._teachers, dtype=np.int64),
            "students": np.array(self._students, dtype=np.int64),
            "rewards": np.array(self._rewards, dtype=np.float64),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._teachers = [int(agent) for agent in state["teachers"]]
        self._students = [int(agent) for agent in state["students"]]
        self._rewards = [float(reward) for reward in state["rewards"]]
        self._answers = [tuple(map(int, row)) for row in state.get("answers", ())]
        self._rounds = [0] * len(self._answers)
        if self.most_liars is not None:
            self._rounds = [int(round) for round in state["rounds"]]
        self.compare_reports()
        self._num_summed, self._sums_4NC = 0, np.zeros((4, 0, len(CATEGORIES)))


def _keys(teachers: Indices, students: Indices) -> Indices:
    """Return one number an ordered pair."""
    return np.asarray(teachers * np.int64(1 << 32) + students, dtype=np.int64)
