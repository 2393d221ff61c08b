"""A student's part of a round: reads what arrived, learns once from all of it, and reports.

What comes from a teacher may be hostile; its counts are capped at what an honest one can have.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from knexa.agents import phases
from knexa.agents.exchange_protocol import (
    ExchangeContext,
    ExchangeRuntime,
    OutgoingPackage,
    Question,
    ReceivedKnowledge,
    summed,
)
from knexa.agents.scoring import measure
from knexa.agents.state import AgentState
from knexa.exchange.package import DEFAULT_LIMITS, decode
from knexa.federation.llm.answers import AnswerCounts
from knexa.matchmaking.answers import TopicAnswers
from knexa.matchmaking.plans import Directive, Plan
from knexa.matchmaking.rewards import Reward
from knexa.network.packages import read_package
from knexa.network.refusals import RefusedError
from knexa.network.reports import GUARDRAIL_KINDS, StudentReport

_MAX_TOKENS: Final = 1 << 30


class Received(NamedTuple):
    """What was asked, the package that has arrived, and what is kept of it."""

    question: Question
    outgoing: OutgoingPackage
    knowledge: ReceivedKnowledge


def receive(
    runtime: ExchangeRuntime,
    directive: Directive,
    question: Question,
    round_number: int,
    package: bytes,
) -> Received:
    """Read, vet and verify the package of a directive.

    Raises:
        PackageError: It is invalid.
        RefusedError: It is no package, or has answers to problems that were not asked about.
    """
    read, most = read_package(package), DEFAULT_LIMITS.max_items
    outgoing = OutgoingPackage(
        teacher=directive.teachers[0],
        text=read.text,
        payload=read.tensors,
        items_sent=min(read.items_sent, most),
        guardrail={k: min(read.guardrail.get(k, 0), most) for k in GUARDRAIL_KINDS},
        tokens_generated=min(read.tokens_generated, _MAX_TOKENS),
    )
    if question != Question() and runtime.protocol.has_text:
        context = ExchangeContext(runtime, round_number, question)
        for item in decode(outgoing.text).items:
            problem = runtime.transfer_by_id.get(item.task_id)
            if problem is not None and not context.asks(problem):
                raise RefusedError("unexpected", "it answers what was not asked")
    knowledge = phases.receive(runtime, outgoing, round_number, question)
    return Received(question, outgoing, knowledge)


def learn(
    runtime: ExchangeRuntime,
    state: AgentState,
    reward: Reward,
    plan: Plan,
    round_number: int,
    received: Mapping[str, Received],
) -> tuple[dict[str, StudentReport], AgentState]:
    """Let a student learn once from all that it received.

    Args:
        runtime: Its runtime.
        state: The student.
        reward: Computes what it reports.
        plan: The directives whose packages it received, in the order of the round's plan.
        round_number: The round.
        received: The packages by directive, and what is kept of them.

    Returns:
        A report on each directive in the plan's order, and the student after learning.
    """
    kept = [received[directive.id].knowledge for directive in plan]
    knowledge = kept[0] if len(kept) == 1 else runtime.protocol.combine(kept)
    before = measure(runtime, state)
    learned_state, learned = phases.learn(runtime, state, knowledge, round_number, before)
    answers: dict[str, tuple[TopicAnswers, ...]] = {}
    if reward.of_answers:
        counting = AnswerCounts(runtime, {state.index: state})

        def brought(directive: Directive, _: int) -> tuple[Question, ReceivedKnowledge]:
            return received[directive.id].question, received[directive.id].knowledge

        counts = counting.of_plan(round_number, plan, {state.index}, brought)
        answers = {id_: of_directive for (id_, _), of_directive in counts.items()}
        rewards = {id_: reward.worth(each, counting.topics) for id_, each in answers.items()}
    else:
        assert before.value is not None
        assert learned.after.value is not None
        earned = reward.reward(
            before=before.value,
            after=learned.after.value,
            kilobytes=sum(each.outgoing.kilobytes for each in received.values()),
        )
        rewards = dict.fromkeys(received, earned)
    reports = {}
    for directive in plan:
        _, outgoing, knowledge = received[directive.id]
        reports[directive.id] = StudentReport(
            outcome="learned",
            reward=float(rewards[directive.id]),
            kilobytes=0.0 if outgoing.teacher == state.index else outgoing.kilobytes,
            items_sent=outgoing.items_sent,
            items_kept=knowledge.items_kept,
            guardrail=summed([outgoing.guardrail, knowledge.guardrail]),
            answers=answers.get(directive.id, ()),
        )
    return reports, learned_state
