"""How adapters are trained: the settings, the batches and the objective.

A phase gives batches of weighted sequences. The weights carry the objective: a local update weighs
every completion token alike, AKD (Eq. 2) gives the private half 1 - alpha and the teacher's half
alpha. Shapes: B sequences, T tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Training:
    """How adapters are trained (the published settings; learning rates come with the roster).

    Attributes:
        local_learning_rate: AdamW's rate in local updates.
        kd_learning_rate: AdamW's rate in exchanges.
        batch_size: Sequences of each kind (private, teacher's) in a batch.
        accumulate: Batches per optimizer step.
        local_epochs: Passes over the private data in a local update.
        max_length: Tokens of a training sequence at most.
        betas: AdamW's decay rates.
        eps: AdamW's epsilon.
        weight_decay: AdamW's decoupled decay.
        warmup_fraction: Share of a phase's steps with linearly growing rate.
        gradient_clip: Largest gradient norm.
        precision: Lightning's precision flag.
    """

    local_learning_rate: Annotated[float, Field(gt=0)]
    kd_learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    local_epochs: Annotated[int, Field(ge=0)] = 1
    max_length: Annotated[int, Field(ge=16)] = 512
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.98,
    )
    eps: Annotated[float, Field(gt=0)] = 1e-6
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_fraction: Annotated[float, Field(ge=0, le=1)] = 0.02
    gradient_clip: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: its token ids, of which the first ``num_prompt`` are not learnt."""

    ids: list[int]
    num_prompt: int


def collate(
    groups: Sequence[tuple[float, Sequence[Example]]], pad: int
) -> "dict[str, torch.Tensor]":
    """Return one right-padded batch of ``input_BT``, ``mask_BT`` and ``weight_BT``.

    Args:
        groups: (weight, examples) pairs. The examples of a group share its weight token by token:
            the private half of Eq. 2 is one group of weight 1 - alpha, the teacher's text one of
            alpha.
        pad: The id that fills the right of shorter sequences.

    Returns:
        ``weight_BT[b, t]`` weighs the prediction of token t; it is 0 on prompts and padding, and
        each group's weights sum to the group's weight.
    """
    import torch

    examples = [example for _, group in groups for example in group]
    longest = max(len(example.ids) for example in examples)
    input_BT = torch.full((len(examples), longest), pad, dtype=torch.long)
    mask_BT = torch.zeros((len(examples), longest), dtype=torch.long)
    weight_BT = torch.zeros((len(examples), longest))
    row = 0
    for weight, group in groups:
        tokens = sum(len(example.ids) - example.num_prompt for example in group)
        for example in group:
            length = len(example.ids)
            input_BT[row, :length] = torch.tensor(example.ids)
            mask_BT[row, :length] = 1
            weight_BT[row, example.num_prompt : length] = weight / max(tokens, 1)
            row += 1
    return {"input_BT": input_BT, "mask_BT": mask_BT, "weight_BT": weight_BT}


def weighted_loss(model: Any, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return the sum over tokens of weight times cross-entropy; a mean where weights sum to 1."""
    import torch.nn.functional as F

    logits_BTV = model(input_ids=batch["input_BT"], attention_mask=batch["mask_BT"]).logits
    weight_BT = batch["weight_BT"][:, 1:]
    used_BT = weight_BT > 0
    loss_K = F.cross_entropy(
        logits_BTV[:, :-1][used_BT].float(), batch["input_BT"][:, 1:][used_BT], reduction="none"
    )
    return (loss_K * weight_BT[used_BT]).sum()


@dataclass(frozen=True, slots=True)
class FitReport:
    """What one fit did; ``loss`` is the mean objective over its batches (None without batches)."""

    loss: float | None
    optimizer_steps: int
    tokens: int
