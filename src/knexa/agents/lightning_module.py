"""The LightningModule that trains a LoRA adapter, and ``fit``, one phase of it under a Trainer."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils.data import DataLoader

from knexa.agents.state import AgentState
from knexa.agents.training import Batch, ExtraLoss, FitReport, Training, objective
from knexa.backbones.load import LoadedBackbone

FIRST_LOSS_SCALE = 2.0**10
"""Initial loss scale in float16. Torch's default of 2**16 skips steps until nothing overflows, but
an exchange takes only four steps."""


class AdapterModule(L.LightningModule):
    """One phase of training on weighted sequences."""

    def __init__(
        self,
        loaded: LoadedBackbone,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        *,
        is_compiled: bool,
        extra_loss: ExtraLoss | None = None,
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self.schedule = loaded.model, optimizer, schedule
        # In a function, not an attribute: Lightning would take the compiled model for a second one.
        model = loaded.compiled if is_compiled else loaded.model
        self.objective = partial(objective, model, extra_loss=extra_loss)
        self.losses: list[torch.Tensor] = []

    @property
    def mean_loss(self) -> float:
        """Mean objective over the batches seen."""
        return float(torch.stack(self.losses).double().mean())

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the objective of one batch."""
        loss = self.objective(batch)
        self.losses.append(loss.detach())
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and its schedule by step."""
        by_step = {"scheduler": self.schedule, "interval": "step"}
        return {"optimizer": self.optimizer, "lr_scheduler": by_step}


def adamw(
    parameters: Mapping[str, torch.nn.Parameter],
    training: Training,
    learning_rate: float,
    state: AgentState,
    *,
    num_steps: int,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW on an adapter, with the state's moments, and its linear warm-up."""
    optimizer = torch.optim.AdamW(
        list(parameters.values()),
        lr=learning_rate,
        betas=training.betas,
        eps=training.eps,
        weight_decay=training.weight_decay,
    )
    if state.optimizer:
        for name, parameter in parameters.items():
            moments = {
                key: state.optimizer[f"{key}/{name}"].clone().to(parameter.device)
                for key in ("exp_avg", "exp_avg_sq")
            }
            step = torch.tensor(float(state.optimizer_steps))
            optimizer.state[parameter] = {"step": step, **moments}
    warmup = max(1, round(training.warmup_fraction * num_steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / warmup)
    )
    return optimizer, schedule


class LeaveInPlace(SingleDeviceStrategy):
    """Leaves the model on its device; Lightning's own strategy moves it to the host at the end."""

    def teardown(self) -> None:
        """Tear down all but the model."""
        module, self._lightning_module = self._lightning_module, None
        super().teardown()
        self._lightning_module = module


def run_trainer(
    module: AdapterModule,
    batches: Sequence[dict[str, torch.Tensor]],
    training: Training,
    accelerator: str,
) -> None:
    """Fit the module on the batches in their order, once."""
    device = next(module.model.parameters()).device
    is_scaled = training.precision == "16-mixed"
    trainer = L.Trainer(
        accelerator=accelerator,
        devices=1,
        strategy=LeaveInPlace(device),
        precision=None if is_scaled else training.precision,
        plugins=_scaled_precision(device.type) if is_scaled else None,
        max_epochs=1,
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.gradient_clip,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(list(batches), batch_size=None))  # type: ignore[arg-type]
    if trainer.global_step == 0:
        raise RuntimeError("the trainer took no optimizer step")


def _scaled_precision(device: str) -> MixedPrecision:
    scaler = torch.amp.GradScaler(device, init_scale=FIRST_LOSS_SCALE)
    return MixedPrecision("16-mixed", device, scaler)


def trained_state(
    state: AgentState,
    parameters: Mapping[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> AgentState:
    """Return the state after training: adapter and AdamW moments as fp32 CPU tensors.

    Only steps that AdamW took count: those that overflow in float16 are skipped.
    """
    adapter, moments, num_steps = {}, {}, state.optimizer_steps
    for name, parameter in parameters.items():
        adapter[name] = parameter.detach().float().cpu().clone()
        if optimizer.state[parameter]:
            num_steps = int(optimizer.state[parameter]["step"])
            for key in ("exp_avg", "exp_avg_sq"):
                moments[f"{key}/{name}"] = optimizer.state[parameter][key].detach().cpu().clone()
    return replace(state, adapter=adapter, optimizer=moments, optimizer_steps=num_steps)


def num_tokens(batches: Iterable[Batch]) -> int:
    """Return the number of tokens in the batches, with prompts and without padding."""
    return sum(int(t.sum()) for batch in batches for name, t in batch.items() if "mask" in name)


@contextmanager
def seeded(model: torch.nn.Module, seed: int) -> Iterator[None]:
    """Seed torch's generators; restore the host's and the model's device's on exit."""
    device = next(model.parameters()).device
    # Without a list of devices torch asks every GPU, which a forked process cannot do.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def fit(
    loaded: LoadedBackbone,
    state: AgentState,
    batches: Sequence[dict[str, torch.Tensor]],
    *,
    training: Training,
    learning_rate: float,
    accelerator: str,
    seed: int,
    extra_loss: ExtraLoss | None = None,
) -> tuple[AgentState, FitReport]:
    """Train the loaded adapter (that of ``state``) on ``batches``, once over."""
    if not batches:
        return state, FitReport(None, 0, 0)
    loaded.model.train()
    parameters, num_steps = loaded.adapter_parameters, -(-len(batches) // training.accumulate)
    optimizer, schedule = adamw(parameters, training, learning_rate, state, num_steps=num_steps)
    module = AdapterModule(
        loaded, optimizer, schedule, is_compiled=training.compile, extra_loss=extra_loss
    )
    with seeded(loaded.model, seed), quiet_lightning():
        run_trainer(module, batches, training, accelerator)
    trained = trained_state(state, parameters, optimizer)
    steps_taken = trained.optimizer_steps - state.optimizer_steps
    return trained, FitReport(module.mean_loss, steps_taken, num_tokens(batches))


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on loaders and loggers."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            ".*does not have many workers.*",
            ".*number of training batches.*",
            ".*isinstance.*LeafSpec.*",
            ".*Checkpoint directory.*",
            ".*GPU available but not used.*",
            r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",  # where step 1 overflowed
        ):
            warnings.filterwarnings("ignore", message=text)
        try:
            yield
        finally:
            logger.setLevel(level)
