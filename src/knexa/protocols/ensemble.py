"""``exchange=ensemble``: all clients together form one teacher (Central-KD, after FedMD)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.exchange_protocol import GroupTransfer, RoundContext
from knexa.agents.state import AgentState, KeptText
from knexa.exchange.ensemble import Candidate, average_distributions, pool, winners
from knexa.exchange.package import decode
from knexa.exchange.tensors import pack, schema_of, unpack
from knexa.protocols import groups
from knexa.protocols.distillation import Positive, Temperature
from knexa.protocols.text import TextDistillation

if TYPE_CHECKING:
    from knexa.agents.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Ensemble(TextDistillation):
    """Students learn the clients' pooled answers, weighted by the clients' averaged distribution.

    The clients' vocabularies differ, so instead of distributions over tokens the server averages
    distributions over answers: every client scores all pooled answers to a problem.

    Attributes:
        temperature: Sampling temperature of the clients' answers (0 is greedy).
        score_temperature: Softens each client's mean log-probabilities, in nats a token, into its
            distribution over the pooled answers.
        vote: Teach the most frequent answers instead, without scores; confidence breaks ties.
        verify: Only answers that pass the problem's public tests enter the pool.
    """

    name: ClassVar[str] = "ensemble"
    pairs: ClassVar[bool] = False
    by_topic: ClassVar[bool] = False

    temperature: Temperature = 0.6
    score_temperature: Positive = 0.1
    vote: bool = False
    verify: bool = False

    @property
    def verifies(self) -> bool:
        """Whether an answer counts only where it passes the problem's public tests."""
        return self.verify

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a client answers; 0 is greedy."""
        return self.temperature

    def deliver(
        self, context: RoundContext, teachers: Sequence[int], students: Sequence[int]
    ) -> GroupTransfer:
        """Return every pooled answer, weighted by its share of the averaged distribution."""
        taught = groups.fetched_packages(context, teachers)
        uploads = groups.upload_kilobytes(taught)
        candidates = pool([received.items for _, received in taught])
        texts = [KeptText(task_id=c.task_id, completion=c.completion) for c in candidates]
        if self.vote:
            votes_C = np.array([len(c.voters) for c in candidates], dtype=np.float64)
            texts = [texts[index] for index in winners(candidates, votes_C)]
            down = len(groups.pool_package(context, texts, len(teachers))) / 1024
            shared = uploads
        else:
            shares_C, down, shared = self._score(context, teachers, students, candidates, texts)
            texts = groups.weighed(texts, shares_C)
            shared += uploads
        return GroupTransfer(
            received=groups.vetted(context.runtime, texts),
            kilobytes=down,
            shared_kilobytes=shared,
            **groups.common_fields(taught),
        )

    def _score(
        self,
        context: RoundContext,
        teachers: Sequence[int],
        students: Sequence[int],
        candidates: Sequence[Candidate],
        texts: Sequence[KeptText],
    ) -> tuple[NDArray[np.float64], float, float]:
        """Return (shares_C, kilobytes to each student, other kilobytes) of the teachers' scores."""
        number, package = context.round_number, groups.pool_package(context, texts, len(teachers))
        tasks = [(context.states[j], package, len(teachers), number) for j in teachers]
        scores = context.map(score_pool, tasks, teachers)
        schema = {"scores": ("float32", (len(candidates),))}
        scores_KC = np.array(
            [unpack(data, "scores", schema)["scores"] for data in scores], dtype=np.float64
        )
        shares_C = average_distributions(scores_KC, candidates, self.score_temperature)
        arrays = {"shares": shares_C.astype(np.float32)}
        sent = pack("shares", groups.SERVER, number, arrays)
        shares_C = unpack(sent, "shares", schema_of(arrays))["shares"].astype(np.float64)
        # Students that score have the pool before the shares come.
        only_scoring = len(set(teachers) - set(students))
        shared = (sum(map(len, scores)) + len(package) * only_scoring) / 1024
        return shares_C, (len(package) + len(sent)) / 1024, shared


def score_pool(
    runtime: "Runtime", state: AgentState, package: bytes, num_teachers: int, round_number: int
) -> bytes:
    """Return a package with the agent's mean log-probability of every pooled answer, in order."""
    from knexa.agents.scoring import mean_log_probs

    items = decode(package, limits=groups.pool_limits(num_teachers)).items
    texts = [KeptText(task_id=item.task_id, completion=item.completion) for item in items]
    scores_C = mean_log_probs(runtime, state, texts)
    return pack("scores", runtime.members[state.index].name, round_number, {"scores": scores_C})
