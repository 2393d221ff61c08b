"""DP-SGD on an adapter (Abadi et al. 2016): a noisy gradient on private data, an exact one on text.

Every private problem takes part in a step independently with probability q (Poisson sampling, as
the accountant assumes). The gradient of its mean token loss is clipped to norm C; the sum gets
Gaussian noise of z C and is divided by the expected batch size. A teacher's text is not this
agent's data, so its gradient is added exactly; what AdamW then does is post-processing.

(epsilon, delta) covers what the adapter, and hence the agent's packages, reveal about one training
problem, added or removed, over the whole run; the sizes of training sets count as public. It does
not cover other measurements on private data: profiles (see ``privacy``), validation losses, the
rewards computed from them, and training losses. Draws and noise come from the run's seed, so that
whoever knows it can remove the noise, or from the system's entropy (``Runtime.secret_noise``); the
generators are not cryptographic. Probes are the experimenter's and are not counted.
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
from knexa.agents.exchange_protocol import ExchangeRuntime
from knexa.agents.lightning_module import adamw, num_tokens, seeded, trained_state
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
class NoisePlan:
    """Sampling and noise of an agent's training.

    Attributes:
        sample_rate: q, the probability of each private problem in each step.
        num_steps: The most steps on private data that the run can take.
        noise_multiplier: z, the noise's standard deviation over the clip.
    """

    sample_rate: float
    num_steps: int
    noise_multiplier: float


def noise_plan(runtime: ExchangeRuntime, agent: int) -> NoisePlan:
    """Return the sampling and noise that keep the agent within the configured budget.

    Raises:
        UserError: Opacus is missing, or the budget is too small.
    """
    training, size = runtime.training, len(runtime.private(agent))
    assert isinstance(training, DPTraining)
    sample_rate = min(1.0, training.batch_size * training.accumulate / size)
    local = -(-runtime.local_batches(agent) // training.accumulate)
    num_steps = runtime.num_rounds * (local + runtime.protocol.steps_per_exchange)
    noise_multiplier = calibrated_noise(
        epsilon=training.epsilon,
        delta=training.delta,
        num_releases=max(num_steps, 1),
        sample_rate=sample_rate,
    )
    return NoisePlan(
        sample_rate=sample_rate, num_steps=num_steps, noise_multiplier=noise_multiplier
    )


def training_spent(runtime: ExchangeRuntime, rounds: Sequence[AgentRow]) -> TrainingPrivacy | None:
    """Return the privacy cost of the steps in ``rounds`` by agent; None without DP training.

    Steps without private data are counted like the others, although they cost less.
    """
    training = runtime.training
    if not isinstance(training, DPTraining):
        return None
    agents = []
    for agent in range(len(runtime.roster.agents)):
        num_steps = sum(row.optimizer_steps for row in rounds if row.agent == agent)
        agents.append(agent_spent(runtime, agent, num_steps))
    return TrainingPrivacy(
        epsilon=max(agent.epsilon for agent in agents),
        delta=training.delta,
        clip=training.example_clip,
        unit="one training problem of an agent added or removed",
        per_agent=tuple(agents),
    )


def agent_spent(runtime: ExchangeRuntime, agent: int, num_steps: int) -> AgentPrivacy:
    """Return the privacy cost of ``num_steps`` steps of an agent.

    Raises:
        UserError: Opacus is missing, or the budget is too small.
    """
    training, plan = runtime.training, noise_plan(runtime, agent)
    assert isinstance(training, DPTraining)
    return AgentPrivacy(
        epsilon=epsilon_spent(
            noise_multiplier=plan.noise_multiplier,
            delta=training.delta,
            num_releases=num_steps,
            sample_rate=plan.sample_rate,
        ),
        noise_multiplier=plan.noise_multiplier,
        sample_rate=plan.sample_rate,
        steps=num_steps,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateStep:
    """The data of one optimizer step.

    Attributes:
        private: Batches in which the weights of each example sum to 1; none where none was drawn.
        public: Batches whose weights are those of the objective.
    """

    private: tuple[Batch, ...]
    public: tuple[Batch, ...]


def train_privately(
    runtime: ExchangeRuntime,
    state: AgentState,
    loaded: LoadedBackbone,
    own: Sequence[Example],
    public: Sequence[Batch],
    *,
    private_weight: float,
    learning_rate: float,
    purpose: str,
    round_number: int,
    extra_loss: ExtraLoss | None,
) -> tuple[AgentState, FitReport]:
    """Train on Poisson draws of ``own`` beside the public batches, any of which may be empty.

    Raises:
        UserError: The agent's steps are used up: it had more exchanges than rounds.
    """
    training = runtime.training
    assert isinstance(training, DPTraining)
    plan, group = noise_plan(runtime, state.index), training.accumulate
    if state.optimizer_steps + -(-len(public) // group) > plan.num_steps:
        raise UserError(
            f"training=dp: agent {runtime.members[state.index].name} has spent its budget, "
            f"{plan.num_steps} steps in {runtime.num_rounds} rounds, and trains no further"
        )
    keys = (round_number, state.index)
    secret = secrets.randbits(62) if runtime.secret_noise else runtime.seed
    rng = derive_rng(secret, f"{purpose}-poisson", *keys)
    steps = [
        PrivateStep(
            private=poisson_draw(
                own, plan.sample_rate, training.batch_size, loaded.tokenizer.pad_token_id, rng
            ),
            public=tuple(batch for batch in public[begin : begin + group] if batch),
        )
        for begin in range(0, len(public), group)
    ]
    return fit_privately(
        loaded,
        state,
        steps,
        training=training,
        private_weight=private_weight,
        expected_size=plan.sample_rate * len(own),
        noise_multiplier=plan.noise_multiplier,
        learning_rate=learning_rate,
        seed=derive_seed(secret, purpose, *keys),
        extra_loss=extra_loss,
    )


def poisson_draw(
    own: Sequence[Example], sample_rate: float, size: int, pad: int, rng: np.random.Generator
) -> tuple[Batch, ...]:
    """Return the examples that a step draws, each of weight 1, in batches of up to ``size``."""
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
    """Train the loaded adapter (that of ``state``), one optimizer step a ``PrivateStep``.

    Args:
        loaded: The backbone.
        state: The agent before training.
        steps: The data.
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
    """Set the gradients to the noisy sum of clipped ones; return the sum of the losses."""
    total = 0.0
    for batch in batches:
        loss = objective(hooked, _moved(batch, hooked))
        loss.backward()  # type: ignore[no-untyped-call]
        mechanism.clip_and_accumulate()
        for parameter in mechanism.params:
            parameter.grad_sample = None
        total += float(loss.detach())
    if not batches:  # no example was drawn: the noise alone
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
    """Return Opacus' optimizer, which clips and adds noise; needs the hooks in place."""
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
    """Hook the shared model for the time being, so that backward keeps every example's gradient."""
    require_opacus()
    from opacus.grad_sample import GradSampleModule

    hooked = GradSampleModule(model, loss_reduction="sum")
    try:
        with warnings.catch_warnings():
            # The first layers' inputs are frozen embeddings, whose gradients nobody needs.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield hooked
    finally:
        hooked.to_standard_module()
        for parameter in model.parameters():
            parameter.grad = None
            if hasattr(parameter, "summed_grad"):
                del parameter.summed_grad
