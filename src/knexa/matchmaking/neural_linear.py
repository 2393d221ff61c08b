"""NeuralLinear: LinUCB on the features of a small network's last hidden layer.

Torch trains the network (and is imported then), NumPy applies it. Axes: N agents, n observations, d
context features, h features of the last hidden layer and a constant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from knexa.matchmaking.arrays import Array
from knexa.matchmaking.base import Matchmaker
from knexa.matchmaking.plans import Plan
from knexa.matchmaking.ridge import RidgeRegression
from knexa.matchmaking.round_view import RoundView
from knexa.seeding import derive_rng

BATCH_SIZE = 64
"""Observations in a training step."""

MIN_DEVIATION = 1e-2
"""Smallest deviation that an input is divided by, so that an almost constant one stays small."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """A multilayer perceptron with tanh units and one linear output, as plain arrays.

    Attributes:
        weights: One matrix [inputs + 1, outputs] a layer; the last row is the bias.
        center_d: What is subtracted from a context.
        scale_d: What it is then divided by.
    """

    weights: tuple[Array, ...]
    center_d: Array
    scale_d: Array

    @classmethod
    def untrained(cls, sizes: tuple[int, ...], seed: int) -> "Network":
        """Return a network of these layer sizes, weights uniform in +-1 / sqrt(inputs)."""
        rng = derive_rng(seed, "neural_linear/weights")
        weights = tuple(
            rng.uniform(-1.0, 1.0, (inputs + 1, outputs)) / np.sqrt(inputs)
            for inputs, outputs in pairwise(sizes)
        )
        return cls(weights=weights, center_d=np.zeros(sizes[0]), scale_d=np.ones(sizes[0]))

    def features(self, contexts_nd: Array) -> Array:
        """Return features_nh: 1 and the last hidden layer; the squared norm is at most 2."""
        values = (contexts_nd - self.center_d) / self.scale_d
        for weight in self.weights[:-1]:
            values = np.tanh(values @ weight[:-1] + weight[-1])
        return np.hstack([np.ones((len(values), 1)), values / np.sqrt(values.shape[1])])


@dataclass(kw_only=True)
class NeuralLinear(Matchmaker):
    """Shallow exploration with deep features (Riquelme et al. 2018; Xu et al. 2020).

    After every batch of feedback the network is trained for another ``num_steps`` on the kept
    observations, with AdamW and squared error; a ridge regression on its last hidden layer is then
    fitted to the same observations, and scores pairs as LinUCB does. Rewards are standardised for
    the network only. It needs more observations than a run of six agents has, and memory for the
    contexts of all ordered pairs.

    Attributes:
        seed: Root of the network's first weights and of its batches.
        hidden: Units of each hidden layer; the last one's are what the linear model sees.
        num_steps: Training steps after each batch of feedback.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        max_observations: How many of the newest observations are kept.
        regularization: lambda of the ridge regression.
        exploration: beta, the weight of sqrt(x^T A^-1 x).
        abstain: Leave out pairs whose upper bound is not positive; for rewards without z-scores.
    """

    name: ClassVar[str] = "neural_linear"
    by_topic: ClassVar[bool] = True

    seed: int
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (32, 8)
    num_steps: Annotated[int, Field(ge=1)] = 100
    learning_rate: Annotated[float, Field(gt=0)] = 1e-2
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    max_observations: Annotated[int, Field(ge=1)] = 2000
    regularization: Annotated[float, Field(ge=1e-6)] = 0.01
    exploration: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    abstain: bool = False
    _network: Network | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def network(self) -> Network:
        """The network; exists once ``start`` was called."""
        if self._network is None:
            raise RuntimeError("NeuralLinear.start must be called before the first round")
        return self._network

    def start(self, num_features: int) -> None:
        """Begin with an untrained network and no observations."""
        self._network = Network.untrained((num_features, *self.hidden, 1), self.seed)
        self._contexts_nd = np.zeros((0, num_features))
        self._rewards_n = np.zeros(0)
        self._num_fits = 0
        self._ridge = self._regression(self._network, self._contexts_nd, self._rewards_n)

    def scores(self, view: RoundView) -> Array:
        """Return the optimistic scores of all arms."""
        network = self.network
        contexts = view.contexts()
        features_nh = network.features(contexts.reshape(-1, contexts.shape[-1]))
        bonuses_n = self.exploration * self._ridge.widths(features_nh)
        scores_n = features_nh @ self._ridge.theta_d + bonuses_n
        return np.asarray(scores_n.reshape(view.shape))

    def propose(self, view: RoundView) -> Plan:
        """Match by the optimistic scores."""
        return view.match(self.scores(view), abstain=self.abstain)

    def learn(self, contexts_Kd: Array, rewards_K: Array) -> None:
        """Add K observations, train the network on and fit the regression anew."""
        network = self.network
        if len(contexts_Kd) != len(rewards_K):
            raise ValueError(f"{len(contexts_Kd)} contexts do not fit {len(rewards_K)} rewards")
        if not (np.isfinite(contexts_Kd).all() and np.isfinite(rewards_K).all()):
            raise ValueError("contexts and rewards must be finite; leave out failed exchanges")
        contexts_nd = np.concatenate([self._contexts_nd, contexts_Kd])[-self.max_observations :]
        rewards_n = np.concatenate([self._rewards_n, rewards_K])[-self.max_observations :]
        batches = self._batches(len(rewards_n))
        trained = _train(
            network, contexts_nd, rewards_n, batches, self.learning_rate, self.weight_decay
        )
        self._ridge = self._regression(trained, contexts_nd, rewards_n)
        self._network, self._contexts_nd, self._rewards_n = trained, contexts_nd, rewards_n
        self._num_fits += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the observations and the network; the regression follows from them."""
        network = self.network
        return {
            "contexts": self._contexts_nd.copy(),
            "rewards": self._rewards_n.copy(),
            "num_fits": self._num_fits,
            "weights": [weight.copy() for weight in network.weights],
            "center": network.center_d.copy(),
            "scale": network.scale_d.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, bit for bit; ``start`` comes first."""
        shapes = [weight.shape for weight in self.network.weights]
        saved = [np.shape(weight) for weight in state["weights"]]
        if saved != shapes:
            raise ValueError(
                f"the saved network has weights of {saved}, this one of {shapes}; resume with the "
                "context and matchmaker.hidden it was trained on"
            )
        self._contexts_nd = np.array(state["contexts"], dtype=np.float64)
        self._rewards_n = np.array(state["rewards"], dtype=np.float64)
        self._num_fits = int(state["num_fits"])
        self._network = Network(
            weights=tuple(np.array(weight, dtype=np.float64) for weight in state["weights"]),
            center_d=np.array(state["center"], dtype=np.float64),
            scale_d=np.array(state["scale"], dtype=np.float64),
        )
        self._ridge = self._regression(self._network, self._contexts_nd, self._rewards_n)

    def _regression(
        self, network: Network, contexts_nd: Array, rewards_n: Array
    ) -> RidgeRegression:
        ridge = RidgeRegression(self.hidden[-1] + 1, self.regularization)
        ridge.update(network.features(contexts_nd), rewards_n)
        return ridge

    def _batches(self, num_observations: int) -> list[Any]:
        """Return the rows that each training step sees: all, or ``BATCH_SIZE`` at random."""
        if num_observations <= BATCH_SIZE:
            return [slice(None)] * self.num_steps
        rng = derive_rng(self.seed, "neural_linear/batches", self._num_fits)
        return list(rng.integers(0, num_observations, (self.num_steps, BATCH_SIZE)))


def _train(
    network: Network,
    contexts_nd: Array,
    rewards_n: Array,
    batches: list[Any],
    learning_rate: float,
    weight_decay: float,
) -> Network:
    """Return the network after one AdamW step a batch; the inputs' scaling is measured anew."""
    import torch

    center_d = contexts_nd.mean(axis=0)
    scale_d = np.maximum(contexts_nd.std(axis=0), MIN_DEVIATION)
    inputs_nd = torch.from_numpy((contexts_nd - center_d) / scale_d)
    deviation = float(rewards_n.std()) or 1.0
    targets_n = torch.from_numpy((rewards_n - rewards_n.mean()) / deviation)
    weights = [torch.from_numpy(weight.copy()).requires_grad_() for weight in network.weights]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay)
    with _one_thread():
        for batch in batches:
            values = inputs_nd[batch]
            for weight in weights[:-1]:
                values = torch.tanh(torch.addmm(weight[-1], values, weight[:-1]))
            outputs = torch.addmv(weights[-1][-1], values, weights[-1][:-1, 0])
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(outputs, targets_n[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    trained = tuple(weight.detach().numpy() for weight in weights)
    return Network(weights=trained, center_d=center_d, scale_d=scale_d)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Train on one thread: sums in one order, and at this size several threads are slower."""
    import torch

    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
