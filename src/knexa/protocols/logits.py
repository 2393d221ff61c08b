"""``exchange=logits``: distillation of next-token distributions (Hinton et al. 2015)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from knexa.agents.exchange_protocol import (
    Common,
    ExchangeContext,
    OutgoingPackage,
    ReceivedKnowledge,
    summed,
)
from knexa.agents.state import AgentState, KeptText
from knexa.agents.training import Example, SoftTargets, Term
from knexa.exchange.package import KnowledgePackage, PackageError, TextItem
from knexa.exchange.tensors import pack, unpack
from knexa.protocols.distillation import Positive, linear
from knexa.protocols.text import TextDistillation, weighed

if TYPE_CHECKING:
    from knexa.agents.runtime import Runtime
    from knexa.backbones.load import LoadedBackbone


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftKnowledge(ReceivedKnowledge):
    """Answers with their tokens' distributions: ``soft`` targets, one for each of ``texts``."""

    large: ClassVar[tuple[str, ...]] = ("items", "texts", "soft")

    soft: tuple[SoftTargets, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Logits(TextDistillation):
    """Distillation of distributions between agents with equal tokenizers.

    The teacher answers greedily and sends its ``top_k`` largest log-probabilities at every token.
    The student's term is T^2 KL(teacher || student) over these tokens, both softened at the round's
    temperature T, and the teacher renormalised over them.

    Attributes:
        temperature_start: T in the first round.
        temperature_end: T in the last round; linear between.
        top_k: Log-probabilities sent for each token; a whole vocabulary would be megabytes.
    """

    name: ClassVar[str] = "logits"
    common: ClassVar[Common] = "tokenizer"
    carries: ClassVar[str] = "logits"

    temperature_start: Positive = 1.5
    temperature_end: Positive = 2.5
    top_k: Annotated[int, Field(ge=1)] = 32

    def temperature(self, round_number: int, num_rounds: int) -> float:
        """Return T of that round."""
        return linear(self.temperature_start, self.temperature_end, round_number, num_rounds)

    def attachment(
        self, context: ExchangeContext, state: AgentState, package: KnowledgePackage
    ) -> bytes:
        """Return the S largest log-probabilities at every answer token, in the answers' order."""
        import torch

        from knexa.agents.training import answer_logits

        runtime = context.runtime
        loaded = runtime.backbone(state)
        loaded.model.eval()
        device = next(loaded.model.parameters()).device
        size = min(self.top_k, loaded.model.config.vocab_size)
        ids = [np.zeros((0, size), np.int32)]
        values = [np.zeros((0, size), np.float16)]
        for item in package.items:
            example = _example(runtime, loaded, item)
            with torch.inference_mode():
                input_1T = torch.tensor([example.ids], device=device)
                logits_1AV = answer_logits(loaded.model, input_1T, None, example.num_prompt)
                top = logits_1AV[0].float().log_softmax(-1).topk(size)
            ids.append(top.indices.int().cpu().numpy())
            # Clamped to the lowest number of half precision.
            values.append(top.values.clamp(min=-65504.0).half().cpu().numpy())
        arrays = {"ids": np.concatenate(ids), "log_probs": np.concatenate(values)}
        return pack("logits", package.sender, context.round_number, arrays)

    def kept(
        self,
        context: ExchangeContext,
        package: OutgoingPackage,
        read: KnowledgePackage,
        items: Sequence[TextItem],
        guardrail: dict[str, int],
    ) -> SoftKnowledge:
        """Return the answers that passed unchanged, with their soft targets."""
        by_item = self._soft_targets(context, package, read.items)
        kept = [item for item in items if item in by_item]  # redacted answers have no logits
        return SoftKnowledge(
            guardrail=guardrail,
            items=tuple(kept),
            texts=weighed(kept, self.weights(kept)),
            soft=tuple(by_item[item] for item in kept),
        )

    def _soft_targets(
        self, context: ExchangeContext, package: OutgoingPackage, items: Sequence[TextItem]
    ) -> dict[TextItem, SoftTargets]:
        """Return the soft targets of every item of the package as it was sent."""
        runtime = context.runtime
        if any(item.task_id not in runtime.transfer_by_id for item in items):
            raise PackageError("the package answers a problem that is not in the transfer set")
        # Admissible pairs have equal tokenizers.
        loaded = runtime.pool.get(runtime.members[package.teacher].backbone)
        examples = [_example(runtime, loaded, item) for item in items]
        lengths = [len(example.ids) - example.num_prompt for example in examples]
        vocabulary = int(loaded.model.config.vocab_size)
        shape = (sum(lengths), min(self.top_k, vocabulary))
        schema = {"ids": ("int32", shape), "log_probs": ("float16", shape)}
        arrays = unpack(package.payload, "logits", schema)
        if ((arrays["ids"] < 0) | (arrays["ids"] >= vocabulary)).any():
            raise PackageError("the package holds a token id outside the vocabulary")
        temperature = self.temperature(context.round_number, runtime.num_rounds)
        probabilities_PS = _softened(arrays["log_probs"], temperature)
        ends = np.cumsum(lengths)[:-1]
        parts = zip(np.split(arrays["ids"], ends), np.split(probabilities_PS, ends), strict=True)
        soft = [SoftTargets(ids, probabilities, temperature) for ids, probabilities in parts]
        return dict(zip(items, soft, strict=True)) if items else {}

    def combine(self, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
        """Return all answers with their soft targets."""
        each = [r for r in received if isinstance(r, SoftKnowledge)]
        return SoftKnowledge(
            guardrail=summed([r.guardrail for r in each]),
            items=tuple(item for r in each for item in r.items),
            texts=tuple(text for r in each for text in r.texts),
            soft=tuple(soft for r in each for soft in r.soft),
        )

    def terms(
        self, context: ExchangeContext, state: AgentState, received: ReceivedKnowledge | None
    ) -> list[Term]:
        """Return the answers with soft targets in place of their tokens."""
        ((alpha, examples),) = super().terms(context, state, received)
        if not isinstance(received, SoftKnowledge):
            return [(alpha, examples)]
        pairs = zip(examples, received.soft, strict=True)
        return [(alpha, [replace(example, soft=soft) for example, soft in pairs])]


def _example(runtime: "Runtime", loaded: "LoadedBackbone", item: TextItem) -> Example:
    """Return an answer to a transfer problem as a training sequence."""
    text = KeptText(task_id=item.task_id, completion=item.completion)
    return runtime.kept_example(loaded, text)


def _softened(log_probs_PS: NDArray[Any], temperature: float) -> NDArray[np.float32]:
    """Return the probabilities at the temperature, renormalised over the S tokens."""
    scaled_PS = log_probs_PS.astype(np.float32) / temperature
    weights_PS = np.exp(scaled_PS - scaled_PS.max(axis=1, keepdims=True))
    return np.asarray(weights_PS / weights_PS.sum(axis=1, keepdims=True))
