"""What a teacher sends and what anybody makes of it: text, logits, similarities or an adapter.

``teach`` and ``receive`` are phases. What is received depends on the package alone, not on the
student, so it is made once. Axes: M transfer problems, A answer tokens, S tokens of a soft target.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from knexa.agents import solve
from knexa.agents.byzantine import kept_answers
from knexa.agents.session import Session
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import SoftTargets, answer_logits, cosines, pooled_states
from knexa.data.problem import Problem
from knexa.engine.object_refs import HasLarge
from knexa.engine.two_step import two_step
from knexa.evaluation import Outcome
from knexa.exchange.ensemble import mean_one
from knexa.exchange.package import KnowledgePackage, PackageError, TextItem, decode, encode
from knexa.exchange.protocols import AKDVerified, Distillation, FedID, Logits, Protocol
from knexa.exchange.tensors import Schema, pack, unpack
from knexa.seeding import derive_rng, derive_seed

Arrays = dict[str, NDArray[Any]]
NOTHING_FOUND = {"blocked": 0, "redacted": 0, "counted": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson(HasLarge):
    """A teacher's packages as they leave the gateway, and what leaving cost them."""

    large: ClassVar[tuple[str, ...]] = ("text", "tensors")

    teacher: int
    text: bytes = b""
    tensors: bytes = b""
    items_sent: int
    guardrail: dict[str, int]
    tokens_generated: int = 0

    @property
    def kilobytes(self) -> float:
        """Size of the packages as sent, in units of 1,024 bytes."""
        return (len(self.text) + len(self.tensors)) / 1024

    @property
    def sier(self) -> float | None:
        """Share of the answers at the gateway that something was found in; None without text."""
        answers = self.items_sent + self.guardrail["blocked"]
        return sum(self.guardrail.values()) / answers if self.text and answers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(HasLarge):
    """What any student keeps of a teacher's packages, or of many teachers' put together.

    Attributes:
        guardrail: What the receiving gateway's guardrail did.
        items: The answers that passed, with their confidence.
        texts: The same as a student learns from them, weighed.
        soft: Soft targets of the texts, one each; empty where the protocol has none.
        cosines_MM: A teacher's similarities of the round's transfer problems.
        adapter: A teacher's adapter.
        own: The student's own answers, which FedID weighs by ``own_weight``.
        own_weight: Weight of ``own`` beside ``texts``; may be negative.
    """

    large: ClassVar[tuple[str, ...]] = (
        "items",
        "texts",
        "soft",
        "cosines_MM",
        "adapter",
        "own",
    )

    guardrail: dict[str, int]
    items: tuple[TextItem, ...] = ()
    texts: tuple[KeptText, ...] = ()
    soft: tuple[SoftTargets, ...] = ()
    cosines_MM: NDArray[np.float32] | None = None
    adapter: Arrays | None = None
    own: tuple[KeptText, ...] = ()
    own_weight: float = 0.0

    @property
    def items_kept(self) -> int:
        """How much of what was sent is learned from; a package of numbers is one item."""
        if self.adapter is not None or self.cosines_MM is not None:
            return 1
        return len(self.texts)


# The transfer set


def query_problems(session: Session) -> list[Problem]:
    """Return FedID's labelled query split of the transfer set; empty for every other protocol."""
    protocol, transfer = session.protocol, session.benchmark.transfer
    if not isinstance(protocol, FedID):
        return []
    number = min(max(1, round(protocol.query_share * len(transfer))), len(transfer) - 1)
    chosen = derive_rng(session.seed, "query").choice(len(transfer), number, replace=False)
    return [transfer[i] for i in sorted(chosen)]


def taught_problems(session: Session) -> list[Problem]:
    """Return the transfer problems that may be taught: all but the query split."""
    queried = {problem.task_id for problem in query_problems(session)}
    return [problem for problem in session.benchmark.transfer if problem.task_id not in queried]


def transfer_problems(session: Session, round_number: int) -> list[Problem]:
    """Return the transfer problems of the round: all, or the drawn ``num_problems``, in order."""
    assert isinstance(session.protocol, Distillation)
    taught, number = taught_problems(session), session.protocol.num_problems
    if number is None or number >= len(taught):
        return taught
    rng = derive_rng(session.seed, "transfer", round_number)
    return [taught[i] for i in sorted(rng.choice(len(taught), number, replace=False))]


# Teaching


def teach(
    session: Session, state: AgentState, round_number: int, sender: int | None = None
) -> Lesson:
    """Pack what the protocol carries, as far as the guardrail lets it out.

    Text goes out under the name of ``sender`` where a sybil speaks for it.
    """
    match session.protocol.carries:
        case "adapter":
            arrays = {name: tensor.numpy() for name, tensor in state.adapter.items()}
            return _numbers(session, state, round_number, "adapter", arrays)
        case "similarity":
            arrays = {"cosines": _similarities(session, state, round_number)}
            return _numbers(session, state, round_number, "similarity", arrays)
        case _:
            sender = state.index if sender is None else sender
            return _teach_text(session, state, round_number, sender)


def _numbers(
    session: Session, state: AgentState, round_number: int, kind: str, arrays: Arrays
) -> Lesson:
    name = session.members[state.index].name
    data = pack(kind, name, round_number, arrays)
    return Lesson(teacher=state.index, tensors=data, items_sent=1, guardrail=dict(NOTHING_FOUND))


def _teach_text(session: Session, state: AgentState, round_number: int, sender: int) -> Lesson:
    protocol, name = session.protocol, session.members[sender].name
    problems = transfer_problems(session, round_number)
    items, tokens_generated = _items(session, state, problems, round_number)
    vetted = session.guardrail.vet(items)
    package = KnowledgePackage(sender=name, round=round_number, items=tuple(vetted.items))
    tensors = b""
    if isinstance(protocol, Logits):
        arrays = _top_log_probs(session, state, package.items, protocol.top_k)
        tensors = pack("logits", name, round_number, arrays)
    return Lesson(
        teacher=sender,
        text=encode(package),
        tensors=tensors,
        items_sent=len(package.items),
        guardrail=counts(vetted.report),
        tokens_generated=tokens_generated,
    )


def _items(
    session: Session, state: AgentState, problems: list[Problem], round_number: int
) -> tuple[list[TextItem], int]:
    """Return what the agent says to the problems, a liar's inventions too, and what it decoded."""
    forged = session.liars.text(
        state.index,
        problems,
        kept_answers([(text.task_id, text.completion) for text in state.replay]),
        derive_rng(session.seed, "byzantine-text", round_number, state.index),
    )
    if forged is not None:
        return forged, 0
    protocol = session.protocol
    assert isinstance(protocol, Distillation)
    num_candidates = protocol.num_candidates if isinstance(protocol, AKDVerified) else 1
    answers = solve.answer(
        session,
        state,
        problems,
        temperature=protocol.decoding_temperature(round_number, session.num_rounds),
        seed=derive_seed(session.seed, "teach", round_number, state.index),
        num_samples=num_candidates,
        # Whoever receives them runs them; where that is this process, it may begin.
        is_executed=num_candidates > 1 or (session.is_alone and _verifies(protocol)),
    )
    best = _best(session, problems, answers, num_candidates)
    items = [
        TextItem(task_id=a.task_id, completion=a.completion, confidence=a.confidence)
        for a in best
        if a.completion.strip()
    ]
    return items, sum(a.num_tokens for a in answers)


def _best(
    session: Session, problems: list[Problem], answers: list[solve.Answer], num_candidates: int
) -> list[solve.Answer]:
    """Return each problem's first answer that passes its public tests, else its first."""
    if num_candidates == 1:
        return answers
    owners = [problem for problem in problems for _ in range(num_candidates)]
    outcomes = solve.execute(session, owners, [a.completion for a in answers])
    best = []
    for begin in range(0, len(answers), num_candidates):
        passed = (
            index
            for index in range(begin, begin + num_candidates)
            if outcomes[index] is Outcome.PASSED
        )
        best.append(answers[next(passed, begin)])
    return best


@torch.inference_mode()
def _top_log_probs(
    session: Session, state: AgentState, items: Sequence[TextItem], top_k: int
) -> Arrays:
    """Return the S largest log-probabilities at every answer token of the items, in their order."""
    loaded = session.backbone(state)
    loaded.model.eval()
    device = next(loaded.model.parameters()).device
    size = min(top_k, loaded.model.config.vocab_size)
    ids = [np.zeros((0, size), np.int32)]
    values = [np.zeros((0, size), np.float16)]
    for item in items:
        text = KeptText(task_id=item.task_id, completion=item.completion)
        example = session.kept_example(loaded.tokenizer, text)
        input_1T = torch.tensor([example.ids], device=device)
        logits_1AV = answer_logits(loaded.model, input_1T, None, example.num_prompt)
        answer_AV = logits_1AV[0].float().log_softmax(-1)
        top = answer_AV.topk(size)
        ids.append(top.indices.int().cpu().numpy())
        # The lowest half-precision number stands in for what is less likely than that.
        values.append(top.values.clamp(min=-65504.0).half().cpu().numpy())
    return {"ids": np.concatenate(ids), "log_probs": np.concatenate(values)}


@torch.inference_mode()
def _similarities(session: Session, state: AgentState, round_number: int) -> NDArray[np.float16]:
    """Return the cosine similarities above the diagonal, row by row."""
    loaded = session.backbone(state)
    loaded.model.eval()
    problems = transfer_problems(session, round_number)
    size, rows = session.evaluation.batch_size, []
    for begin in range(0, len(problems), size):
        input_BT, mask_BT = prompt_batch(session, loaded, problems[begin : begin + size])
        rows.append(pooled_states(loaded.model, input_BT, mask_BT))
    cosines_MM = cosines(torch.cat(rows)).cpu().numpy()
    return np.asarray(cosines_MM[np.triu_indices(len(problems), 1)], dtype=np.float16)


def prompt_batch(
    session: Session, loaded: Any, problems: Sequence[Problem]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return right-padded (input_PT, mask_PT) of the problems' prompts."""
    device = next(loaded.model.parameters()).device
    prompts = [session.prompt(loaded.tokenizer, problem) for problem in problems]
    longest, pad = max(map(len, prompts)), loaded.tokenizer.pad_token_id
    ids = [prompt + [pad] * (longest - len(prompt)) for prompt in prompts]
    mask = [[1] * len(prompt) + [0] * (longest - len(prompt)) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


# Receiving


@two_step
def receive(session: Session, lesson: Lesson, round_number: int) -> Generator[None, None, Received]:
    """Read, vet and, where the protocol verifies, run what a teacher sent.

    Raises:
        PackageError: A package is not valid.
    """
    match session.protocol.carries:
        case "adapter":
            arrays = unpack(lesson.tensors, "adapter", _adapter_schema(session, lesson.teacher))
            return Received(guardrail=dict(NOTHING_FOUND), adapter=arrays)
        case "similarity":
            num_problems = len(transfer_problems(session, round_number))
            return Received(
                guardrail=dict(NOTHING_FOUND),
                cosines_MM=_read_similarities(lesson.tensors, num_problems),
            )
        case _:
            return (yield from _receive_text(session, lesson, round_number))


def _receive_text(
    session: Session, lesson: Lesson, round_number: int
) -> Generator[None, None, Received]:
    protocol = session.protocol
    package = decode(lesson.text)
    taught = {problem.task_id for problem in taught_problems(session)}
    vetted = session.guardrail.vet([item for item in package.items if item.task_id in taught])
    items: Sequence[TextItem] = vetted.items
    if _verifies(protocol):
        problems = [session.transfer_by_id[item.task_id] for item in items]
        completions = [item.completion for item in items]
        solve.begin(session, problems, completions)
        yield
        outcomes = solve.execute(session, problems, completions)
        items = [
            item for item, outcome in zip(items, outcomes, strict=True) if outcome is Outcome.PASSED
        ]
    soft: tuple[SoftTargets, ...] = ()
    if isinstance(protocol, Logits):
        by_item = _read_logits(session, protocol, lesson, package.items, round_number)
        items = [item for item in items if item in by_item]  # a redacted text has no logits
        soft = tuple(by_item[item] for item in items)
    weights = _confidence_weights(items) if protocol.weighted else [1.0] * len(items)
    texts = tuple(
        KeptText(task_id=item.task_id, completion=item.completion, weight=weight)
        for item, weight in zip(items, weights, strict=True)
    )
    return Received(guardrail=counts(vetted.report), items=tuple(items), texts=texts, soft=soft)


def _verifies(protocol: Protocol) -> bool:
    return protocol.verified or bool(getattr(protocol, "verify", False))


def _confidence_weights(items: Sequence[TextItem]) -> list[float]:
    """Return exp(mean log-probability) of each, scaled to a mean of 1; none given counts as 0."""
    confidences = [-np.inf if i.confidence is None else min(i.confidence, 0.0) for i in items]
    return [float(weight) for weight in mean_one(np.exp(np.array(confidences, dtype=np.float64)))]


def _adapter_schema(session: Session, teacher: int) -> Schema:
    slot = session.pool.get(session.members[teacher].backbone).adapter_parameters
    return {name: ("float32", tuple(parameter.shape)) for name, parameter in slot.items()}


def _read_similarities(data: bytes, num_problems: int) -> NDArray[np.float32]:
    size = num_problems * (num_problems - 1) // 2
    above = unpack(data, "similarity", {"cosines": ("float16", (size,))})["cosines"]
    if (np.abs(above) > 1.01).any():  # half precision rounds
        raise PackageError("the package holds a cosine beyond 1")
    cosines_MM = np.eye(num_problems, dtype=np.float32)
    rows, columns = np.triu_indices(num_problems, 1)
    cosines_MM[rows, columns] = cosines_MM[columns, rows] = above
    return cosines_MM


def _read_logits(
    session: Session,
    protocol: Logits,
    lesson: Lesson,
    items: Sequence[TextItem],
    round_number: int,
) -> dict[TextItem, SoftTargets]:
    """Return the soft targets of every item of the package as it was sent."""
    # The tokenizers are equal: that is what makes the pair admissible.
    loaded = session.pool.get(session.members[lesson.teacher].backbone)
    known = [item for item in items if item.task_id in session.transfer_by_id]
    if len(known) < len(items):
        raise PackageError("the package answers a problem that is not in the transfer set")
    lengths = []
    for item in items:
        text = KeptText(task_id=item.task_id, completion=item.completion)
        example = session.kept_example(loaded.tokenizer, text)
        lengths.append(len(example.ids) - example.num_prompt)
    vocabulary = int(loaded.model.config.vocab_size)
    shape = (sum(lengths), min(protocol.top_k, vocabulary))
    arrays = unpack(
        lesson.tensors, "logits", {"ids": ("int32", shape), "log_probs": ("float16", shape)}
    )
    if ((arrays["ids"] < 0) | (arrays["ids"] >= vocabulary)).any():
        raise PackageError("the package holds a token id outside the vocabulary")
    temperature = protocol.temperature(round_number, session.num_rounds)
    scaled_PS = arrays["log_probs"].astype(np.float32) / temperature
    weights_PS = np.exp(scaled_PS - scaled_PS.max(axis=1, keepdims=True))
    probabilities_PS = weights_PS / weights_PS.sum(axis=1, keepdims=True)
    ends = np.cumsum(lengths)[:-1]
    parts = zip(np.split(arrays["ids"], ends), np.split(probabilities_PS, ends), strict=True)
    soft = [SoftTargets(ids, probabilities, temperature) for ids, probabilities in parts]
    return dict(zip(items, soft, strict=True)) if items else {}


def counts(report: Any) -> dict[str, int]:
    """Return the guardrail's counts as the contract names them."""
    return {
        "blocked": report.blocked,
        "redacted": report.redacted,
        "counted": report.counted,
    }
