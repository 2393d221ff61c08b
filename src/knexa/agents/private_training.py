"""DP-SGD on an adapter (Abadi et al. 2016): private data's noisy gradient, public text's exact one.

Every private problem takes part in a step with probability q, on its own (Poisson sampling, which
is what the accountant assumes); its gradient, of its mean token loss, is clipped to norm C; the sum
of these gets Gaussian noise of z C and is divided by the expected batch size. A teacher's text and
what is rehearsed of it are no data of this agent's, so their gradient is added as it is, and all
that AdamW does after is post-processing.

(epsilon, delta) covers what the adapter, and hence the agent's packages, tell about one training
problem, added or removed, over the whole run; sizes of the training sets count as public. It does
not cover what is measured on private data beside training: profiles (see ``privacy``), validation
losses and the rewards made of them, training losses. Draws and noise come from the run's seed, so
whoever knows it can take the noise off, or from the system's entropy (``Runtime.secret_noise``);
their generators are not made for secrets. Probes try many exchanges and are not counted: they are
the experimenter's, not the agents'.
"""

import secrets
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from knexa.agents.accounting import calibrated_noise, epsilon_spent, require_opacus
from knexa.agents.lightning_module import adamw, num_tokens, seeded, trained_state
from knexa.agents.runtime import Runtime
from knexa.agents.state import AgentState
from knexa.agents.training import (
    Batch,
    DPTraining,
    Example,
    ExtraLoss,
    FitReport,
    collate,
    objective,
)
from knexa.backbones.load import LoadedBackbone
from knexa.errors import UserError
from knexa.seeding import derive_rng, derive_seed
from knexa.tracking.rows import AgentPrivacy, AgentRow, TrainingPrivacy


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How an agent's training is sampled and noised.

    Attributes:
        sample_rate: q, the chance of each of its problems in each step.
        num_steps: The most steps on private data that the run can take.
        noise_multiplier: z, the noise's standard deviation over the clip.
    """

    sample_rate: float
    num_steps: int
    noise_multiplier: float


def budget(runtime: Runtime, agent: int) -> Budget:
    """Return the sampling and noise that keep the agent within the configured budget.

    Raises:
        UserError: Opacus is missing, or the budget is too small.
    """
    training, size = runtime.training, len(runtime.private(agent))
    assert isinstance(training, DPTraining)
    sample_rate = min(1.0, training.batch_size * training.accumulate / size)
    local = -(-runtime.local_batches(agent) // training.accumulate)
    num_steps = runtime.num_rounds * (local + runtime.steps_per_exchange)
    noise_multiplier = calibrated_noise(
        epsilon=training.epsilon,
        delta=training.delta,
        num_releases=max(num_steps, 1),
        sample_rate=sample_rate,
    )
    return Budget(sample_rate=sample_rate, num_steps=num_steps, noise_multiplier=noise_multiplier)


def training_spent(runtime: Runtime, rounds: Sequence[AgentRow]) -> TrainingPrivacy | None:
    """Return what the steps in ``rounds`` have cost each agent; None without DP training.

    Steps without private data count too: they only cost less.
    """
    training = runtime.training
    if not isinstance(training, DPTraining):
        return None
    agents = [
        agent_spent(
            runtime,
            agent,
            sum(row.optimizer_steps for row in rounds if row.agent == agent),
        )
        for agent in range(len(runtime.roster.agents))
    ]
    return TrainingPrivacy(
        epsilon=max(agent.epsilon for agent in agents),
        delta=training.delta,
        clip=training.example_clip,
        unit="one training problem of an agent added or removed",
        per_agent=tuple(agents),
    )


def agent_spent(runtime: Runtime, agent: int, num_steps: int) -> AgentPrivacy:
    """Return what so many steps have cost an agent under DP training.

    Raises:
        UserError: Opacus is missing, or the budget is too small.
    """
    training, its = runtime.training, budget(runtime, agent)
    assert isinstance(training, DPTraining)
    epsilon = epsilon_spent(
        noise_multiplier=its.noise_multiplier,
        delta=training.delta,
        num_releases=num_steps,
        sample_rate=its.sample_rate,
    )
    return AgentPrivacy(
        epsilon=epsilon,
        noise_multiplier=its.noise_multiplier,
        sample_rate=its.sample_rate,
        steps=num_steps,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateStep:
    """What one optimizer step learns from.

    Attributes:
        private: Batches in which the weights of each example sum to 1; none where none was drawn.
        public: Batches whose weights are those of the objective.
    """

    private: tuple[Batch, ...]
    public: tuple[Batch, ...]


def train_privately(
    runtime: Runtime,
    state: AgentState,
    loaded: LoadedBackbone,
    own: Sequence[Example],
    public: Sequence[Batch],
    *,
    private_weight: float,
    num_batches: int,
    learning_rate: float,
    purpose: str,
    round_number: int,
    extra_loss: ExtraLoss | None,
) -> tuple[AgentState, FitReport]:
    """Train on Poisson draws of ``own`` beside the public batches (empty ones hold nothing).

    Raises:
        UserError: The agent's steps are used up: a matchmaker asked for more lessons than rounds.
    """
    training = runtime.training
    assert isinstance(training, DPTraining)
    its, group = budget(runtime, state.index), training.accumulate
    if state.optimizer_steps + -(-num_batches // group) > its.num_steps:
        raise UserError(
            f"training=dp: agent {runtime.members[state.index].name} has spent its budget, "
            f"{its.num_steps} steps in {runtime.num_rounds} rounds, and trains no further"
        )
    keys = (round_number, state.index)
    secret = secrets.randbits(62) if runtime.secret_noise else runtime.seed
    rng = derive_rng(secret, f"{purpose}-poisson", *keys)
    steps = [
        PrivateStep(
            private=poisson_draw(
                own, its.sample_rate, training.batch_size, loaded.tokenizer.pad_token_id, rng
            ),
            public=tuple(batch for batch in public[begin : begin + group] if batch),
        )
        for begin in range(0, num_batches, group)
    ]
    return fit_privately(
        loaded,
        state,
        steps,
        training=training,
        private_weight=private_weight,
        expected_size=its.sample_rate * len(own),
        noise_multiplier=its.noise_multiplier,
        learning_rate=learning_rate,
        seed=derive_seed(secret, purpose, *keys),
        extra_loss=extra_loss,
    )


def poisson_draw(
    own: Sequence[Example], sample_rate: float, size: int, pad: int, rng: np.random.Generator
) -> tuple[Batch, ...]:
    """Return batches of up to ``size`` of the examples that a step draws, each weighing 1."""
    taken = rng.random(len(own)) < sample_rate
    drawn = [example for example, is_taken in zip(own, taken, strict=True) if is_taken]
    drawn.sort(key=lambda example: len(example.ids))  # less padding
    return tuple(
        collate([(1.0, [example]) for example in drawn[begin : begin + size]], pad)
        for begin in range(0, len(drawn), size)
    )


def fit_privately(
    loaded: LoadedBackbone,
    state: AgentState,
    steps: Sequence[PrivateStep],
    *,
    training: DPTraining,
    private_weight: float,
    expected_size: float,
    noise_multiplier: float,
    learning_rate: float,
    seed: int,
    extra_loss: ExtraLoss | None = None,
) -> tuple[AgentState, FitReport]:
    """Train the adapter in the backbone's slot (``state``'s), one optimizer step a ``PrivateStep``.

    The dropout generator is seeded on entry and restored on exit; the noise has its own.

    Args:
        loaded: The backbone.
        state: Whose adapter and AdamW moments are trained.
        steps: What each step learns from.
        training: AdamW's settings and the clip.
        private_weight: Weight of the private data's mean loss in the objective.
        expected_size: Expected number of private examples in a step.
        noise_multiplier: z; 0 adds no noise.
        learning_rate: AdamW's rate.
        seed: Of dropout and noise.
        extra_loss: The exchange protocol's own loss of the public batches.
    """
    if not steps:
        return state, FitReport(None, 0, 0)
    parameters = loaded.adapter_parameters
    optimizer, schedule = adamw(parameters, training, learning_rate, state, num_steps=len(steps))
    loaded.model.train()
    device = next(iter(parameters.values())).device
    losses = []
    with seeded(loaded.model, seed), _gradients_per_example(loaded.model) as hooked:
        mechanism = _mechanism(
            optimizer,
            noise_multiplier,
            training.example_clip,
            torch.Generator(device).manual_seed(derive_seed(seed, "noise")),
        )
        for step in steps:
            mechanism.zero_grad(set_to_none=True)
            scale = private_weight / expected_size
            loss = scale * _noisy_gradient(hooked, mechanism, step.private)
            for parameter in parameters.values():
                assert parameter.grad is not None
                parameter.grad.mul_(scale)
            loss += _add_public_gradient(hooked, step.public, training.accumulate, extra_loss)
            torch.nn.utils.clip_grad_norm_(parameters.values(), training.gradient_clip)
            optimizer.step()
            schedule.step()
            losses.append(loss)
    trained = trained_state(state, parameters, optimizer)
    tokens = num_tokens(batch for step in steps for batch in (*step.private, *step.public))
    return trained, FitReport(float(np.mean(losses)), len(steps), tokens)


def _noisy_gradient(hooked: Any, mechanism: Any, batches: Sequence[Batch]) -> float:
    """Set gradients to the sum of clipped ones plus noise; return the sum of the losses."""
    total = 0.0
    for batch in batches:
        loss = objective(hooked, _moved(batch, hooked))
        loss.backward()  # type: ignore[no-untyped-call]
        mechanism.clip_and_accumulate()
        for parameter in mechanism.params:
            parameter.grad_sample = None
        total += float(loss.detach())
    if not batches:  # a draw of nobody: the noise alone
        for parameter in mechanism.params:
            parameter.grad_sample = torch.zeros((0, *parameter.shape), device=parameter.device)
        mechanism.clip_and_accumulate()
    mechanism.add_noise()  # replaces the gradients that backward left
    return total


def _add_public_gradient(
    hooked: Any, batches: Sequence[Batch], accumulate: int, extra_loss: ExtraLoss | None
) -> float:
    """Add the exact gradient of the public objective, a mean over batches; return its value."""
    total = 0.0
    hooked.disable_hooks()
    for batch in batches:
        loss = objective(hooked, _moved(batch, hooked), extra_loss) / accumulate
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    hooked.enable_hooks()
    return total


def _moved(batch: Batch, model: Any) -> Batch:
    device = next(model.parameters()).device
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _mechanism(
    optimizer: torch.optim.Optimizer,
    noise_multiplier: float,
    clip: float,
    generator: torch.Generator,
) -> Any:
    """Return Opacus' optimizer, which clips and adds noise; it is made after the hooks."""
    from opacus.optimizers import DPOptimizer

    return DPOptimizer(
        optimizer,
        noise_multiplier=noise_multiplier,
        max_grad_norm=clip,
        expected_batch_size=None,
        loss_reduction="sum",
        generator=generator,
    )


@contextmanager
def _gradients_per_example(model: Any) -> Iterator[Any]:
    """Hook the model, which others share, so that backward leaves every example's gradient."""
    require_opacus()
    from opacus.grad_sample import GradSampleModule

    hooked = GradSampleModule(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # The first layers' inputs are frozen embeddings, so what they hand back is nobody's.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield hooked
    finally:
        hooked.to_standard_module()
        for parameter in model.parameters():
            parameter.grad = None
            if hasattr(parameter, "summed_grad"):
                del parameter.summed_grad
