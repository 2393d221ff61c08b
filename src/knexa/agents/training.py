"""How adapters are trained: the settings, the batches and the objective.

A phase trains on batches of weighted sequences, and the weights determine the objective: in a local
update every completion token weighs the same; in AKD (Eq. 2) the private half weighs 1 - alpha and
the teacher's half alpha. Shapes: B sequences, T tokens, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from knexa.agents.accounting import Budget
from knexa.backbones.roster import Precision

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]
ExtraLoss = Callable[[Any, Batch], "torch.Tensor"]
"""An exchange protocol's own loss, of the model and a batch."""


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
        compile: Whether ``torch.compile`` compiles the models' training, in every process that
            trains and for any sequence length; rounding and dropout masks then differ.
    """

    name: ClassVar[str] = "plain"

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
    precision: Precision = "32-true"
    compile: bool = False

    @property
    def budget(self) -> Budget | None:
        """Privacy budget of an agent's training problems over the run; None: no guarantee."""
        return None


@dataclass(frozen=True, kw_only=True)
class DPTraining(Training):
    """DP-SGD on the adapters (Abadi et al. 2016), through Opacus: see ``private_training``.

    ``batch_size`` times ``accumulate`` is the expected size of a Poisson-drawn private batch, and
    ``batch_size`` how many of its sequences are in memory at once.

    Attributes:
        epsilon: Budget of an agent's training problems for the whole run.
        delta: Chance that epsilon does not hold.
        example_clip: C, the largest gradient norm of one training problem.
    """

    name: ClassVar[str] = "dp"

    epsilon: Annotated[float, Field(gt=0, le=1e6)] = 8.0
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    example_clip: Annotated[float, Field(gt=0)] = 1.0

    @property
    def budget(self) -> Budget:
        """Privacy budget of an agent's training problems over the run."""
        return Budget(self.epsilon, self.delta)

    def __post_init__(self) -> None:
        """Refuse compilation and mixed precision, which Opacus does not support."""
        if self.compile:
            raise ValueError("compile=true: gradients of single examples need the plain model")
        if self.precision != "32-true":
            raise ValueError(
                f"precision={self.precision}: gradients of single examples are clipped in 32 bits "
                "only; set it to 32-true"
            )


@dataclass(frozen=True, slots=True)
class SoftTargets:
    """A teacher's next-token distribution at each of a completion's A tokens.

    Attributes:
        ids_AS: Token ids of the S most likely tokens.
        probabilities_AS: Their probabilities at the temperature, scaled to sum to 1.
        temperature: Softens the teacher's and the student's distributions.
    """

    ids_AS: NDArray[np.int32]
    probabilities_AS: NDArray[np.float32]
    temperature: float


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: its token ids, of which the first ``num_prompt`` are not learned.

    ``weight`` is relative to the others of its group; ``soft`` targets, where given, are learned in
    place of the tokens.
    """

    ids: list[int]
    num_prompt: int
    weight: float = 1.0
    soft: SoftTargets | None = None


Term = tuple[float, Sequence[Example]]
"""One term of the objective: its weight, and the sequences that share it."""


def collate(groups: Sequence[Term], pad: int) -> Batch:
    """Return one right-padded batch of ``input_BT``, ``mask_BT`` and ``weight_BT``.

    The examples of a group share its weight evenly over their tokens: the private half of Eq. 2 is
    one group of weight 1 - alpha, the teacher's text one of alpha. ``weight_BT[b, t]`` weighs the
    prediction of token t; it is 0 on prompts and padding. Examples with soft targets have their
    weights in ``soft_weight_BT``, beside ``soft_ids_BTS``, ``soft_probabilities_BTS`` and
    ``temperature``.
    """
    import torch

    examples = [example for _, group in groups for example in group]
    longest = max(len(example.ids) for example in examples)
    input_BT = torch.full((len(examples), longest), pad, dtype=torch.long)
    mask_BT = torch.zeros((len(examples), longest), dtype=torch.long)
    weight_BT = torch.zeros((len(examples), longest))
    soft = _empty_soft_targets(examples, longest)
    row = 0
    for weight, group in groups:
        tokens = sum(len(example.ids) - example.num_prompt for example in group)
        for example in group:
            length, answer = len(example.ids), slice(example.num_prompt, len(example.ids))
            input_BT[row, :length] = torch.tensor(example.ids)
            mask_BT[row, :length] = 1
            token_weight = weight / max(tokens, 1) * example.weight
            if example.soft is None:
                weight_BT[row, answer] = token_weight
            else:
                soft["soft_weight_BT"][row, answer] = token_weight
                soft["soft_ids_BTS"][row, answer] = torch.from_numpy(example.soft.ids_AS).long()
                soft["soft_probabilities_BTS"][row, answer] = torch.from_numpy(
                    example.soft.probabilities_AS
                )
            row += 1
    return {"input_BT": input_BT, "mask_BT": mask_BT, "weight_BT": weight_BT, **soft}


def _empty_soft_targets(examples: Sequence[Example], longest: int) -> Batch:
    import torch

    soft = [example.soft for example in examples if example.soft is not None]
    if not soft:
        return {}
    shape = (len(examples), longest, soft[0].ids_AS.shape[1])
    return {
        "soft_weight_BT": torch.zeros(shape[:2]),
        "soft_ids_BTS": torch.zeros(shape, dtype=torch.long),
        "soft_probabilities_BTS": torch.zeros(shape),
        "temperature": torch.tensor(soft[0].temperature),
    }


def weighted_loss(model: Any, batch: Batch) -> "torch.Tensor":
    """Return the weighted sum of the tokens' losses: a mean where the weights sum to 1.

    The loss is the cross-entropy with the token, or T^2 KL(teacher || student) at temperature T
    where a token has soft targets (Hinton et al. 2015). Weights may be negative.
    """
    import torch.nn.functional as F

    first = min(first_used(batch[key]) for key in ("weight_BT", "soft_weight_BT") if key in batch)
    input_BT = batch["input_BT"][:, first:]
    logits_BTV = answer_logits(model, batch["input_BT"], batch["mask_BT"], first)
    weight_BT = batch["weight_BT"][:, first:]
    used_BT = weight_BT != 0
    loss_K = F.cross_entropy(logits_BTV[used_BT].float(), input_BT[used_BT], reduction="none")
    loss = (loss_K * weight_BT[used_BT]).sum()
    return loss + _soft_loss(logits_BTV, batch, first) if "soft_weight_BT" in batch else loss


def first_used(weight_BT: "torch.Tensor") -> int:
    """Return the first place, from 1 on, with a token of nonzero weight in any row."""
    is_used_T = (weight_BT[:, 1:] != 0).any(0)
    return 1 + int(is_used_T.int().argmax()) if len(is_used_T) else 1


def answer_logits(
    model: Any, input_BT: "torch.Tensor", mask_BT: "torch.Tensor | None", first: int
) -> "torch.Tensor":
    """Return the logits that predict the tokens from place ``first`` >= 1 on.

    Logits take most of the memory; those of prompts, half of all, are never computed.
    """
    kept = input_BT.shape[1] - first + 1
    output = model(input_ids=input_BT, attention_mask=mask_BT, use_cache=False, logits_to_keep=kept)
    logits_BTV: torch.Tensor = output.logits[:, :-1]
    return logits_BTV


def _soft_loss(logits_BTV: "torch.Tensor", batch: Batch, first: int) -> "torch.Tensor":
    weight_BT, temperature = batch["soft_weight_BT"][:, first:], batch["temperature"]
    used_BT = weight_BT != 0
    log_probs_KV = (logits_BTV[used_BT].float() / temperature).log_softmax(-1)
    student_KS = log_probs_KV.gather(1, batch["soft_ids_BTS"][:, first:][used_BT])
    teacher_KS = batch["soft_probabilities_BTS"][:, first:][used_BT]
    # A probability of 0 contributes nothing; its logarithm is kept finite.
    divergence_K = (teacher_KS * (teacher_KS.clamp(min=1e-30).log() - student_KS)).sum(-1)
    return (divergence_K * weight_BT[used_BT]).sum() * temperature**2


def objective(model: Any, batch: Batch, extra_loss: ExtraLoss | None = None) -> "torch.Tensor":
    """Return the loss of one batch: ``weighted_loss``, and the protocol's own loss beside it."""
    import torch

    # A batch may hold no sequences, only the inputs of the extra loss.
    loss = weighted_loss(model, batch) if "input_BT" in batch else torch.zeros(())
    return loss if extra_loss is None else loss + extra_loss(model, batch)


@dataclass(frozen=True, slots=True)
class FitReport:
    """Report of one training; ``loss`` is the mean objective over its batches, None without any."""

    loss: float | None
    optimizer_steps: int
    tokens: int
