"""``exchange=similarity``: distillation of a teacher's similarities between transfer problems.

After FedSKD (Weng et al. 2025), at the level of a batch; nothing is decoded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from knexa.agents.exchange_protocol import (
    NOTHING_FOUND,
    ExchangeContext,
    OutgoingPackage,
    ReceivedKnowledge,
    summed,
)
from knexa.agents.state import AgentState
from knexa.agents.training import Batch
from knexa.data.problem import Problem
from knexa.exchange.package import PackageError
from knexa.exchange.tensors import pack, unpack
from knexa.protocols.distillation import Distillation

if TYPE_CHECKING:
    import torch

    from knexa.agents.learning import Extra
    from knexa.agents.runtime import Runtime
    from knexa.backbones.load import LoadedBackbone

Cosines = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarities(ReceivedKnowledge):
    """A teacher's similarities of the round's M transfer problems: one item."""

    large: ClassVar[tuple[str, ...]] = ("cosines_MM",)

    cosines_MM: Cosines

    @property
    def items_kept(self) -> int:
        """Number of sent items that are learned from."""
        return 1


@dataclass(frozen=True, kw_only=True)
class Similarity(Distillation):
    """The student's similarities of the transfer problems move towards its teacher's.

    The teacher sends the cosine similarities of its last hidden states, averaged over each prompt,
    whose shape does not depend on the architecture; the student's term is the mean squared
    difference to its own.
    """

    name: ClassVar[str] = "similarity"
    carries: ClassVar[str] = "similarity"
    has_text: ClassVar[bool] = False
    by_topic: ClassVar[bool] = False

    def teach(self, context: ExchangeContext, state: AgentState, sender: int) -> OutgoingPackage:
        """Return the similarities above the diagonal, row by row, as a package of numbers."""
        import torch

        runtime, problems = context.runtime, self.problems(context)
        loaded = runtime.backbone(state)
        loaded.model.eval()
        size, rows = runtime.evaluation.batch_size, []
        with torch.inference_mode():
            for begin in range(0, len(problems), size):
                batch = prompt_batch(runtime, loaded, problems[begin : begin + size])
                rows.append(pooled_states(loaded.model, *batch))
            cosines_MM = cosines(torch.cat(rows)).cpu().numpy()
        above = np.asarray(cosines_MM[np.triu_indices(len(problems), 1)], dtype=np.float16)
        name = runtime.members[state.index].name
        return OutgoingPackage(
            teacher=state.index,
            payload=pack("similarity", name, context.round_number, {"cosines": above}),
            items_sent=1,
            guardrail=NOTHING_FOUND,
        )

    def receive(self, context: ExchangeContext, package: OutgoingPackage) -> Similarities:
        """Return the matrix of which the package holds the upper half."""
        num_problems = len(self.problems(context))
        schema = {"cosines": ("float16", (num_problems * (num_problems - 1) // 2,))}
        above = unpack(package.payload, "similarity", schema)["cosines"]
        if (np.abs(above) > 1.01).any():  # half precision rounds
            raise PackageError("the package holds a cosine beyond 1")
        cosines_MM = np.eye(num_problems, dtype=np.float32)
        rows, columns = np.triu_indices(num_problems, 1)
        cosines_MM[rows, columns] = cosines_MM[columns, rows] = above
        return Similarities(guardrail=NOTHING_FOUND, cosines_MM=cosines_MM)

    def combine(self, received: Sequence[ReceivedKnowledge]) -> ReceivedKnowledge:
        """Return the mean of the teachers' similarities."""
        each = [r for r in received if isinstance(r, Similarities)]
        mean_MM = np.asarray(np.mean([r.cosines_MM for r in each], axis=0), dtype=np.float32)
        return replace(each[0], guardrail=summed([r.guardrail for r in each]), cosines_MM=mean_MM)

    def extra(self, context: ExchangeContext, received: ReceivedKnowledge | None) -> "Extra | None":
        """Return the teacher's term of Eq. 2, on a random group of prompts in every batch."""
        if not isinstance(received, Similarities):
            return None
        import torch

        from knexa.agents.learning import Extra

        cosines_MM, alpha = received.cosines_MM, self._alpha(context)
        runtime, problems = context.runtime, self.problems(context)
        size = min(runtime.training.batch_size, len(problems))

        def draw(loaded: "LoadedBackbone", rng: np.random.Generator) -> Batch:
            drawn = rng.choice(len(problems), size, replace=False)
            input_PT, mask_PT = prompt_batch(runtime, loaded, [problems[i] for i in drawn])
            return {
                "prompt_PT": input_PT.cpu(),
                "prompt_mask_PT": mask_PT.cpu(),
                "cosines_PP": torch.from_numpy(cosines_MM[np.ix_(drawn, drawn)]),
                "similarity_weight": torch.tensor(alpha),
            }

        return Extra(draw, similarity_loss)


def similarity_loss(model: "torch.nn.Module", batch: Batch) -> "torch.Tensor":
    """Return the weighted mean squared difference of the student's similarities and the teacher's.

    ``cosines_PP`` are the teacher's for the P prompts in ``prompt_PT`` and ``prompt_mask_PT``.
    """
    own_PP = cosines(pooled_states(model, batch["prompt_PT"], batch["prompt_mask_PT"]))
    difference = ((own_PP - batch["cosines_PP"]) ** 2).mean()
    return batch["similarity_weight"] * difference


def pooled_states(
    model: "torch.nn.Module", input_BT: "torch.Tensor", mask_BT: "torch.Tensor"
) -> "torch.Tensor":
    """Return the mean of the last hidden states over each prompt's tokens, states_BH."""
    output = model(
        input_ids=input_BT,
        attention_mask=mask_BT,
        output_hidden_states=True,
        logits_to_keep=1,
        use_cache=False,
    )
    weight_BT1 = mask_BT[..., None].float()
    states_BTH: torch.Tensor = output.hidden_states[-1].float()
    return (states_BTH * weight_BT1).sum(1) / weight_BT1.sum(1)


def cosines(states_BH: "torch.Tensor") -> "torch.Tensor":
    """Return the cosine similarities of all rows, cosines_BB, always in 32 bits."""
    import torch
    import torch.nn.functional as F

    with torch.autocast(states_BH.device.type, enabled=False):
        unit_BH = F.normalize(states_BH, dim=-1)
        return unit_BH @ unit_BH.T


def prompt_batch(
    runtime: "Runtime", loaded: "LoadedBackbone", problems: Sequence[Problem]
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return right-padded (input_PT, mask_PT) of the problems' prompts."""
    import torch

    device = next(loaded.model.parameters()).device
    prompts = [runtime.prompt(loaded, problem) for problem in problems]
    longest, pad = max(map(len, prompts)), loaded.tokenizer.pad_token_id
    ids = [prompt + [pad] * (longest - len(prompt)) for prompt in prompts]
    mask = [[1] * len(prompt) + [0] * (longest - len(prompt)) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
