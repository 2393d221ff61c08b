"""What a group of teachers brings its students: one peer's lesson, or many lessons as one.

Everything that travels is counted where it is made: what each student receives, and what else moves
for the group (uploads, a pool sent out to be scored). Axes: K teachers, C candidate answers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from knexa.agents.learning import Learned, learn_centrally
from knexa.agents.lessons import Lesson, Received, receive, teach
from knexa.agents.scoring import Gauge, pool_limits, score_pool
from knexa.agents.session import Session
from knexa.agents.state import AgentState, KeptText
from knexa.engine.object_refs import fetched
from knexa.exchange.ensemble import (
    Candidate,
    average_distributions,
    average_tensors,
    confident_votes,
    mean_one,
    pool,
    winners,
)
from knexa.exchange.package import KnowledgePackage, TextItem, encode
from knexa.exchange.protocols import Ensemble, FedAvg, FedID
from knexa.exchange.tensors import pack, schema_of, unpack

SERVER = "server"
_NEGLIGIBLE = 0.01
"""An answer with a smaller share of its problem's ensemble is not worth a place in a batch."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What teachers bring any student of theirs, and what it took to bring it.

    Attributes:
        received: What a student learns from.
        kilobytes: What travels to each student.
        shared_kilobytes: What travels besides.
        items_sent: Answers (or packages of numbers) that the teachers sent.
        guardrail: Counts of all gateways on the way.
        tokens_generated: By teaching agent.
        own: The students whose delivery differs from ``received``.
        learned: The students that have learned already: a server learns before it teaches.
        server: What a server agent spent, for the exchange's row.
    """

    received: Received
    kilobytes: float
    shared_kilobytes: float = 0.0
    items_sent: int
    guardrail: dict[str, int]
    tokens_generated: dict[int, int]
    own: Mapping[int, Received] = field(default_factory=dict)
    learned: Mapping[int, tuple[AgentState, Learned]] = field(default_factory=dict)
    server: Row | None = None

    @property
    def items_kept(self) -> int:
        """How much of what was sent is learned from."""
        return self.received.items_kept

    def for_student(self, student: int) -> Received:
        """Return what that student learns from."""
        return self.own.get(student, self.received)


class Hall(Protocol):
    """What a delivery asks of the world: states, lessons, and somebody to run phases."""

    session: Session
    states: list[AgentState]

    def lessons(
        self, round_number: int, teachers: Iterable[int]
    ) -> dict[int, tuple[Lesson, Received]]:
        """Return the lessons of the round, these teachers' among them."""

    def map(self, phase: Callable[..., Any], tasks: Sequence[Any], keys: Sequence[int]) -> Any:
        """Run a phase over agents."""


def of_lesson(lesson: Lesson, received: Received) -> Delivery:
    """Return what one peer brings."""
    return Delivery(
        received=received,
        kilobytes=lesson.kilobytes,
        items_sent=lesson.items_sent,
        guardrail=_summed([lesson.guardrail, received.guardrail]),
        tokens_generated={lesson.teacher: lesson.tokens_generated},
    )


def deliver_together(
    hall: Hall, round_number: int, teachers: tuple[int, ...], students: Sequence[int]
) -> Delivery:
    """Return what the teachers bring as one, by a protocol that does not teach in pairs."""
    lessons = hall.lessons(round_number, teachers)
    # The server that puts them together reads them here.
    taught = [(lessons[teacher][0], fetched(lessons[teacher][1])) for teacher in teachers]
    match hall.session.protocol:
        case Ensemble():
            return _ensemble(hall, round_number, teachers, students, taught)
        case FedAvg():
            return _fedavg(hall, round_number, teachers, taught)
        case FedID():
            return _fedid(hall, round_number, teachers, students, taught)
        case other:
            raise TypeError(f"{type(other).__name__} teaches in pairs")


Taught = Sequence[tuple[Lesson, Received]]


def _common(taught: Taught) -> dict[str, Any]:
    """Return the fields of a delivery that follow from the lessons alone."""
    reports = [report for lesson, r in taught for report in (lesson.guardrail, r.guardrail)]
    return {
        "items_sent": sum(lesson.items_sent for lesson, _ in taught),
        "guardrail": _summed(reports),
        "tokens_generated": {lesson.teacher: lesson.tokens_generated for lesson, _ in taught},
    }


def _summed(reports: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {kind: sum(report[kind] for report in reports) for kind in reports[0]}


def _uploads(taught: Taught) -> float:
    return sum(lesson.kilobytes for lesson, _ in taught)


# Central-KD


def _ensemble(
    hall: Hall,
    round_number: int,
    teachers: tuple[int, ...],
    students: Sequence[int],
    taught: Taught,
) -> Delivery:
    """Return the ensemble's text: every pooled answer by its share of the averaged distribution."""
    protocol = hall.session.protocol
    assert isinstance(protocol, Ensemble)
    candidates = pool([received.items for _, received in taught])
    texts = [KeptText(task_id=c.task_id, completion=c.completion) for c in candidates]
    if protocol.vote:
        votes_C = np.array([len(candidate.voters) for candidate in candidates], dtype=np.float64)
        texts = [texts[index] for index in winners(candidates, votes_C)]
        down, shared = _text_kilobytes(round_number, texts, len(teachers)), _uploads(taught)
    else:
        shares_C, down, shared = _scored(hall, round_number, teachers, students, candidates)
        texts = _weighed(texts, shares_C)
        shared += _uploads(taught)
    received = _received(hall.session, texts)
    return Delivery(received=received, kilobytes=down, shared_kilobytes=shared, **_common(taught))


def _scored(
    hall: Hall,
    round_number: int,
    teachers: tuple[int, ...],
    students: Sequence[int],
    candidates: Sequence[Candidate],
) -> tuple[np.ndarray[Any, Any], float, float]:
    """Let every teacher score the pool; return (shares_C, kilobytes down, kilobytes besides)."""
    protocol = hall.session.protocol
    assert isinstance(protocol, Ensemble)
    items = [TextItem(task_id=c.task_id, completion=c.completion) for c in candidates]
    package = _pool_package(round_number, items, len(teachers))
    tasks = [(hall.states[j], package, len(teachers), round_number) for j in teachers]
    scores = hall.map(score_pool, tasks, teachers)
    schema = {"scores": ("float32", (len(candidates),))}
    scores_KC = np.array(
        [unpack(data, "scores", schema)["scores"] for data in scores], dtype=np.float64
    )
    shares_C = average_distributions(scores_KC, candidates, protocol.score_temperature)
    arrays = {"shares": shares_C.astype(np.float32)}
    sent = pack("shares", SERVER, round_number, arrays)
    shares_C = unpack(sent, "shares", schema_of(arrays))["shares"].astype(np.float64)
    # Who scores has the pool already when the shares come.
    only_scoring = len(set(teachers) - set(students))
    shared = (sum(map(len, scores)) + len(package) * only_scoring) / 1024
    return shares_C, (len(package) + len(sent)) / 1024, shared


def _pool_package(round_number: int, items: Sequence[TextItem], num_teachers: int) -> bytes:
    package = KnowledgePackage(sender=SERVER, round=round_number, items=tuple(items), kind="pool")
    return encode(package, limits=pool_limits(num_teachers))


def _text_kilobytes(round_number: int, texts: Sequence[KeptText], num_teachers: int) -> float:
    items = [TextItem(task_id=text.task_id, completion=text.completion) for text in texts]
    return len(_pool_package(round_number, items, num_teachers)) / 1024


def _weighed(texts: Sequence[KeptText], weights_C: np.ndarray[Any, Any]) -> list[KeptText]:
    """Return the texts worth learning, their weights scaled to a mean of 1."""
    kept = [index for index in range(len(texts)) if weights_C[index] >= _NEGLIGIBLE]
    scaled = mean_one(weights_C[kept])
    return [
        replace(texts[index], weight=float(weight))
        for index, weight in zip(kept, scaled, strict=True)
    ]


def _received(session: Session, texts: Sequence[KeptText]) -> Received:
    """Return what a student's own gateway lets in of text that the server put together."""
    items = [TextItem(task_id=text.task_id, completion=text.completion) for text in texts]
    vetted = [session.guardrail.vet([item]) for item in items]
    passed = [
        replace(text, completion=kept.items[0].completion)
        for text, kept in zip(texts, vetted, strict=True)
        if kept.items
    ]
    kinds = ("blocked", "redacted", "counted")
    return Received(
        texts=tuple(passed),
        guardrail={kind: sum(getattr(v.report, kind) for v in vetted) for kind in kinds},
    )


# FedAvg


def _fedavg(hall: Hall, round_number: int, teachers: tuple[int, ...], taught: Taught) -> Delivery:
    """Return the members' mean adapter, weighted by training set size."""
    sizes_K = np.array([len(hall.session.private(j)) for j in teachers], dtype=np.float64)
    adapters = [received.adapter for _, received in taught if received.adapter is not None]
    mean = average_tensors(adapters, sizes_K)
    sent = pack("adapter", SERVER, round_number, mean)
    received = Received(
        guardrail=taught[0][1].guardrail, adapter=unpack(sent, "adapter", schema_of(mean))
    )
    return Delivery(
        received=received,
        kilobytes=len(sent) / 1024,
        shared_kilobytes=_uploads(taught),
        **_common(taught),
    )


# FedID


def _fedid(
    hall: Hall,
    round_number: int,
    teachers: tuple[int, ...],
    students: Sequence[int],
    taught: Taught,
) -> Delivery:
    """Let the server learn the confident vote, and return what it then teaches each client."""
    session = hall.session
    protocol = session.protocol
    assert isinstance(protocol, FedID)
    (server,) = (student for student in students if student >= len(session.roster.agents))
    sizes_K = np.array([len(session.private(j)) for j in teachers], dtype=np.float64)
    shares_K = sizes_K / sizes_K.sum()
    candidates = pool([received.items for _, received in taught])
    votes_C = confident_votes(candidates, shares_K)
    texts = [KeptText(task_id=c.task_id, completion=c.completion) for c in candidates]
    voted = [
        replace(text, weight=float(weight))
        for text, weight in zip(texts, mean_one(votes_C), strict=True)
    ]
    ((state, report, delta),) = hall.map(
        learn_centrally, [(hall.states[server], voted, round_number)], [server]
    )
    spent = {"tokens_trained": report.tokens, "optimizer_steps": report.optimizer_steps}
    if protocol.target == "server":
        target, down, generated = _server_lesson(hall, round_number, state)
    else:
        target = _received(session, [texts[index] for index in winners(candidates, votes_C)])
        down, generated = _text_kilobytes(round_number, target.texts, len(teachers)), 0
    own = {
        teacher: replace(target, own=received.texts, own_weight=float(share * delta))
        for teacher, share, (_, received) in zip(teachers, shares_K, taught, strict=True)
    }
    nothing = Gauge(None, None)
    return Delivery(
        received=target,
        kilobytes=down,
        shared_kilobytes=_uploads(taught),
        own=own,
        learned={server: (state, Learned(nothing, nothing, report, len(voted)))},
        server={"delta": delta, "tokens_generated": generated, **spent},
        **_common(taught),
    )


def _server_lesson(hall: Hall, round_number: int, state: AgentState) -> tuple[Received, float, int]:
    """Return (what students keep, kilobytes, tokens) of the server's own answers."""
    (lesson,) = hall.map(teach, [(state, round_number)], [state.index])
    (received,) = hall.map(receive, [(lesson, round_number)], [state.index])
    return received, lesson.kilobytes, lesson.tokens_generated
