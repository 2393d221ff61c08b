"""``exchange=fedid``: a central student learns from all clients and teaches them (FedID).

After Ma et al. (EMNLP 2023), with text in place of logits. The server's loss is
L_s = sum_k w_k c_k CE(text_k), client k's is L_k = (1 - alpha) private + alpha (target + w_k delta
own); w_k is its share of the data, c_k its confidence, delta the rectification signal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    GroupTransfer,
    Learned,
    Measurement,
    ReceivedKnowledge,
    RoundContext,
)
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import FitReport, Term
from knexa.data.problem import Problem
from knexa.exchange.ensemble import confident_votes, mean_one, pool, winners
from knexa.protocols import groups
from knexa.protocols.distillation import Temperature, text_examples
from knexa.protocols.text import TextDistillation
from knexa.seeding import derive_rng
from knexa.tracking.rows import ServerCosts

if TYPE_CHECKING:
    from knexa.agents.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class RectifiedKnowledge(ReceivedKnowledge):
    """The target, and the client's own answers.

    Attributes:
        own: The client's own answers.
        own_weight: Weight of ``own`` beside ``texts``; may be negative.
    """

    large: ClassVar[tuple[str, ...]] = ("items", "texts", "own")

    own: tuple[KeptText, ...]
    own_weight: float


@dataclass(frozen=True, kw_only=True)
class CentralStudent(TextDistillation):
    """The server learns the clients' confident vote, and clients learn what it then answers.

    Attributes:
        temperature: Sampling temperature of the clients' and the server's answers (0 is greedy).
        query_share: Part of the transfer set that is the server's labelled query split: it measures
            the rectification signal and is never taught.
        target: What clients learn from: the ``server``'s own answers after it has learned (the
            paper's baseline), or the winners of the ``vote`` (FedID's weighted ensemble).
    """

    name: ClassVar[str] = "fedid"
    pairs: ClassVar[bool] = False
    by_topic: ClassVar[bool] = False

    temperature: Temperature = 0.6
    query_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    target: Literal["server", "vote"] = "server"

    def decoding_temperature(self, round_number: int, num_rounds: int) -> float:
        """Return the temperature at which a client answers; 0 is greedy."""
        return self.temperature

    def query_problems(self, runtime: "Runtime") -> list[Problem]:
        """Return the labelled query split of the transfer set, in order."""
        transfer = runtime.benchmark.transfer
        number = min(max(1, round(self.query_share * len(transfer))), len(transfer) - 1)
        chosen = derive_rng(runtime.seed, "query").choice(len(transfer), number, replace=False)
        return [transfer[i] for i in sorted(chosen)]

    def taught_problems(self, runtime: "Runtime") -> Sequence[Problem]:
        """Return all transfer problems but the query split."""
        queried = {problem.task_id for problem in self.query_problems(runtime)}
        return [p for p in runtime.benchmark.transfer if p.task_id not in queried]

    def terms(
        self, context: ExchangeContext, state: AgentState, received: ReceivedKnowledge | None
    ) -> list[Term]:
        """Return the target's term and, for a client, that of its own answers."""
        terms = super().terms(context, state, received)
        if isinstance(received, RectifiedKnowledge) and received.own_weight:
            weight = self._alpha(context) * received.own_weight
            terms.append((weight, text_examples(context, state, received.own)))
        return terms

    def deliver(
        self, context: RoundContext, teachers: Sequence[int], students: Sequence[int]
    ) -> GroupTransfer:
        """Let the server learn the vote, and return what it then teaches each client."""
        runtime, taught = context.runtime, groups.fetched_packages(context, teachers)
        (server,) = (student for student in students if student >= len(runtime.roster.agents))
        sizes_K = groups.training_sizes(context, teachers)
        shares_K = sizes_K / sizes_K.sum()
        candidates = pool([received.items for _, received in taught])
        votes_C = confident_votes(candidates, shares_K)
        texts = [KeptText(task_id=c.task_id, completion=c.completion) for c in candidates]
        voted = [
            replace(text, weight=float(weight))
            for text, weight in zip(texts, mean_one(votes_C), strict=True)
        ]
        tasks = [(context.states[server], voted, context.round_number)]
        ((state, report, delta),) = context.map(learn_centrally, tasks, [server])
        if self.target == "server":
            target, down, generated = self._server_answers(context, state)
        else:
            target = groups.vetted(runtime, [texts[i] for i in winners(candidates, votes_C)])
            down = len(groups.pool_package(context, target.texts, len(teachers))) / 1024
            generated = 0
        own = {
            teacher: RectifiedKnowledge(
                guardrail=target.guardrail,
                items=target.items,
                texts=target.texts,
                own=received.texts,
                own_weight=float(share * delta),
            )
            for teacher, share, (_, received) in zip(teachers, shares_K, taught, strict=True)
        }
        nothing = Measurement(None, None)
        return GroupTransfer(
            received=target,
            kilobytes=down,
            shared_kilobytes=groups.upload_kilobytes(taught),
            own=own,
            learned={server: (state, Learned(nothing, nothing, report, len(voted)))},
            server=ServerCosts(
                delta=delta,
                tokens_generated=generated,
                tokens_trained=report.tokens,
                optimizer_steps=report.optimizer_steps,
            ),
            **groups.common_fields(taught),
        )

    def _server_answers(
        self, context: RoundContext, state: AgentState
    ) -> tuple[ReceivedKnowledge, float, int]:
        """Return (what students keep, kilobytes, tokens generated) of the server's answers."""
        from knexa.agents import phases

        number, keys = context.round_number, [state.index]
        (((package,), _),) = context.map(phases.teach, [(state, number, state.index)], keys)
        (received,) = context.map(phases.receive, [(package, number)], keys)
        return received, package.kilobytes, package.tokens_generated


def learn_centrally(
    runtime: ExchangeRuntime, state: AgentState, texts: Sequence[KeptText], round_number: int
) -> tuple[AgentState, FitReport, float]:
    """Train the server on weighted text alone (L_s); return (state, report, rectification signal).

    The signal is the fall of its mean token cross-entropy on the labelled query split, in nats.
    """
    from knexa.agents.learning import train
    from knexa.agents.scoring import mean_loss, reference_examples

    protocol = runtime.protocol
    assert isinstance(protocol, CentralStudent)
    queries = reference_examples(runtime, state, protocol.query_problems(runtime))
    before = mean_loss(runtime, state, queries)
    trained, report = train(
        runtime,
        state,
        [(1.0, text_examples(ExchangeContext(runtime, round_number), state, texts))],
        alpha=1.0,
        num_batches=protocol.num_steps * runtime.training.accumulate,
        learning_rate=runtime.training.kd_learning_rate,
        purpose="learn",
        round_number=round_number,
    )
    return trained, report, before - mean_loss(runtime, trained, queries)
